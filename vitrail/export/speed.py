"""How fast engines compute a model on this machine, by threads and batch, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.device import num_cores
from vitrail.export.candidates import Candidate, torch_threads
from vitrail.export.check_images import CheckImages

BATCHES = (1, 2, 4, 8, 16, 32)
ROUNDS = 5
SECS = 0.02  # of one measurement
SLOW_SECS = 1.0  # a call above it is measured once
Run = Callable[[NDArray[np.float32]], Any]
Table = dict[int, dict[str, dict[int, float]]]  # threads, engine with precision, images at a time


def measure_speed(candidates: Sequence[Candidate], images: CheckImages) -> Table:
    """Images per second, the best of rounds in which the engines take turns, on one thread and on
    every core: what other work takes from a busy machine is in the median, and less in the best.
    """
    return {threads: _on(threads, candidates, images) for threads in sorted({1, num_cores()})}


def _on(
    threads: int, candidates: Sequence[Candidate], images: CheckImages
) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {str(one): {} for one in candidates}
    with torch_threads(threads):
        runs = {str(one): one.opened(threads) for one in candidates}
        for size in BATCHES:
            for name, rate in in_turns(runs, images.first(size)).items():
                found[name][size] = round(rate, 2)
    return found


def in_turns(runs: dict[str, Run], pixels: NDArray[np.float32]) -> dict[str, float]:
    """Images per second of each, the best of rounds, behind a call that warms up."""
    slowest = max(_secs(run, pixels) for run in runs.values())
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 if slowest > SLOW_SECS else ROUNDS):
        for name, run in runs.items():
            rates[name].append(_rate(run, pixels))
    return {name: max(values) for name, values in rates.items()}


def _secs(run: Run, pixels: NDArray[np.float32]) -> float:
    began = time.perf_counter()
    run(pixels)
    return time.perf_counter() - began


def _rate(run: Run, pixels: NDArray[np.float32]) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECS:
        run(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - began)
