"""Loaders with a preprocessing that keeps floats: evaluation sees them, training sees 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader, normalise
from vitrail.data.sources.open_data import ArraySource, FileSource

NUM = 5
GOOGLE = Preprocess(
    height=7,
    width=11,
    resize=(7, 11),
    interpolation="bilinear",
    resizer="tensorflow",
    antialias=False,
    keep_floats=True,
)


@pytest.fixture(scope="module")
def arrays() -> ArraySource:
    images = np.random.default_rng(0).integers(0, 256, (NUM, 13, 17, 3), dtype=np.uint8)
    return ArraySource("tiny", ("a",), np.zeros(NUM, np.int64), images=images)


@pytest.fixture(scope="module")
def files(arrays: ArraySource, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    """The same images as PNG."""
    root: Path = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(arrays.images):
        Image.fromarray(image).save(root / f"{number}.png")
    paths = tuple(f"{number}.png" for number in range(NUM))
    return FileSource("tiny", ("a",), arrays.labels, root=str(root), paths=paths)


@pytest.mark.parametrize(("kind", "workers"), [("arrays", 0), ("files", 0), ("files", 2)])
def test_evaluation_sees_what_one_image_gives_bit_for_bit(
    kind: str, workers: int, arrays: ArraySource, files: FileSource
) -> None:
    source = arrays if kind == "arrays" else files
    loader = make_loader(source, GOOGLE, None, Batching(batch_size=3, workers=workers))
    batches = list(loader.eval_batches(3))
    images = torch.cat([batch.images for batch in batches])
    assert images.dtype == torch.float32
    assert (images != images.round()).any()
    expected = torch.stack([GOOGLE(picture) for picture in arrays.images])
    before = images.clone()
    assert torch.equal(normalise(images, GOOGLE), expected)
    assert torch.equal(images, before)  # the batch itself stays as it was


@pytest.mark.parametrize("kind", ["arrays", "files"])
@pytest.mark.parametrize("crop", ["none", "inception"])
def test_training_works_on_8_bits(
    kind: str, crop: str, arrays: ArraySource, files: FileSource
) -> None:
    source = arrays if kind == "arrays" else files
    area = GOOGLE.model_copy(
        update={"interpolation": "area", "antialias": True, "keep_floats": False}
    )
    for preprocess in (GOOGLE, area):
        augment = AugmentConfig.model_validate({"crop": crop, "flip": 0.0})
        loader = make_loader(source, preprocess, augment, Batching(NUM))
        batch = next(loader.batches(0, 1))
        assert batch.images.dtype == torch.uint8
        if crop == "none":
            expected = np.stack(
                [preprocess.pixels(arrays.images[index]) for index in batch.indices.tolist()]
            )
            assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected)
