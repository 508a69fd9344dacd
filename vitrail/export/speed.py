"""How fast an exported file is next to torch on this machine, by batch, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.export.check_images import CheckImages
from vitrail.export.graph import Graph

BATCHES = (1, 8, 32)
ROUNDS = 3
SECS = 0.1  # of one measurement
Run = Callable[[NDArray[np.float32]], Any]


def measure_speed(
    graph: Graph, compute: Run, images: CheckImages, *, threads: int
) -> dict[str, Any]:
    """Images per second of the export and of torch on the same graph with as many threads, medians
    of rounds taken in turns; of a busy machine only the ratio says something.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = {size: _both(graph, compute, images.first(size)) for size in BATCHES}
    finally:
        torch.set_num_threads(before)
    return {
        "threads": threads,
        "images_per_s": {str(size): round(found[size][0], 1) for size in BATCHES},
        "torch_images_per_s": {str(size): round(found[size][1], 1) for size in BATCHES},
    }


def _both(graph: Graph, compute: Run, pixels: NDArray[np.float32]) -> tuple[float, float]:
    tensor = torch.from_numpy(pixels)

    def by_torch(_: NDArray[np.float32]) -> Any:
        with torch.inference_mode():
            return graph(tensor)

    rates: tuple[list[float], list[float]] = ([], [])
    for run in (compute, by_torch):
        run(pixels)  # warm up
    for _ in range(ROUNDS):
        for run, kept in zip((compute, by_torch), rates, strict=True):
            kept.append(_rate(run, pixels))
    return float(np.median(rates[0])), float(np.median(rates[1]))


def _rate(run: Run, pixels: NDArray[np.float32]) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECS:
        run(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - began)
