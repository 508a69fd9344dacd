"""The whole model: laws, errors and taps; one option at a time is in test_vit_options.py."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vitrail.models.vit.layers as layers
from tests.models.check_model import check_export, random_images, random_model, tapped
from tests.models.tiny_configs import BASE
from vitrail.errors import UsageError
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.layers import drop_path, patchify
from vitrail.models.vit.model import ViT
from vitrail.models.vit.posemb import added_to_all

PLACES = ("stem", "every", "shared")


def unpatchify(
    patches: torch.Tensor, image_size: tuple[int, int], patch_size: tuple[int, int]
) -> torch.Tensor:
    """Inverse of `patchify`. patches: (B, P, C*ph*pw). Returns (B, C, H, W)."""
    H, W = image_size
    ph, pw = patch_size
    B, _, columns = patches.shape
    pixels = patches.reshape(B, H // ph, W // pw, columns // (ph * pw), ph, pw).permute(
        0, 3, 1, 4, 2, 5
    )
    return pixels.reshape(B, columns // (ph * pw), H, W)


def tiny(**changes: Any) -> ViTConfig:
    return ViTConfig(**(BASE | changes))


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_unpatchify_inverts_patchify(
    patch_size: tuple[int, int], grid: tuple[int, int], batch_size: int, channels: int
) -> None:
    image_size = (patch_size[0] * grid[0], patch_size[1] * grid[1])
    count = batch_size * channels * image_size[0] * image_size[1]
    images = torch.arange(count).reshape(batch_size, channels, *image_size)
    patches = patchify(images, patch_size)
    assert patches.shape == (batch_size, grid[0] * grid[1], count // batch_size // math.prod(grid))
    assert torch.equal(unpatchify(patches, image_size, patch_size), images)


def test_patches_are_in_rows() -> None:
    """Grid 2 x 3: patch 1 is to the right of patch 0."""
    images = torch.arange(1 * 4 * 9).reshape(1, 1, 4, 9)
    assert patchify(images, (2, 3))[0, 1].tolist() == [3, 4, 5, 12, 13, 14]
    assert patchify(images, (2, 3))[0, 3].tolist() == [18, 19, 20, 27, 28, 29]


def test_patch_embedding_equals_the_convolution() -> None:
    model = random_model(tiny())
    images = random_images(model.config, 3)
    assert isinstance(model.patch_embed, layers.PatchEmbed)
    convolved = model.patch_embed.proj(images).flatten(2).transpose(1, 2)
    assert (model.patch_embed(images) - convolved).abs().max() <= 1e-12


@given(st.permutations(range(6)), st.sampled_from(["cls", "gap", "map"]))
def test_without_posemb_patches_have_no_order(order: list[int], pool: str) -> None:
    """The encoder is equivariant to permutations of the patches, and the logits do not change."""
    model = random_model(tiny(posemb="none", pool=pool, num_registers=2))
    images = random_images(model.config, 2)
    patches = patchify(images, (5, 3))
    shuffled = unpatchify(patches[:, order], (10, 9), (5, 3))
    logits, store = tapped(model, images)
    other_logits, other = tapped(model, shuffled)
    prefix = model.config.num_prefix
    assert (other["tokens"][:, prefix:] - store["tokens"][:, prefix:][:, order]).abs().max() < 1e-11
    assert (other_logits - logits).abs().max() < 1e-11


@pytest.mark.parametrize("pool", ["cls", "gap", "map"])
@pytest.mark.parametrize(
    ("posemb", "place"),
    [
        *((posemb, "stem") for posemb in ("learned", "learned_2d", "sincos_2d")),
        *((posemb, "shared") for posemb in ("learned", "learned_2d", "sincos_2d")),
        *((posemb, "every") for posemb in ("learned", "learned_2d")),
        *((posemb, "stem") for posemb in ("relative", "rope_2d", "learned_rope_2d")),
    ],
)
def test_with_posemb_patches_have_an_order(posemb: str, place: str, pool: str) -> None:
    """Negative control of the law above: tables are random, and two patches change places."""
    model = random_model(tiny(posemb=posemb, posemb_at=place, pool=pool))
    images, order = random_images(model.config, 2), [0, 4, 2, 3, 1, 5]
    shuffled = unpatchify(patchify(images, (5, 3))[:, order], (10, 9), (5, 3))
    logits, store = tapped(model, images)
    other_logits, other = tapped(model, shuffled)
    prefix = model.config.num_prefix
    moved = store["tokens"][:, prefix:][:, order]
    assert (other["tokens"][:, prefix:] - moved).abs().max() > 1e-2
    assert (other_logits - logits).abs().max() > 1e-3


def further_tables(model: ViT) -> dict[str, torch.nn.Parameter]:
    """Of the blocks behind the first, by name."""
    named = model.named_parameters()
    return {name: value for name, value in named if re.match(r"blocks\.\d+\.pos_embed", name)}


@pytest.mark.parametrize("posemb", ["learned", "learned_2d"])
@pytest.mark.parametrize("fields", [{}, {"pool": "gap"}, {"num_registers": 2, "pre_norm": True}])
def test_a_table_for_every_layer(posemb: str, fields: dict[str, Any]) -> None:
    """Further tables of zeros: as once behind the stem. All alike: as the shared one."""
    sizes = {"posemb": posemb, "depth": 3, **fields}
    every = random_model(tiny(posemb_at="every", **sizes))
    kinds = ["pos_embed"] if posemb == "learned" else ["pos_embed_x", "pos_embed_y"]
    tables = further_tables(every)
    assert sorted(tables) == sorted(f"blocks.{i}.{kind}" for i in (1, 2) for kind in kinds)
    images = random_images(every.config, 2)
    found = every(images)
    for place in ("stem", "shared"):
        model = random_model(tiny(posemb_at=place, **sizes))
        assert not further_tables(model)
        state = every.state_dict()
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        assert (model(images) - found).abs().max() > 1e-3
        with torch.no_grad():
            for name, table in tables.items():
                own = every.get_parameter(name.split(".")[-1])
                table.copy_(own if place == "shared" else torch.zeros_like(own))
        assert (model(images) - every(images)).abs().max() <= 1e-12


@pytest.mark.parametrize(
    ("posemb", "place"), [("learned", "every"), ("learned_2d", "shared"), ("sincos_2d", "shared")]
)
def test_position_at_every_layer_is_exported(posemb: str, place: str) -> None:
    check_export(random_model(tiny(posemb=posemb, posemb_at=place, num_registers=1)))


def test_registers_get_no_position_at_any_layer() -> None:
    """Nor do cls and dist where their tables have no rows for them."""
    for fields, num_rows in (({"distillation_token": True}, 2), ({"posemb_prefix": False}, 0)):
        model = random_model(tiny(posemb_at="every", num_registers=3, **fields))
        added = added_to_all(model.config, model.blocks[1])
        prefix = model.config.num_prefix
        assert added.shape == (1, model.config.num_tokens, 24)
        assert (added[:, num_rows:prefix] == 0).all()
        table = model.blocks[1].get_parameter("pos_embed")
        assert torch.equal(added[:, :num_rows], table[:, :num_rows])
        assert torch.equal(added[:, prefix:], table[:, num_rows:])


def test_where_posemb_is_added_changes_no_other_value() -> None:
    """The same draws for all that was there before; further tables are normal(0.02)."""
    models = {place: create_model(tiny(posemb_at=place), seed=5) for place in PLACES}
    stem = models["stem"].state_dict()
    assert list(models["shared"].state_dict()) == list(stem)
    for place in ("every", "shared"):
        state = models[place].state_dict()
        assert all(torch.equal(state[name], value) for name, value in stem.items())
    table = models["every"].get_parameter("blocks.1.pos_embed")
    assert table.std().item() == pytest.approx(0.02, rel=4 / math.sqrt(2 * table.numel()))
    assert not torch.equal(table, stem["pos_embed"])


def test_registers_are_not_in_the_mean() -> None:
    model = random_model(tiny(pool="gap", num_registers=3))
    _, store = tapped(model, random_images(model.config, 2))
    assert (store["pooled"] - store["tokens"][:, 3:].mean(1)).abs().max() <= 1e-12


def test_distillation_gives_two_logits_in_training_and_their_mean_after() -> None:
    model = random_model(tiny(distillation_token=True))
    images = random_images(model.config, 3)
    mean = model(images)
    both = model.train()(images)
    assert both.shape == (3, 2, 7)
    assert (both.mean(1) - mean).abs().max() <= 1e-12
    assert (both[:, 0] - both[:, 1]).abs().max() > 1e-3


def test_without_a_head_the_model_gives_features() -> None:
    model = random_model(tiny(num_classes=0, representation_size=5))
    images = random_images(model.config, 3)
    assert model(images).shape == (3, 5)
    assert torch.equal(model(images), model.features(images))
    assert model(images).abs().max() < 1  # after tanh
    twin = random_model(tiny(num_classes=0, distillation_token=True))
    assert twin(images).shape == (3, 24)


def test_checkpointing_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks run twice with it, once without."""
    model = random_model(tiny()).train()
    calls: list[int] = []
    attend = layers.attend

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return attend(*arguments)

    monkeypatch.setattr(layers, "attend", counted)
    for model.checkpoint_activations, expected in ((False, 2), (True, 4)):
        calls.clear()
        model(random_images(model.config, 1)).sum().backward()
        assert len(calls) == expected


@pytest.mark.parametrize(
    "shape", [(1, 2, 9, 10), (1, 3, 10, 9), (2, 10, 9), (1, 2, 10, 9, 1), (1, 2, 20, 18)]
)
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    model = random_model(tiny())
    with pytest.raises(UsageError, match=r"\(B, 2, 10, 9\)") as caught:
        model(torch.zeros(shape, dtype=torch.float64))
    assert caught.value.code == "VIT-224"
    assert str(shape) in caught.value.message


def test_unknown_tap_is_refused_before_computing() -> None:
    model = random_model(tiny())
    with pytest.raises(UsageError, match="Did you mean block01/attention") as caught:
        tapped(model, random_images(model.config, 1), "block1/attention")
    assert caught.value.code == "VIT-223"


def test_tap_keeps_what_is_asked_for() -> None:
    model = random_model(tiny())
    names = ("block00/attention", "tokens")
    _, store = tapped(model, random_images(model.config, 1), *names)
    assert set(store) == set(names)


def test_named_model_and_overrides() -> None:
    model = create_model("ViT-Ti/16", num_classes=5, image_size=(32, 48), depth=2, pool="gap")
    assert isinstance(model.config, ViTConfig)
    assert model.config.depth == 2
    assert model(torch.randn(1, 3, 32, 48)).shape == (1, 5)
    assert create_model("vit_mu16").config.num_classes == 1000
    with pytest.raises(UsageError, match="VIT-211"):
        create_model("vit_mu16", dept=2)
    with pytest.raises(UsageError, match="num_classes") as caught:
        create_model(tiny(), num_classes=5)
    assert caught.value.code == "VIT-225"


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_drop_path_rates_over_depth(schedule: str) -> None:
    model = create_model(tiny(depth=5, drop_path=0.4, drop_path_schedule=schedule))
    rates = [block.drop_path for block in model.get_submodule("blocks").children()]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4] if schedule == "linear" else [0.4] * 5)


def test_drop_path_drops_whole_examples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3), 0.3, training=True)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 1 / 0.7])
    assert (dropped.flatten(1).std(dim=1) == 0).all()
    share = (dropped[:, 0, 0] == 0).float().mean().item()
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))
    ones = torch.ones(2, 3)
    assert drop_path(ones, 0.3, training=False) is ones


def test_gelu_variants_differ_by_at_most_5e_4() -> None:
    """tanh against erf: the bound that docs/numerics.md states."""
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    gap = (layers.GELU["gelu_tanh"](x) - layers.GELU["gelu"](x)).abs().max().item()
    assert 4e-4 < gap < 5e-4
    assert layers.GELU["gelu"](torch.tensor(1.0)).item() == pytest.approx(0.8413447, abs=1e-6)
    assert layers.GELU["quick_gelu"](torch.tensor(1.0)).item() == pytest.approx(
        1 / (1 + math.exp(-1.702)), abs=1e-6
    )


def test_a_replaced_layer_is_called() -> None:
    """As adapters and quantisers do: what stands in for a dense layer computes, in every block."""

    class Doubled(torch.nn.Module):
        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.layer(x)
            return 2 * y

    for name in ("qkv", "proj"):
        model = random_model(tiny())
        images = random_images(model.config, 2)
        expected = random_model(tiny())
        for block, other in zip(model.blocks, expected.blocks, strict=True):
            setattr(block.get_submodule("attn"), name, Doubled(block.get_submodule(f"attn.{name}")))
            for value in other.get_submodule(f"attn.{name}").parameters():
                value.data *= 2
        assert (model(images) - expected(images)).abs().max() <= 1e-12
