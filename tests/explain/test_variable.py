"""Maps, predictions and evaluation of a model of variable resolution, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.cli.cli_command import run
from tests.models.check_model import random_model
from vitrail.classifier import Classifier, load
from vitrail.data.images.packing import unpacked
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import UsageError
from vitrail.evaluation.measuring.measuring import Measuring
from vitrail.explain.methods.registry import METHODS
from vitrail.export.engine_file import graph_of
from vitrail.models.vit.config import ViTConfig

FIELDS: dict[str, Any] = {
    "image_size": (15, 15),
    "patch_size": (5, 5),
    "width": 12,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 7,
    "num_classes": 3,
    "max_patches": 23,
}
POOLS: dict[str, dict[str, Any]] = {
    "gap": {"pool": "gap", "num_registers": 2},
    "map": {"pool": "map"},
    "cls": {"pool": "cls"},
}


def classifier_of(pool: str = "gap") -> Classifier:
    model = random_model(ViTConfig(**FIELDS | POOLS[pool]), dtype=torch.float32)
    preprocess = Preprocess(
        height=15,
        width=15,
        resize=(15, 15),
        interpolation="bilinear",
        max_patches=23,
        patch_size=(5, 5),
    )
    return Classifier(model, preprocess, ["a", "b", "c"])


def image_of(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


WIDE, HIGH = (31, 97), (83, 29)  # grids of 3 x 7 and 7 x 3


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("method", [name for name in METHODS if name != "merging"])
def test_a_map_has_the_images_own_grid(pool: str, method: str) -> None:
    found = classifier_of(pool).explain(image_of(*WIDE), method)
    is_by_pixel = method == "integrated-gradients"
    assert found.grid.shape == ((15, 35) if is_by_pixel else (3, 7))
    assert found.map.shape == WIDE
    for drawn in (found.overlay(), found.overlay("spotlight")):  # enlarged in ratio
        assert drawn.width * WIDE[0] == drawn.height * WIDE[1]
    if found.matrix is not None:
        assert found.matrix.shape == (21, 21)


def test_occlusion_points_at_the_patch_that_decides() -> None:
    """A model that only reads the red of its tokens, and an image with one red patch."""
    one = classifier_of()
    model = one.model
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith(("blocks", "pos_embed", "reg_token", "head", "patch_embed")):
                value.zero_()
        model.get_parameter("patch_embed.proj.weight")[0, 0] = 1
        model.get_parameter("head.weight")[0, 0] = 1
    image = np.full((10, 40, 3), 128, np.uint8)
    image[5:10, 30:35] = (255, 0, 0)
    found = one.explain(image, "occlusion", target="a")
    assert divmod(int(found.grid.argmax()), found.grid.shape[1]) == (1, 6)


def test_a_token_outside_the_images_grid_is_refused() -> None:
    one = classifier_of()
    assert one.explain(image_of(*HIGH), "rollout", token=(6, 2)).grid.shape == (7, 3)
    with pytest.raises(UsageError, match="7 x 3") as caught:
        one.explain(image_of(*HIGH), "rollout", token=(2, 6))
    assert caught.value.code == "VIT-275"


def test_prepared_images_are_explained_alike() -> None:
    one, pixels = classifier_of(), image_of(*HIGH)
    prepared = one.prepare(pixels)
    assert not isinstance(prepared, str)
    whole = one.explain(pixels, "occlusion")
    assert np.allclose(one.explain_prepared(prepared, pixels, "occlusion").grid, whole.grid)
    assert (unpacked(prepared, (5, 5)) == one.preprocess.planes(pixels)).all()


@pytest.mark.parametrize("pool", POOLS)
def test_scores_do_not_depend_on_the_batch(pool: str) -> None:
    """float32 softmax: rounding is below 1e-6."""
    one = classifier_of(pool)
    images = [image_of(*size, seed) for seed, size in enumerate([WIDE, HIGH, (61, 61), (7, 211)])]
    together = one.predict(images)
    for image, found in zip(images, together, strict=True):
        alone = one.predict(image)[0]
        assert [score.label for score in alone.top] == [score.label for score in found.top]
        assert [score.score for score in alone.top] == pytest.approx(
            [score.score for score in found.top], abs=1e-6
        )


def test_evaluation_is_prediction(tmp_path: Path) -> None:
    """Of files of many shapes in one batch, and of arrays."""
    one = classifier_of()
    for label in "abc":
        (tmp_path / label).mkdir()
        for index, size in enumerate([WIDE, HIGH, (13, 14)]):
            Image.fromarray(image_of(*size, index + ord(label))).save(
                tmp_path / label / f"{index}.png"
            )
    files = sorted(tmp_path.rglob("*.png"))
    found = one.evaluate(tmp_path)
    best = [one.predict(path)[0].label for path in files]
    right = np.mean([label == path.parent.name for label, path in zip(best, files, strict=True)])
    assert found.n == 9
    assert found.top1 == pytest.approx(right)


def test_training_on_it_is_refused(tmp_path: Path) -> None:
    model = (
        "--model",
        "vit_ti16",
        "--model.patch-size",
        2,
        "--model.max-patches",
        16,
        "--model.posemb",
        "learned",
    )
    done = run("train", "builtin:digits", *model, "--steps", 1, "--out", tmp_path)
    assert done.code == 2
    assert "VIT-287" in done.err


def test_a_model_is_shown_other_shapes_and_back(tmp_path: Path) -> None:
    """convert --set max_patches of our own folder."""
    one = classifier_of("cls")
    one.save(tmp_path / "a")
    ask = ("convert", tmp_path / "a", tmp_path / "b", "--to", "vitrail", "--set", "max_patches=9")
    done = run(*ask)
    assert done.code == 0, done.err
    fewer = load(tmp_path / "b")
    assert fewer.preprocess.max_patches == 9
    assert fewer.explain(image_of(*WIDE), "rollout").grid.shape == (2, 4)


def test_what_it_cannot_do_is_refused() -> None:
    one = classifier_of()
    with pytest.raises(UsageError, match="--tta flip") as caught:
        one.measuring(tta="flip")
    assert caught.value.code == "VIT-287"
    with pytest.raises(UsageError, match="an export"):
        graph_of(one)
    way = one.measuring()
    assert isinstance(way, Measuring)
    with pytest.raises(UsageError, match="--corruptions"):
        way.corrupted(None, (), ())  # type: ignore[arg-type]
