"""Contenders taking turns on one machine, each in a process of its own.

A figure by itself says little on a shared machine: contenders run one turn each, round after
round, in an order that reverses every round (A B, B A, ...), and what is reported is the median of
the ratios within the rounds. A process each, because settings of the process (how malloc treats
freed memory, the number of threads) belong to what is compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAUSE_SECS = 0.3  # between turns: threads of the last contender spin for a while before they sleep


class Contender:
    """One process that does one turn whenever it is asked to."""

    def __init__(self, module: str, case: str, name: str, threads: int) -> None:
        command = [sys.executable, "-m", module, "--case", case, "--contender", name]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "TRANSFORMERS_VERBOSITY": "error"},
        )
        self.absent: str | None = self._answer().get("absent")

    def turn(self) -> dict[str, float]:
        """{"wall": seconds, "cpu": seconds} of one turn."""
        assert self.process.stdin
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"the contender ended with {self.process.wait()}")


def serve(turn: Callable[[], object] | str) -> None:
    """The contender's side: two turns to warm up, then one for each line of stdin. A text instead
    of a function says why this contender cannot run.
    """
    if isinstance(turn, str):
        print(json.dumps({"absent": turn}), flush=True)
        return
    turn()
    turn()
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        turn()
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(seconds), flush=True)


def compete(
    module: str, case: str, names: list[str], *, threads: int, rounds: int
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Seconds of each turn by contender, and why the absent ones are absent."""
    contenders = {name: Contender(module, case, name, threads) for name in names}
    absent = {name: one.absent for name, one in contenders.items() if one.absent}
    present = [name for name in names if name not in absent]
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in present}
    for number in range(rounds):
        for name in present if number % 2 == 0 else present[::-1]:
            time.sleep(PAUSE_SECS)
            turns[name].append(contenders[name].turn())
    for one in contenders.values():
        one.close()
    return turns, absent


def summary(
    turns: Mapping[str, list[dict[str, float]]], images: int, ours: str
) -> dict[str, dict[str, Any]]:
    """Images a second of wall time and of processor time, and how many times as fast `ours` is:
    median, lowest and highest of the rounds. images: in one turn.
    """
    result: dict[str, dict[str, Any]] = {}
    for name, seconds in turns.items():
        rounds = list(zip(seconds, turns[ours], strict=True))
        result[name] = {
            "images_per_sec": _spread([images / one["wall"] for one in seconds]),
            "images_per_cpu_sec": _spread([images / one["cpu"] for one in seconds]),
            "ours_is_faster": _spread([theirs["wall"] / mine["wall"] for theirs, mine in rounds]),
            "ours_is_faster_cpu": _spread([theirs["cpu"] / mine["cpu"] for theirs, mine in rounds]),
        }
    return result


def _spread(values: list[float]) -> list[float]:
    return [float(f"{f(values):.3g}") for f in (statistics.median, min, max)]


def table(title: str, rows: Mapping[str, Mapping[str, Any]], ours: str) -> str:
    """The summary as text."""
    lines = [f"{title}; {ours} is x times as fast, by wall time and by processor time"]
    lines += [f"  {'':34}{'images/s':>9}  {'(lowest, highest)':18}{'x wall':22}x processor"]
    for name, row in rows.items():
        rate, low, high = row["images_per_sec"]
        ratios = [
            f"{middle:.2f} ({least:.2f}, {most:.2f})"
            for middle, least, most in (row["ours_is_faster"], row["ours_is_faster_cpu"])
        ]
        spread = f"({low:.4g}, {high:.4g})"
        lines.append(f"  {name:34}{rate:9.4g}  {spread:18}{ratios[0]:22}{ratios[1]}")
    return "\n".join(lines)


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """benchmarks/results/NAME.json, with the machine and its load."""
    from vitrail.device import machine
    from vitrail.models.layers.matmul import products_name

    record = {**result, "machine": {**machine(), "products": products_name()}}
    record["load_average"] = [round(value, 2) for value in os.getloadavg()]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
