"""Which uniform number decides what: one table for the per-picture path (Pillow) and the batched
path (torch).

An example's augmentation is drawn from NUM_SLOTS uniforms keyed by (seed, epoch, index, repeat).
Both paths read the same slot for the same decision, so that they draw the same parameters. Slots
are never renumbered: a resumed run must see the images it would have seen.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vitrail.config import AugmentConfig
from vitrail.keyed_random import uniforms

NUM_TRIES: Final = 10  # of a random box, torchvision and timm alike
MAX_OPS: Final = 8

FLIP: Final = 0
CROP_TOP: Final = 1  # of an Inception crop, or the vertical shift of the other crops
CROP_LEFT: Final = 2
OP: Final = 3  # + k: which operation is the k-th of the policy
LEVEL: Final = OP + MAX_OPS  # + k: its magnitude where that is drawn
SIGN: Final = LEVEL + MAX_OPS  # + k: its sign
JITTER_ORDER: Final = SIGN + MAX_OPS
JITTER: Final = JITTER_ORDER + 1  # brightness, contrast, saturation
ERASE: Final = JITTER + 3
ERASE_TOP: Final = ERASE + 1
ERASE_LEFT: Final = ERASE_TOP + 1
ERASE_NOISE: Final = ERASE_LEFT + 1
CROP_AREA: Final = ERASE_NOISE + 1  # + try
CROP_RATIO: Final = CROP_AREA + NUM_TRIES
ERASE_AREA: Final = CROP_RATIO + NUM_TRIES  # + try
ERASE_RATIO: Final = ERASE_AREA + NUM_TRIES
NUM_SLOTS: Final = ERASE_RATIO + NUM_TRIES

Uniforms = NDArray[np.float64]


def needed(config: AugmentConfig) -> tuple[int, ...]:
    """The slots that decide something with these settings, in rising order."""
    num_ops = config.num_ops if config.policy == "randaugment" else int(config.policy != "none")
    spans = [(FLIP, 3), (OP, num_ops)]
    if config.policy == "randaugment":
        spans += [(SIGN, num_ops)]
    elif num_ops:
        spans += [(LEVEL, 1), (SIGN, 1)]
    if config.color_jitter > 0:
        spans += [(JITTER_ORDER, 4)]
    if config.crop == "inception":
        spans += [(CROP_AREA, 2 * NUM_TRIES)]
    if config.erasing > 0:
        spans += [(ERASE, 4), (ERASE_AREA, 2 * NUM_TRIES)]
    return tuple(sorted(first + k for first, count in spans for k in range(count)))


def draw(
    seed: int,
    epochs: NDArray[np.int64],
    indices: NDArray[np.int64],
    repeats: NDArray[np.int64],
    slots: tuple[int, ...] | None = None,
) -> Uniforms:
    """The uniforms (B, NUM_SLOTS) of a batch of examples, all three keys (B,) int64.

    With `slots` only these are sure to be drawn; the others may be NaN.
    """
    return uniforms(seed, "augment", epochs, indices, NUM_SLOTS, repeat=repeats, columns=slots)
