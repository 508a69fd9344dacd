"""Which corruptions there are, by name and group, and one call that applies one to a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import UsageError, nearest
from vitrail.evaluation.robustness import corruption_kinds as kinds
from vitrail.evaluation.robustness.corruption_draws import Draws, Pictures

Corruption = Callable[[Pictures, int, Draws], Pictures]
GROUPS: dict[str, dict[str, Corruption]] = {
    "noise": {
        "gaussian_noise": kinds.gaussian_noise,
        "shot_noise": kinds.shot_noise,
        "impulse_noise": kinds.impulse_noise,
    },
    "blur": {
        "defocus_blur": kinds.defocus_blur,
        "glass_blur": kinds.glass_blur,
        "motion_blur": kinds.motion_blur,
        "zoom_blur": kinds.zoom_blur,
    },
    "weather": {
        "snow": kinds.snow,
        "frost": kinds.frost,
        "fog": kinds.fog,
        "brightness": kinds.brightness,
    },
    "digital": {
        "contrast": kinds.contrast,
        "elastic_transform": kinds.elastic_transform,
        "pixelate": kinds.pixelate,
        "jpeg_compression": kinds.jpeg_compression,
    },
}
CORRUPTIONS: dict[str, Corruption] = {
    name: one for group in GROUPS.values() for name, one in group.items()
}


def corrupted(
    images: NDArray[Any], indices: NDArray[np.int64], name: str, severity: int, *, seed: int = 0
) -> NDArray[Any]:
    """Images (B, C, h, w) of a loader's evaluation batch, uint8 or float32 in 0..255, corrupted:
    the same shape and type. A function of (seed, name, severity, index, pixels) alone.
    """
    whole = images.transpose(0, 2, 3, 1).astype(np.float32)  # (B, h, w, C)
    pixels = np.ascontiguousarray(whole / np.float32(255), dtype=np.float32)
    draws = Draws(seed, name, indices)
    found = np.clip(CORRUPTIONS[name](pixels, severity, draws), 0, 1) * np.float32(255)
    values = np.ascontiguousarray(found.transpose(0, 3, 1, 2))
    return np.rint(values).astype(np.uint8) if images.dtype == np.uint8 else values


def corruptions_named(text: str) -> tuple[str, ...]:
    """The names meant by "all", or by names and groups with commas between, in the usual order.

    Raises UsageError VIT-280.
    """
    chosen: set[str] = set()
    for word in (part.strip().replace("-", "_") for part in text.split(",")):
        if word == "all":
            chosen |= set(CORRUPTIONS)
        elif word in GROUPS:
            chosen |= set(GROUPS[word])
        elif word in CORRUPTIONS:
            chosen.add(word)
        else:
            raise UsageError(
                "VIT-280",
                f"--corruptions: unknown corruption {word!r}. "
                f"{nearest(word, ['all', *GROUPS, *CORRUPTIONS])}",
                hint="For instance --corruptions all, or --corruptions noise,fog",
            )
    return tuple(name for name in CORRUPTIONS if name in chosen)


def severities_of(text: str) -> tuple[int, ...]:
    """Severities from "3", "1,3,5" or "1-5". Raises UsageError VIT-281."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end in {"1", "2", "3", "4", "5"} for end in ends) or ends[0] > ends[1]:
            raise UsageError(
                "VIT-281",
                f"--severity {text}: expected numbers from 1 to 5.",
                hint="For instance --severity 3, --severity 1,3,5 or --severity 1-5",
            )
        found |= set(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(found))
