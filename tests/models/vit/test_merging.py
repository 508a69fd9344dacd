"""Token merging against a reference in NumPy that goes from token to token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.models.check_model import random_images, random_model
from vitrail.errors import UsageError
from vitrail.models.layers.tap import TapDict
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.merging import Merged, check_mergeable, merge, tokens_left, unmerged
from vitrail.models.vit.model import ViT

BASE: dict[str, Any] = {
    "image_size": (35, 15),  # 7 x 5 patches
    "patch_size": (5, 3),
    "channels": 2,
    "width": 12,
    "depth": 3,
    "num_heads": 3,
    "mlp_dim": 7,
    "num_classes": 5,
}
MODELS: dict[str, dict[str, Any]] = {
    "cls": {},
    "gap": {"pool": "gap", "norm_after_pool": True, "num_registers": 2},
    "map": {"pool": "map", "num_registers": 1, "map_prefix": False},
    "cls_gap": {"pool": "cls_gap", "qk_norm": True, "layer_scale": 0.1},
    "seq": {"pool": "seq", "block": "between"},
    "dist": {"distillation_token": True},
}


def model_of(name: str, share: float = 1.0, dtype: torch.dtype = torch.float64) -> ViT:
    model = random_model(ViTConfig(**BASE | MODELS[name]), dtype=dtype)
    model.kept_tokens = share
    return model


def matched(keys: NDArray[np.float64], count: int) -> list[tuple[int, int]]:
    """(token that goes, token that it joins) of patches (P, head_dim), one by one."""
    found = []
    for a in range(0, len(keys), 2):
        likeness = {}
        for b in range(1, len(keys), 2):
            norms = np.linalg.norm(keys[a]) * np.linalg.norm(keys[b])
            likeness[b] = float(keys[a] @ keys[b] / norms)
        best = max(likeness, key=lambda b: likeness[b])
        found.append((likeness[best], a, best))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [(a, b) for _, a, b in found[:count]]


def merged_one(
    x: NDArray[np.float64], groups: list[list[int]], keys: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], list[list[int]]]:
    """x: (P, D) of an image; groups: the patches that each token stands for."""
    pairs = matched(keys, count)
    totals = [x[i] * len(groups[i]) for i in range(len(x))]
    groups = [[*one] for one in groups]
    for a, b in pairs:
        totals[b] = totals[b] + totals[a]
        groups[b] += groups[a]
    gone = {a for a, _ in pairs}
    left = [i for i in range(len(x)) if i not in gone]
    return np.stack([totals[i] / len(groups[i]) for i in left]), [groups[i] for i in left]


def test_one_merge_by_the_book() -> None:
    rng = np.random.default_rng(0)
    x, keys = rng.standard_normal((3, 2 + 11, 7)), rng.standard_normal((3, 2, 2 + 11, 5))
    first = unmerged(torch.from_numpy(x), 2)
    once = merge(first, torch.from_numpy(keys), 2, 4)
    more = rng.standard_normal((3, 2, 2 + 7, 5))
    twice = merge(once, torch.from_numpy(more), 2, 3)
    for image in range(3):
        groups = [[i] for i in range(11)]
        mean = keys[image].mean(axis=0)[2:]
        expected, groups = merged_one(x[image, 2:], groups, mean, 4)
        assert_is(once, image, x, expected, groups)
        expected, groups = merged_one(expected, groups, more[image].mean(axis=0)[2:], 3)
        assert_is(twice, image, x, expected, groups)


def assert_is(
    found: Merged,
    image: int,
    x: NDArray[np.float64],
    expected: NDArray[np.float64],
    groups: list[list[int]],
) -> None:
    tokens = found.tokens[image].numpy()
    assert np.abs(tokens[:2] - x[image, :2]).max() == 0  # the prefix
    assert np.abs(tokens[2:] - expected).max() <= 1e-12
    assert found.sizes[image].tolist() == [1, 1, *map(len, groups)]
    places = found.places[image].tolist()
    assert [sorted(one) for one in groups] == [
        [patch for patch, place in enumerate(places) if place == token]
        for token in range(len(groups))
    ]


def reference(model: ViT, image: Tensor, share: float) -> Tensor:
    """Logits (K,) of one image (1, C, H, W) with tokens repeated as often as they stand for
    patches: what proportional attention is, without any logarithm.
    """
    config = model.config
    first, left = config.num_prefix, tokens_left(config, share)
    x = model.embed(image)
    groups = [[i] for i in range(config.num_patches)]
    for index in range(config.depth):
        block = model.blocks[index]
        seen: list[Tensor] = []
        repeats = torch.tensor([1] * first + [len(one) for one in groups])
        long = x.repeat_interleave(repeats, dim=1)
        places = repeats.cumsum(0) - 1
        attended = block.attended(long, seen=seen)[:, places]  # type: ignore[operator]
        keys = seen[0][:, :, places]
        if index + 1 < config.depth:
            count = len(groups) - left[index]
            own = attended[0, first:].numpy()
            mean = keys[0].mean(dim=0)[first:].numpy()
            merged, groups = merged_one(own, groups, mean, count)
            attended = torch.cat([attended[:, :first], torch.from_numpy(merged)[None]], dim=1)
        x = block.mixed(attended)  # type: ignore[operator]
    repeats = torch.tensor([1] * first + [len(one) for one in groups])
    return model.read(model.final_norm(x).repeat_interleave(repeats, dim=1))[0]


@pytest.mark.parametrize("share", [0.83, 0.41, 0.01])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "map"])
def test_a_model_with_merged_tokens(name: str, share: float) -> None:
    """A token of size s is one that is there s times."""
    model = model_of(name, share)
    images = random_images(model.config, 3)
    with torch.no_grad():
        found = model(images)
        for image, logits in zip(images, found, strict=True):
            assert (logits - reference(model, image[None], share)).abs().max() <= 1e-10


@pytest.mark.parametrize("name", MODELS)
def test_a_share_of_one_changes_no_bit(name: str) -> None:
    plain, kept = model_of(name, dtype=torch.float32), model_of(name, 1.0, torch.float32)
    images = random_images(plain.config, 3).float()
    with torch.no_grad():
        assert torch.equal(plain(images), kept(images))


@pytest.mark.parametrize("name", MODELS)
def test_equal_tokens_merge_without_a_trace(name: str) -> None:
    """An image of one colour, without positions: all patch tokens are equal, and so is what the
    pooling finds, however many there are.
    """
    fields = {"posemb": "none", **MODELS[name]}
    model = random_model(ViTConfig(**BASE | fields), dtype=torch.float64)
    images = torch.full((2, 2, 35, 15), 0.7, dtype=torch.float64)
    with torch.no_grad():
        whole = model(images)
        model.kept_tokens = 0.3
        assert (model(images) - whole).abs().max() <= 1e-12


def test_an_image_does_not_depend_on_its_batch() -> None:
    model = model_of("gap", 0.5)
    images = random_images(model.config, 3)
    with torch.no_grad():
        together = model(images)
        for image, logits in zip(images, together, strict=True):
            assert (model(image[None])[0] - logits).abs().max() <= 1e-12


def test_tokens_left_by_hand() -> None:
    config = ViTConfig(**BASE)  # 35 patches, 3 blocks: two merge
    assert tokens_left(config, 1.0) == [35, 35, 35]
    assert tokens_left(config, 0.6) == [28, 21, 21]
    assert tokens_left(config, 0.01) == [18, 9, 9]  # no more than every second one at a block


def test_training_merges_nothing() -> None:
    model = model_of("cls", 0.5).train()
    images = random_images(model.config, 2)
    model.kept_tokens, half = 1.0, model(images)
    assert torch.equal(half, model(images))


@pytest.mark.parametrize(
    ("changes", "share", "words"),
    [
        ({}, 0.0, "above 0"),
        ({}, 1.5, "above 0"),
        ({"posemb": "relative"}, 0.5, "places"),
        ({"posemb": "rope_2d", "head_bias_init": 0.0}, 0.5, "place"),
        ({"posemb_at": "every"}, 0.5, "every layer"),
        ({"max_patches": 40}, 0.5, "variable resolution"),
        ({"depth": 1}, 0.5, "one block"),
    ],
)
def test_models_whose_tokens_cannot_merge(
    changes: dict[str, Any], share: float, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check_mergeable(ViTConfig(**BASE | changes), share)
    assert caught.value.code == "VIT-288"


def test_there_are_no_taps_of_merged_tokens() -> None:
    model, store = model_of("cls", 0.5), TapDict()
    with pytest.raises(UsageError, match="intermediates"):
        model(random_images(model.config, 1), tap=store)
