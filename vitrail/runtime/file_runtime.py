"""An exported file as a runtime, on the CPU, by any engine that reads it. Nothing here imports
torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.runtime.runtime import Array, RuntimeInfo, as_numpy
from vitrail.runtime.session import Floats, Session


@dataclass(frozen=True)
class FileRuntime:
    """mean, std: of the preprocessing, one value a channel. A file takes pixels, a runtime
    normalised images: they are turned back, which costs the last bit of float32. best_batch: images
    that the engine is handed at a time, at most.
    """

    session: Session
    mean: Sequence[float]
    std: Sequence[float]
    precision: str = "float32"
    best_batch: int = 1

    @property
    def info(self) -> RuntimeInfo:
        """The engine, with the threads that its session has."""
        session = self.session
        return RuntimeInfo(
            session.engine,
            self.precision,
            "cpu",
            session.threads,
            session.input_size,
            self.best_batch,
        )

    @property
    def identity(self) -> str:
        """sha256 hex digits of the file."""
        return self.session.sha256

    def logits(self, images: Array) -> Floats:
        """Float32 (B, K) of normalised images (B, C, H, W)."""
        scale, shift = (
            np.asarray(one, np.float32).reshape(-1, 1, 1) * np.float32(255)
            for one in (self.std, self.mean)
        )
        values, size = as_numpy(images), self.best_batch
        logits = []
        for first in range(0, len(values), size):
            pixels = values[first : first + size].astype(np.float32, copy=False) * scale
            pixels += shift
            logits.append(self.session(pixels)[0])
        return np.concatenate(logits)
