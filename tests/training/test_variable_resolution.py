"""Training on images that keep their aspect ratio: gradients, views, exact resume, refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.class_folders import class_folders
from tests.models.check_model import random_model
from tests.training.running import StopAt, records, resume, train, train_from, weights
from vitrail.classifier import load
from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.crops import inception_box
from vitrail.data.images.packing import packed, size_within
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import pixels_of
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.file_loader import FileLoader
from vitrail.data.sources.open_data import open_whole
from vitrail.errors import UsageError
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

PATCH, MOST = (5, 3), 17
SHOWN = Preprocess(
    height=20,
    width=9,
    resize=(20, 9),
    mean=(0.4,) * 3,
    std=(0.3,) * 3,
    max_patches=MOST,
    patch_size=PATCH,
)
SETTINGS: dict[str, Any] = {
    "image_size": 12,
    "model__name": "vit_ti16",
    "model__patch_size": 3,
    "model__max_patches": MOST,
    "augment__mixup": 0.0,
    "residual_baseline": False,
    "batch_size": 6,
    "optim__accumulate": 2,
    "data__test_fraction": 0.0,
    "data__workers": 0,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many shapes, some of them three times as wide as high, or as high as wide."""
    folder = class_folders(tmp_path_factory.mktemp("photos"), 12)
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        size = ((61, 23), (19, 53), (37, 41))[number % 3]
        Image.open(path).convert("RGB").resize(size).save(path)
    return folder


@pytest.fixture(scope="module")
def straight(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), data__path=str(photos), **SETTINGS).run_dir


@pytest.mark.parametrize("pool", ["gap", "map", "cls"])
def test_a_packed_batch_has_the_gradient_of_its_images_alone(pool: str) -> None:
    config = ViTConfig(
        image_size=(20, 9),
        patch_size=PATCH,
        channels=2,
        width=12,
        depth=2,
        num_heads=3,
        mlp_dim=7,
        num_classes=5,
        max_patches=MOST,
        pool=pool,  # type: ignore[arg-type]
        num_registers=2,
    )
    rng = np.random.default_rng(5)
    shapes = [(4, 3), (1, 7), (17, 1), (2, 2)]
    images = [rng.standard_normal((2, 5 * h, 3 * w)).astype(np.float32) for h, w in shapes]
    labels = torch.tensor([0, 3, 1, 4])

    def gradients(batches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        model = random_model(config, dtype=torch.float64).train()
        for shown, target in batches:
            loss = torch.nn.functional.cross_entropy(model(shown), target, reduction="sum")
            (loss / len(labels)).backward()  # type: ignore[no-untyped-call]
        return [p.grad for p in model.parameters() if p.grad is not None]

    rows = torch.from_numpy(np.stack([packed(one, PATCH, MOST) for one in images])).double()
    alone = [
        (torch.from_numpy(one)[None].double(), label[None])
        for one, label in zip(images, labels, strict=True)
    ]
    together, apart = gradients([(rows, labels)]), gradients(alone)
    assert len(together) == len(apart) == len(list(random_model(config).parameters()))
    for one, other in zip(together, apart, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_without_augmentation_training_sees_what_evaluation_sees(photos: Path) -> None:
    source = open_whole(photos).train
    loader = FileLoader(source, SHOWN, AugmentConfig(crop="none", flip=0.0), Batching(len(source)))
    (seen,) = loader.eval_batches(len(source))
    batch = next(loader.batches(0, 1))
    assert torch.equal(batch.images, seen.images[batch.indices])
    plain = next(FileLoader(source, SHOWN, None, Batching(len(source))).batches(0, 1))
    assert torch.equal(plain.images, batch.images)


@pytest.mark.parametrize("crop", ["inception", "resize_crop", "pad_crop"])
def test_a_view_keeps_the_aspect_of_what_it_shows(photos: Path, crop: Any) -> None:
    source = open_whole(photos).train
    augment = AugmentConfig(crop=crop, crop_scale=(0.3, 1.0), flip=0.0)
    batch = next(FileLoader(source, SHOWN, augment, Batching(len(source))).batches(0, 1))
    shapes = set()
    for index, image in zip(batch.indices.tolist(), pixels_of(batch, SHOWN), strict=True):
        shape = np.asarray(Image.open(photos / source.source_id(index))).shape[:2]
        if crop == "inception":
            u = random_slots.draw(
                0, np.zeros(1, np.int64), np.array([index]), np.zeros(1, np.int64)
            )
            own = tuple(ratio * shape[1] / shape[0] for ratio in augment.crop_ratio)
            drawn = augment.model_copy(update={"crop_ratio": own})
            shape = inception_box(u[0], shape, drawn)[2:]
        assert image.shape[:2] == size_within(shape, PATCH, MOST)
        shapes.add(image.shape)
    assert len(shapes) >= 3


def test_pixels_come_back_from_packed_patches() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 9, 3), dtype=np.uint8)
    assert np.array_equal(SHOWN.unpacked(SHOWN.packed(image.transpose(2, 0, 1))), image)


@pytest.mark.promise("R1")
def test_a_stopped_run_goes_on_with_the_same_bits(
    photos: Path, straight: Path, tmp_path: Path
) -> None:
    train(tmp_path, data__path=str(photos), reporter=StopAt(5), **SETTINGS)
    resume(tmp_path / "run")
    assert records(tmp_path / "run") == records(straight)
    assert weights(tmp_path / "run") == weights(straight)


def test_workers_change_nothing(photos: Path, straight: Path, tmp_path: Path) -> None:
    train(tmp_path, data__path=str(photos), **SETTINGS | {"data__workers": 2})
    assert weights(tmp_path / "run") == weights(straight)


def test_the_model_sees_images_in_their_own_aspect(straight: Path) -> None:
    model = load(straight)
    assert isinstance(model.model, ViT)
    assert model.model.config.max_patches == model.preprocess.max_patches == MOST
    wide = np.random.default_rng(0).integers(0, 256, (13, 61, 3), dtype=np.uint8)
    rows = np.asarray(model.prepare(wide))
    height, width = size_within((13, 61), (3, 3), MOST)
    assert (rows[:, 0] >= 0).sum() == height * width // 9
    assert width > 3 * height


def test_starting_from_a_model(photos: Path, straight: Path, tmp_path: Path) -> None:
    """One size unless a budget is said; a model of one size takes one up as well."""
    more: dict[str, Any] = {
        "data__path": str(photos),
        "steps": 2,
        "residual_baseline": False,
        "batch_size": 6,
    }

    def budget(source: Path, name: str, **fields: Any) -> int | None:
        run = train_from(tmp_path, source, name, **more, **fields).run_dir
        model = load(run)
        assert isinstance(model.model, ViT)
        assert model.model.config.max_patches == model.preprocess.max_patches
        return model.model.config.max_patches

    assert budget(straight, "one") is None
    assert budget(straight, "other", model__max_patches=13) == 13
    assert budget(tmp_path / "one", "again", model__max_patches=11) == 11


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment__mixup": 0.2}, "mixup 0.2"),
        ({"augment__cutmix": 0.5}, "cutmix 0.5"),
        ({"data__resize": "short_side"}, "data.resize"),
        ({"compile": True}, "compile"),
        ({"data__path": "builtin:digits", "image_size": 9}, "in memory"),
    ],
)
def test_what_needs_one_size_is_refused(
    photos: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        train(tmp_path, **{"data__path": str(photos), **SETTINGS, **changes})
    assert caught.value.code == "VIT-287"


def test_a_small_budget_needs_less_than_a_squashed_image_would(straight: Path) -> None:
    """The pixels that are shown fill the budget as far as whole patches allow."""
    shown = load(straight).preprocess
    for height, width in ((61, 23), (19, 53), (37, 41)):
        rows, columns = shown.shown_size(height, width)
        assert math.prod((rows // 3, columns // 3)) <= MOST
        assert abs(math.log((rows / columns) / (height / width))) < 0.6
