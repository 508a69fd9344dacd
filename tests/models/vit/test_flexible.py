"""Patches of several sizes (FlexiViT) and patch dropout in the model, by law and by golden file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints.adapt.test_adapt_model import flexivit
from tests.golden.case import read_case
from tests.models.check_model import random_images, random_model
from vitrail.checkpoints.adapt.adapt_model import adapt
from vitrail.checkpoints.adapt.fixed_patch import fixed_config, fixed_model
from vitrail.checkpoints.adapt.posemb_resize import resize_posemb
from vitrail.errors import UsageError
from vitrail.models.cost import parameters
from vitrail.models.create import build
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.flexible import Resizes, drawn_patch, inverse_matrix
from vitrail.models.vit.layers import drop_tokens
from vitrail.models.vit.model import ViT

SIZES = ((2, 3), (4, 3), (4, 6), (12, 15))
BASE: dict[str, Any] = {
    "image_size": (36, 30),
    "patch_size": (4, 6),  # 9 x 5 patches
    "channels": 2,
    "width": 12,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 7,
    "num_classes": 5,
}
FLEXIBLE = BASE | {"patch_sizes": SIZES}


@pytest.mark.parametrize("changes", [{}, {"patch_kernel": (5, 7), "posemb_grid": (7, 3)}])
@pytest.mark.parametrize("size", SIZES)
def test_at_each_size_it_is_the_ordinary_vit_of_that_size(
    size: tuple[int, int], changes: dict[str, Any]
) -> None:
    """In training by the attribute, fixed for everything else; matrices are kept in float32."""
    model = random_model(ViTConfig(**FLEXIBLE | changes), dtype=torch.float32)
    images = random_images(model.config, 3).float()
    fixed = fixed_model(model, size)
    assert fixed.config == ViTConfig(**BASE | {"patch_size": size})
    assert parameters(model.config) == sum(value.numel() for value in model.parameters())
    model.train().patch = size
    assert (model(images) - fixed(images)).abs().max() <= 2e-5


def test_evaluation_is_at_the_models_own_size() -> None:
    model = random_model(ViTConfig(**FLEXIBLE), dtype=torch.float32)
    images = random_images(model.config, 2).float()
    model.patch = (12, 15)
    assert (model(images) - fixed_model(model)(images)).abs().max() <= 2e-5


@pytest.mark.parametrize(("grid", "patch"), [(6, 8), (4, 12), (3, 16), (8, 6)])
def test_golden_flexivit_as_it_is_trained(grid: int, patch: int) -> None:
    """big_vision's own logits of one file at four patch sizes, by the forward of training."""
    state, config = flexivit()
    fields = {"image_size": 48, "patch_size": 8, "patch_sizes": (6, 8, 12, 16)}
    target = ViTConfig(**(config.model_dump() | fields | {"patch_kernel": 8, "posemb_grid": 4}))
    model = build(target)
    model.load_state_dict(adapt(state, config, target, resample="flexi")[0], assign=True)
    arrays = read_case("bv_flexivit").arrays
    model.train().patch = (patch, patch)
    logits = model(arrays["x"])
    torch.testing.assert_close(logits, arrays[f"logits_seq{grid}"], rtol=0, atol=1e-5)


def test_the_table_is_resized_as_the_family_does() -> None:
    config = ViTConfig(**FLEXIBLE)
    table = torch.randn(1, 45, 12, generator=torch.Generator().manual_seed(0))
    for size in SIZES:
        grid = config.grid_at(size)
        expected = resize_posemb(table, (9, 5), grid, 0, "flexi")
        assert (Resizes(config).table(table, grid) - expected).abs().max() <= 1e-6


def test_enlarged_patches_keep_their_tokens() -> None:
    """<x, w> = <B x, w_new>, section 3.4: B enlarges the patch."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(3), rng.standard_normal(3)
    inverse = inverse_matrix(3, 7)  # (7, 3)
    enlarge = np.linalg.pinv(inverse.T)  # (7, 3)
    assert abs(x @ w - (enlarge @ x) @ (inverse @ w)) <= 1e-12


def test_every_size_moves_kernel_and_table() -> None:
    model = random_model(ViTConfig(**FLEXIBLE)).train()
    images = random_images(model.config, 2)
    found: list[Tensor] = []
    for size in SIZES:
        model.patch = size
        model.zero_grad()
        model(images).square().sum().backward()
        for name in ("patch_embed.proj.weight", "pos_embed"):
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            assert gradient.abs().max() > 0
            found.append(gradient.clone())
    assert all(not torch.equal(found[1], other) for other in found[3::2])


def test_under_autocast_the_kernel_is_resized_in_float32() -> None:
    model = random_model(ViTConfig(**FLEXIBLE), dtype=torch.float32)
    kernel = model.get_parameter("patch_embed.proj.weight")
    plain = model.resizes.kernel(kernel, (2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.resizes.kernel(kernel, (2, 3)), plain)


def test_the_draw_is_a_function_of_seed_and_step() -> None:
    config = ViTConfig(**FLEXIBLE)
    drawn = [drawn_patch(config, 3, step) for step in range(1, 501)]
    assert drawn[:20] == [drawn_patch(config, 3, step) for step in range(1, 21)]
    counts = [drawn.count(size) for size in SIZES]
    assert sum(counts) == 500
    assert all(abs(count - 125) < 39 for count in counts)  # 4 deviations of a count
    assert drawn[:20] != [drawn_patch(config, 4, step) for step in range(1, 21)]
    assert drawn_patch(ViTConfig(**BASE), 3, 1) == (4, 6)


def test_the_record_is_read_back() -> None:
    config = ViTConfig(**BASE | {"patch_size": 6, "patch_sizes": "2,6,6x15"})
    assert config.patch_sizes == ((2, 2), (6, 6), (6, 15))
    assert ViTConfig(**json.loads(config.model_dump_json())) == config
    assert (config.kept_kernel, config.kept_grid) == ((6, 15), (6, 5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_kernel": 3}, "without patch_sizes"),
        ({"posemb_grid": 3}, "without patch_sizes"),
        ({"patch_sizes": "4x6,4x6"}, "twice"),
        ({"patch_sizes": "2,3"}, "none of patch_sizes"),
        ({"patch_sizes": "4x6,7"}, "not a multiple of 7"),
        ({"patch_sizes": "4x6,2", "posemb": "rope_2d"}, "posemb"),
        ({"patch_sizes": "4x6,2", "posemb_at": "every"}, "posemb_at"),
        ({"patch_sizes": "4x6,2", "max_patches": 50}, "max_patches"),
        ({"patch_drop": 0.5, "posemb": "relative"}, "places"),
        ({"patch_drop": 0.5, "posemb_at": "shared"}, "posemb_at"),
        ({"patch_drop": 1.0}, "patch_drop"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ViTConfig(**BASE | changes)


def test_too_many_tokens_at_the_smallest_patch_are_refused() -> None:
    with pytest.raises(UsageError, match="tokens") as caught:
        ViTConfig(**BASE | {"image_size": 600, "patch_size": 30, "patch_sizes": (2, 30)})
    assert caught.value.code == "VIT-222"


def test_a_size_that_was_not_trained_is_refused() -> None:
    with pytest.raises(UsageError, match="2x3 4x3 4x6 12x15") as caught:
        fixed_config(ViTConfig(**FLEXIBLE), (6, 6))
    assert caught.value.code == "VIT-289"


def test_dropped_tokens_by_hand() -> None:
    """Whole tokens, in order, other ones for each image; the prefix stays."""
    x = torch.arange(5.0 * 13).reshape(5, 13, 1).expand(-1, -1, 3)
    torch.manual_seed(1)
    found = drop_tokens(x, 2, 0.35, training=True)  # 11 patches, int(7.15) stay
    assert found.shape == (5, 9, 3)
    assert torch.equal(found[:, :2], x[:, :2])
    places = found[:, 2:, 0] - 13 * torch.arange(5.0)[:, None]
    assert (places.diff(dim=1) > 0).all()
    assert places.min() >= 2
    assert len({tuple(row.tolist()) for row in places}) == 5
    torch.manual_seed(1)
    assert torch.equal(drop_tokens(x, 2, 0.35, training=True), found)
    assert torch.equal(drop_tokens(x, 2, 0.35, training=False), x)
    assert drop_tokens(x, 2, 0.99, training=True).shape == (5, 3, 3)


def test_each_patch_is_left_out_equally_often() -> None:
    x = torch.arange(7.0).expand(4000, 7)[:, :, None]
    torch.manual_seed(0)
    counts = drop_tokens(x, 0, 0.5, training=True).flatten().long().bincount(minlength=7)
    assert (counts - 4000 * 3 / 7).abs().max() < 130  # 4 deviations are 125


@pytest.mark.parametrize("changes", [{}, {"pool": "gap"}, {"pool": "map", "num_registers": 2}])
def test_a_model_trains_on_fewer_tokens_and_answers_from_all(changes: dict[str, Any]) -> None:
    fields = BASE | changes
    model, plain = (ViT(ViTConfig(**fields | more)) for more in ({"patch_drop": 0.6}, {}))
    state = random_model(ViTConfig(**fields)).state_dict()
    images, seen = random_images(model.config, 3), list[int]()
    for one in (model, plain):
        one.load_state_dict(state, assign=True)
        one.double().eval()
    assert torch.equal(model(images), plain(images))
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    model.train()(images).square().sum().backward()
    assert seen == [model.config.num_prefix + int(45 * 0.4)]
    assert all(value.grad is not None for value in model.parameters())
