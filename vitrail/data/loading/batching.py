"""How a loader makes batches: how large, for which device, what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.loading.lanes import Lanes
from vitrail.data.loading.slots import Slots

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batching:
    """`batch_size` is the global one of training; `workers`, `max_pixels` and `on_bad_file` matter
    to files only. Batches' images lie on `device`, labels and indices on the CPU. slots: the rows
    of a training batch that are made; all without. lanes: the order of training batches, of files;
    drawn over all images without.
    """

    batch_size: int
    seed: int = 0
    workers: int = 0
    on_bad_file: str = "stop"
    max_pixels: int = MAX_PIXELS
    device: str | torch.device = "cpu"
    slots: Slots | None = None
    lanes: Lanes | None = None
