"""An exported ONNX file as a runtime, on the CPU. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.runtime.onnx_session import Floats, OnnxSession
from vitrail.runtime.runtime import Array, RuntimeInfo, as_numpy


@dataclass(frozen=True)
class OnnxRuntime:
    """mean, std: of the preprocessing, one value a channel. A file takes pixels, a runtime
    normalised images: they are turned back, which costs the last bit of float32.
    """

    session: OnnxSession
    mean: Sequence[float]
    std: Sequence[float]
    precision: str = "float32"
    best_batch: int = 1

    @property
    def info(self) -> RuntimeInfo:
        """Engine "onnx", with the threads that its session has."""
        session = self.session
        return RuntimeInfo(
            "onnx", self.precision, "cpu", session.threads, session.input_size, self.best_batch
        )

    def logits(self, images: Array) -> Floats:
        """Float32 (B, K) of normalised images (B, C, H, W)."""
        mean, std = (np.asarray(one, np.float32).reshape(-1, 1, 1) for one in (self.mean, self.std))
        pixels = (as_numpy(images).astype(np.float32) * std + mean) * np.float32(255)
        return self.session(pixels)[0]
