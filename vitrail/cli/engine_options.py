"""What computes a model, as options of the commands that only ask for its answers."""

from __future__ import annotations

import dataclasses


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
