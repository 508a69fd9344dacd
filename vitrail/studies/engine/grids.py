"""Patch grids at which a model is judged at other sizes than it was trained on. No torch here.

Two models of one patch size share most of these, so that their curves meet at the same sizes.
"""

from __future__ import annotations

SIDES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48)  # patches
LEAST, MOST = 0.5, 2.0  # of the grid that a model was trained on
NUM_IMAGES = 2000  # at most, that are looked at in every size


def nearest_side(wanted: float) -> int:
    """Of SIDES, in ratio; the smaller of two that are equally far."""
    return min(SIDES, key=lambda side: max(side / wanted, wanted / side))


def sides_around(side: int) -> list[int]:
    """Of SIDES from half of `side` to twice as many, and `side` itself."""
    return sorted({side, *(one for one in SIDES if LEAST * side <= one <= MOST * side)})


def effort(side: int) -> float:
    """What judging an image at all these sizes costs, in images at the model's own."""
    return sum((one / side) ** 2 for one in sides_around(side))
