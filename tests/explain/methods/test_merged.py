"""Which patches became one token: numbers, drawing, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.explain.small_models import picture, vit
from tests.explain.test_explanation import CLASSES, pixels
from tests.models.check_model import random_model
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import UsageError
from vitrail.explain.faithfulness import judge
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import default_method, explain, methods_of
from vitrail.explain.overlay import enlarged, grouped
from vitrail.explain.placing import numbers_on_image
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT


def merging_model(share: float = 0.5, dtype: torch.dtype = torch.float64) -> ViT:
    config = ViTConfig(
        image_size=(35, 15),
        patch_size=(5, 3),
        width=12,
        depth=3,
        num_heads=3,
        mlp_dim=7,
        num_classes=5,
    )
    model = random_model(config, dtype=dtype)
    model.kept_tokens = share
    return model


def test_groups_are_those_of_the_model() -> None:
    model = merging_model()
    images = picture(model)
    found = explain(model, images, Request("merging"))
    with torch.no_grad():
        merged = model.merged(model.embed(images))
        logits = model(images)[0].numpy()
    places = merged.places[0].tolist()
    assert found.groups is not None
    assert found.matrix is not None
    for a in range(35):
        for b in range(35):
            is_one = places[a] == places[b]
            assert (found.groups.flat[a] == found.groups.flat[b]) == is_one
            assert found.matrix[a, b] == is_one
    sizes = merged.sizes[0, 1:].tolist()
    assert found.grid.ravel().tolist() == [sizes[place] for place in places]
    assert sorted(set(found.groups.flat)) == list(range(found.facts["left"][-1]))
    assert found.groups.flat[0] == 0
    assert np.abs(found.logits - logits).max() <= 1e-12


def test_one_token_shows_its_source() -> None:
    model = merging_model(0.3)
    images = picture(model)
    whole = explain(model, images, Request("merging"))
    one = explain(model, images, Request("merging", token=(4, 2)))
    assert whole.groups is not None
    assert one.groups is None
    assert (one.grid == (whole.groups == whole.groups[4, 2])).all()
    assert one.grid.sum() == whole.grid[4, 2]


def test_only_models_that_merge_have_it() -> None:
    model = merging_model()
    assert methods_of(model) == ["integrated-gradients", "occlusion", "random", "merging"]
    assert default_method(model) == "occlusion"
    assert "merging" not in methods_of(vit("cls"))
    with pytest.raises(UsageError, match="--tokens") as caught:
        explain(vit("cls"), picture(vit("cls")), Request("merging"))
    assert caught.value.code == "VIT-288"


def test_it_is_no_map_that_faithfulness_judges() -> None:
    model = merging_model(dtype=torch.float32)
    names = {one.method for one in judge(model, picture(model))}
    assert "merging" not in names
    assert "occlusion" in names


def test_numbers_on_a_cropped_image_by_hand() -> None:
    """Cells of 2 x 3 px, an input of 4 x 6 px, the middle of 4 x 8, of an image of 8 x 16."""
    made = Preprocess(height=4, width=6, resize=4, crop="center")
    numbers = np.array([[0, 1], [2, 3]])
    found = numbers_on_image(numbers, (4, 6), made, (8, 16))
    assert found.shape == (8, 16)
    assert (found[:, :2] == -1).all()
    assert (found[:, 14:] == -1).all()
    assert (found[:4, 2:8] == 0).all()
    assert (found[4:, 8:14] == 3).all()


def test_a_group_is_drawn_in_its_mean_colour() -> None:
    image = np.zeros((300, 240, 3), np.uint8)
    image[:, :120], image[:, 120:] = (200, 40, 0), (0, 40, 200)
    groups = np.zeros((300, 240), np.int64)
    groups[150:] = 1
    groups[:30] = -1
    drawn = np.asarray(grouped(image, groups))
    assert drawn.shape == np.asarray(enlarged(image)).shape
    assert (drawn[10, 10] == (200, 40, 0)).all()  # outside of all, as it was
    assert np.abs(drawn[100, 10].astype(int) - (200 * 0.25 + 100 * 0.75, 40, 75)).max() <= 1
    assert (drawn[150, 10] == 255).all()  # a line below which another token begins
    assert (drawn[151, 10] != 255).any()


def test_it_is_saved_and_drawn(tmp_path: Path) -> None:
    model = merging_model(0.4, torch.float32)
    made = Preprocess(height=35, width=15, resize=40, crop="center")
    found = Classifier(model, made, CLASSES).explain(pixels(61, 47), "merging")
    found.save(tmp_path / "a.png")
    found.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        assert file["groups"].shape == (7, 5)
        assert file["grid"].max() == found.facts["largest"] > 1
    assert found.map.shape == (61, 47)
    assert (found.tokens(0, 0) == (found.groups == 0)).all()
    assert found.sheet().width > 0
