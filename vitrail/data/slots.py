"""Which uniform number decides what: one table for the per-picture path (Pillow) and the batched
path (torch).

An example's augmentation is drawn from NUM_SLOTS uniforms keyed by (seed, epoch, index, repeat).
Both paths read the same slot for the same decision, so that they draw the same parameters. Slots
are never renumbered: a resumed run must see the pictures it would have seen.
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


def num_needed(config: AugmentConfig) -> int:
    """How many slots, from the first, decide something with these settings."""
    if config.erasing > 0:
        return NUM_SLOTS
    return ERASE_AREA if config.crop == "inception" else CROP_AREA


def draw(
    seed: int,
    epochs: NDArray[np.int64],
    indices: NDArray[np.int64],
    repeats: NDArray[np.int64],
    num: int = NUM_SLOTS,
) -> Uniforms:
    """The first `num` uniforms (B, num) of a batch of examples, all three keys (B,) int64."""
    return uniforms(seed, "augment", epochs, indices, num, repeat=repeats)
