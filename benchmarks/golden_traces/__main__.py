"""Golden traces: proof that a change of the code changes no result.

A fixed list of small runs (traces.py) goes through the command line alone, so that it does not
depend on where modules lie in the package; the record holds tensors, figures, files and texts
without times and places. Runs repeat bit for bit on one machine with one torch, so two records
made there are equal unless the code computes or says something else:

    python -m benchmarks.golden_traces record before.json --stopped stopped     # before the change
    python -m benchmarks.golden_traces record after.json --resume-from stopped  # after it
    python -m benchmarks.golden_traces compare before.json after.json

`--stopped DIR` keeps a run that was interrupted; `--resume-from DIR` resumes a copy of it, so
that runs begun before the change are known to go on after it. `--tree DIR` records another
checkout with this list, `--only NAME` some of it. Checkpoints of other libraries are read from
../shared/golden; where it is missing those traces are "not here". `compare` prints one line a
trace and exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.golden_traces.record import ROOT, Runner, record

SHOWN = 3  # differing files of a trace that are named
WIDTH = 100  # characters of a line that are shown


def main(arguments: list[str]) -> int:
    """Record or compare; the exit code."""
    options = parser().parse_args(arguments)
    if options.verb == "compare":
        lines, equal = compare(*(json.loads(p.read_text()) for p in (options.a, options.b)))
        print("\n".join(lines))
        return 0 if equal else 1
    if options.stopped and options.stopped.exists():
        sys.exit(f"{options.stopped} is there already")
    began, cpu = time.monotonic(), os.times().children_user
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        run = Runner(options.tree, Path(work), options.stopped)
        result: dict[str, Any] = {"traces": {}}
        for result in record(run, options.resume_from, options.only, options.jobs):
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    took, used = time.monotonic() - began, os.times().children_user - cpu
    print(f"{len(result['traces'])} traces in {took:.0f} s, {used:.0f} s of CPU: {options.out}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of both verbs."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.golden_traces")
    verbs = top.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("out", type=Path)
    recording.add_argument("--stopped", type=Path, help="keep the interrupted run here")
    recording.add_argument("--resume-from", type=Path, help="an interrupted run to resume")
    recording.add_argument("--tree", type=Path, default=ROOT, help="the checkout that is run")
    recording.add_argument("--only", default="", help="traces whose name begins so, no others")
    recording.add_argument("--jobs", type=int, choices=(1, 2), default=1, help="traces at a time")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("a", type=Path)
    comparing.add_argument("b", type=Path)
    return top


def compare(a: Any, b: Any) -> tuple[list[str], bool]:
    """One line a trace, and whether all are identical. Other versions are told, not counted."""
    notes = [
        f"note: {fact} {a['made'].get(fact)} | {b['made'].get(fact)}"
        for fact in sorted(a["made"] | b["made"])
        if a["made"].get(fact) != b["made"].get(fact)
    ]
    lines, equal = [], True
    for name in a["traces"] | b["traces"]:
        found = differences(a["traces"].get(name), b["traces"].get(name))
        nothing = not a["traces"].get(name) and not b["traces"].get(name)
        lines.append(f"{name}: {'differs: ' + found if found else verdict(nothing)}")
        equal = equal and not found
    return notes + lines, equal


def verdict(nothing: bool) -> str:
    """What is said of a trace without differences."""
    return "not here in both" if nothing else "identical"


def differences(a: dict[str, str] | None, b: dict[str, str] | None) -> str:
    """What two records of a trace do not have alike; empty if nothing."""
    if a is None or b is None:
        return f"only in {'the second' if a is None else 'the first'}"
    names = [name for name in a | b if a.get(name) != b.get(name)]
    told = [f"{name} ({first_line(a.get(name), b.get(name))})" for name in names[:SHOWN]]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "; ".join(told + more)


def first_line(a: str | None, b: str | None) -> str:
    """The first line that two texts do not have alike."""
    if a is None or b is None:
        return f"only in {'the second' if a is None else 'the first'}"
    pairs = enumerate(zip_longest(a.splitlines(), b.splitlines(), fillvalue=""), 1)
    number, (x, y) = next(((n, pair) for n, pair in pairs if pair[0] != pair[1]), (0, ("", "")))
    at = next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), 0)
    begin = max(0, at - WIDTH // 2)
    return f"line {number}: {x[begin : begin + WIDTH]} | {y[begin : begin + WIDTH]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
