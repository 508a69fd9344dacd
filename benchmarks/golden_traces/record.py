"""Run traces, and record what they leave without what time and place change.

A record is {"made": {fact: value}, "traces": {trace: {file or command: text or sha256}}}. Tensors
and arrays are recorded by name, dtype, shape and sha256 of their bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.golden_traces.traces import CHECKPOINTS, FIRST, LAST_STEP, STOP_AT, TRACES, Trace

ROOT = Path(__file__).parents[2]
STOP_SECS = 120.0  # for the first checkpoint of the run that is to be stopped
SKIPPED = {".lock", "log.txt", "MANIFEST.json"}
# Keys of JSON and TOML files whose values are times, sizes of memory, or facts of the machine.
KEYS = re.compile(
    r"perf/|mem/|machine$|versions$|started$|seconds$|secs$|images_per_s$|metrics_offset$"
    r"|metrics_sha256$|memory|time$|wall|path$|_ms$|per_s$|per_example$"
)
NUMBER = r"\d[\d,.]*"
TEXTS = (
    # report.html: the last column of a table of figures is images/s.
    (re.compile(r'data-v="\d+\.\d+">\d+(?=</td></tr>)'), "FIGURE"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:?\d\d|Z)?"), "DATE"),
    # "59 s" as "1 min 3 s".
    (re.compile(rf"({NUMBER}\s?(img/s|images/s|ms|s|min|h|GB|MB|GiB|MiB)\b ?)+(?<! )"), "FIGURE"),
    (re.compile(r"\b\d+:\d\d(:\d\d)?\b"), "TIME"),
)


def record(run: Runner, before: Path | None, only: str, jobs: int) -> Iterator[dict[str, Any]]:
    """The record, as far as it is, behind every trace.

    The traces are `FIRST` and those of the others whose name begins with `only`.
    """
    prepare(run.work, before)
    done: dict[str, Any] = {"made": made(run.tree), "traces": {}}
    rest = tuple(trace for trace in TRACES if trace.name.startswith(only))
    with ThreadPoolExecutor(jobs) as pool:
        for traces in (FIRST, rest):
            for trace, found in zip(traces, pool.map(run.trace, traces), strict=True):
                done["traces"][trace.name] = found
                yield done


def prepare(work: Path, before: Path | None) -> None:
    """Copy into the work directory what traces read and do not make."""
    golden = ROOT.parent / "shared" / "golden"
    for name, *_ in CHECKPOINTS:
        if (golden / name).is_dir():
            copy_folder(golden / name, work / "golden" / name)
    if before:
        copy_folder(before, work / "before" / "stopped")


def copy_folder(source: Path, to: Path) -> None:
    """Copy a folder, and see to it that the copy can be written to."""
    shutil.copytree(source, to, copy_function=shutil.copyfile)
    to.chmod(0o755)


def made(tree: Path) -> dict[str, str]:
    """What a record depends on beside the commands: it is told where two records differ in it."""
    commit = subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    facts = {"commit": commit.stdout.strip(), "python": platform.python_version()}
    facts |= {name: version(name) for name in ("torch", "numpy", "pillow")}
    return facts | {"machine": f"{platform.machine()} {platform.system()}"}


class Runner:
    """Runs commands of the package of `tree` in the folder `work`."""

    def __init__(self, tree: Path, work: Path, stopped: Path | None) -> None:
        self.tree, self.work, self.stopped = tree, work, stopped
        home = str(work / "home")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("VITRAIL_")} | {
            "PYTHONPATH": str(tree),
            "HOME": home,
            "XDG_CACHE_HOME": home,
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }

    def trace(self, trace: Trace) -> dict[str, str]:
        """What one trace leaves: a text for each command and each file."""
        if trace.needs and not (self.work / trace.needs).exists():
            print(f"{trace.name}: not here ({trace.needs})", flush=True)
            return {}
        began = time.monotonic()
        found: dict[str, str] = {}
        for number, command in enumerate(trace.commands):
            if trace.stop and number == 0:
                found[f"$ {command}"] = self.stop(command)
            else:
                found[f"$ {command}"] = self.text(command)
        for path in trace.keep:
            found |= dict(files(self.work, path))
        print(f"{trace.name}: {time.monotonic() - began:.1f} s", flush=True)
        return found

    def start(self, command: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        if "{image}" in command:
            command = command.format(image=min(os.listdir(self.work / "files/test/3")))
        return subprocess.Popen(
            [sys.executable, "-m", "vitrail", *shlex.split(command)],
            cwd=self.work,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def text(self, command: str) -> str:
        """Exit code, stdout and stderr of a command."""
        process = self.start(command)
        out, err = process.communicate()
        return normal(f"exit {process.returncode}\n{json_text(out)}\n{err}", self.work)

    def stop(self, command: str) -> str:
        """Interrupt the command behind its first checkpoint, and keep a copy; its exit code."""
        process = self.start(command)
        until = time.monotonic() + STOP_SECS
        while not (self.work / STOP_AT).exists() and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate()
        run = self.work / "runs" / "stopped"
        if self.stopped:
            copy_folder(run, self.stopped)
        if not (self.work / "before").exists():
            copy_folder(run, self.work / "before" / "stopped")
        return f"exit {process.returncode}"


def files(work: Path, path: str) -> Iterator[tuple[str, str]]:
    """(path, text or sha256) of a file, or of all files of a folder."""
    top = work / path
    found = sorted(p for p in top.rglob("*") if p.is_file()) if top.is_dir() else [top]
    for file in found:
        inside = file.relative_to(work)
        is_old = "checkpoints" in inside.parts and LAST_STEP not in inside.parts
        if file.exists() and file.name not in SKIPPED and not is_old and not has_times(file):
            yield str(inside), content(file, work)


def has_times(file: Path) -> bool:
    """Whether times of files, or of computing, are among the numbers of a file that has no keys:
    the index of a run's files, and the tables of a study."""
    is_index = file.name == "examples.dat" and file.parent.name != "model"
    return is_index or file.name in ("study.html", "table.csv", "table.parquet")


def content(file: Path, work: Path) -> str:
    """What is recorded of a file, by its ending."""
    if file.suffix == ".safetensors":
        return tensors(file.read_bytes())
    if file.suffix == ".npz":
        with zipfile.ZipFile(file) as archive:
            return "\n".join(f"{n} {sha(archive.read(n))}" for n in sorted(archive.namelist()))
    if file.suffix in (".json", ".jsonl"):
        return normal(json_text(file.read_text()), work)
    if file.suffix == ".toml":
        kept = (one for one in file.read_text().splitlines() if not one.startswith(("path =", "#")))
        return normal("\n".join(kept), work)
    if file.suffix in (".csv", ".md", ".html", ".svg", ".txt"):
        return normal(file.read_text(), work)
    return sha(file.read_bytes())


def tensors(data: bytes) -> str:
    """A line for each tensor of a safetensors file, and one for the metadata."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    lines = [f"metadata {json.dumps(header.pop('__metadata__', {}), sort_keys=True)}"]
    for name, entry in sorted(header.items()):
        first, last = entry["data_offsets"]
        digest = sha(data[8 + size + first : 8 + size + last])
        lines.append(f"{name} {entry['dtype']} {entry['shape']} {digest}")
    return "\n".join(lines)


def sha(data: bytes) -> str:
    """sha256 of the bytes."""
    return hashlib.sha256(data).hexdigest()


def json_text(text: str) -> str:
    """JSON, or JSON lines, without the values that `KEYS` names; any other text as it is."""
    try:
        return json.dumps(lasting(json.loads(text)), indent=1)
    except ValueError:
        pass
    try:
        return "\n".join(json.dumps(lasting(json.loads(line))) for line in text.splitlines())
    except ValueError:
        return text


def lasting(value: Any) -> Any:
    """The value without the keys that `KEYS` names."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if not KEYS.search(k)}
    return [lasting(v) for v in value] if isinstance(value, list) else value


def normal(text: str, work: Path) -> str:
    """The text with times, rates and the work directory replaced."""
    text = text.replace(str(work), "WORK")
    for pattern, word in TEXTS:
        text = pattern.sub(word, text)
    return text
