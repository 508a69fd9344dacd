"""A file as a runtime: normalised images become pixels again, in batches of the best size."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.runtime.file_runtime import FileRuntime
from vitrail.runtime.session import Floats


class Remembering:
    """Answers with the mean of the pixels; keeps how many it was handed."""

    engine, version, threads, sha256 = "onnx", "1", 3, "0" * 64
    input_size = (2, 4, 6)

    def __init__(self) -> None:
        self.handed: list[int] = []

    def __call__(self, pixels: Floats) -> tuple[Floats, Floats]:
        self.handed.append(len(pixels))
        means = pixels.mean(axis=(2, 3))
        return means, means


@pytest.mark.parametrize(
    ("best", "count", "handed"), [(4, 9, [4, 4, 1]), (1, 3, [1, 1, 1]), (8, 3, [3]), (3, 6, [3, 3])]
)
def test_the_engine_is_handed_the_batch_measured_best(
    best: int, count: int, handed: list[int]
) -> None:
    session = Remembering()
    mean, std = np.array([0.4, 0.6], np.float32), np.array([0.2, 0.3], np.float32)
    runtime = FileRuntime(session, mean.tolist(), std.tolist(), best_batch=best)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 2, 4, 6)).astype(np.float32)
    images = (pixels / 255 - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
    before = images.copy()
    got = runtime.logits(images)
    np.testing.assert_allclose(got, pixels.mean(axis=(2, 3)), rtol=1e-5)
    assert session.handed == handed
    assert np.array_equal(images, before)
    info = runtime.info
    assert (info.engine, info.threads, info.input_size, info.best_batch) == (
        "onnx",
        3,
        (2, 4, 6),
        best,
    )
