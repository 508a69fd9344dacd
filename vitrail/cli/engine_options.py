"""What computes a model, as options of the commands that only ask for its answers."""

from __future__ import annotations

import dataclasses
from typing import Any

from vitrail.errors import UsageError
from vitrail.setting_values import parse_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The engine and how it computes."""

    engine: str | None = "auto"
    """auto, torch, onnx or openvino. auto: the fastest that is installed and agreed with torch when
    the model was exported."""
    precision: str | None = None
    """float32, bfloat16, int8, or auto: any that agreed. Default: what an export was made for;
    float32 of other models."""
    threads: int | None = None
    """Threads of the engine. Default: one for each core."""
    tokens: float | None = None
    """Share of the tokens of a ViT to keep, e.g. 0.6: alike ones are merged, which is faster.
    Default: all."""
    patch: str | None = None
    """Patch, px (8, or 8x4: height first), of a ViT that was trained for several sizes (FlexiViT).
    Default: the model's patch_size."""

    @property
    def asked(self) -> dict[str, Any]:
        """What is recorded beside an answer: the share of tokens and the patch, where given."""
        patch = None if self.patch_px is None else list(self.patch_px)
        found = {"tokens": self.tokens, "patch": patch}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def patch_px(self) -> tuple[int, int] | None:
        """The patch, (height, width) px. Raises UsageError VIT-202."""
        return None if self.patch is None else read_patch(self.patch)


def read_patch(text: str) -> tuple[int, int]:
    """(height, width) px of "8" or "8x4". Raises UsageError VIT-202."""
    size = parse_size(text)
    if not isinstance(size, tuple) or min(size) < 1:
        raise UsageError(
            "VIT-202", f"--patch {text}: expected a size in px, as 8 or 8x4.", hint="--patch 8"
        )
    return size
