"""Checkpoints adapted to other tasks: golden models at other sizes, and what each change keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.adapt_models import PETS, pictures, run, values, vit
from tests.golden.case import read_case
from vitrail.checkpoints.adapt.adapt_model import adapt, target_config
from vitrail.checkpoints.adapt.patch_resize import resize_patch
from vitrail.checkpoints.adapt.posemb_resize import RULES
from vitrail.checkpoints.adapt.request import State, shapes_of
from vitrail.errors import ModelError, UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import build
from vitrail.models.layers.tap import TapDict
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.models.vit.config import ViTConfig


def flexivit() -> tuple[State, ViTConfig]:
    """The golden FlexiViT as it is stored: patches of 8 px, a grid of 4 x 4."""
    case = read_case("bv_flexivit")
    config = vit(image_size=32, patch_size=8, num_heads=2, mlp_dim=96, pool="gap", gelu="gelu_tanh")
    with np.load(case.checkpoint, allow_pickle=False) as file:
        theirs = {name.removeprefix("params/"): torch.from_numpy(file[name]) for name in file.files}
    state = {
        "pos_embed": theirs["pos_embedding"],
        "patch_embed.proj.weight": theirs["embedding/kernel"].permute(3, 2, 0, 1),
        "patch_embed.proj.bias": theirs["embedding/bias"],
        "norm.weight": theirs["Transformer/encoder_norm/scale"],
        "norm.bias": theirs["Transformer/encoder_norm/bias"],
        "head.weight": theirs["head/kernel"].t(),
        "head.bias": theirs["head/bias"],
    }
    for index in range(config.depth):
        block = f"Transformer/encoderblock_{index}"
        attention = f"{block}/MultiHeadDotProductAttention_0"
        for number in (1, 2):
            norm = f"{block}/LayerNorm_{number - 1}"
            state[f"blocks.{index}.norm{number}.weight"] = theirs[f"{norm}/scale"]
            state[f"blocks.{index}.norm{number}.bias"] = theirs[f"{norm}/bias"]
            dense = f"{block}/MlpBlock_0/Dense_{number - 1}"
            state[f"blocks.{index}.mlp.fc{number}.weight"] = theirs[f"{dense}/kernel"].t()
            state[f"blocks.{index}.mlp.fc{number}.bias"] = theirs[f"{dense}/bias"]
        parts = [f"{attention}/{name}" for name in ("query", "key", "value")]
        kernels = [theirs[f"{part}/kernel"].flatten(1).t() for part in parts]
        state[f"blocks.{index}.attn.qkv.weight"] = torch.cat(kernels)
        state[f"blocks.{index}.attn.qkv.bias"] = torch.cat(
            [theirs[f"{part}/bias"].flatten() for part in parts]
        )
        out = theirs[f"{attention}/out/kernel"].flatten(0, 1).t()
        state[f"blocks.{index}.attn.proj.weight"] = out
        state[f"blocks.{index}.attn.proj.bias"] = theirs[f"{attention}/out/bias"]
    return state, config


@pytest.mark.parametrize(("grid", "patch"), [(6, 8), (4, 12), (3, 16), (8, 6)])
def test_golden_flexivit_at_four_patch_sizes(grid: int, patch: int) -> None:
    state, config = flexivit()
    target = target_config(config, image_size=48, patch_size=patch)
    adapted, sentences = adapt(state, config, target, resample="flexi")
    arrays = read_case("bv_flexivit").arrays
    store: TapDict = {"patches": None, "tokens": None, "logits": None}
    model = build(target)
    model.load_state_dict(adapted, strict=True, assign=True)
    with torch.no_grad():
        model.eval()(arrays["x"], tap=store)
    stem = arrays[f"stem_seq{grid}"].flatten(1, 2)
    for name, expected in (("patches", stem), ("tokens", arrays[f"tokens_seq{grid}"])):
        torch.testing.assert_close(store[name], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(store["logits"], arrays[f"logits_seq{grid}"], rtol=0, atol=1e-5)
    assert len(sentences) == (grid != 4) + (patch != 8)


def test_golden_dinov2_at_another_size_and_a_negative_control() -> None:
    """42 x 21 px with a table of 4 x 4, by the offset rule; by another rule the logits move."""
    case = read_case("fb_dinov2_resized")
    state = torch.load(case.checkpoint, weights_only=True)
    del state["mask_token"]
    head = torch.load(case.folder / "dinov2_mu7_linear_head.pth", weights_only=True)
    state |= {f"head.{name}": value for name, value in head.items()}
    config = vit(
        image_size=28,
        patch_size=7,
        num_heads=2,
        mlp_dim=96,
        num_classes=13,
        pool="cls_gap",
        layer_scale=1e-5,
    )
    target = target_config(config, image_size=(42, 21))
    found = {}
    for rule in ("dino", "google"):
        adapted, sentences = adapt(state, config, target, resample=rule)
        found[rule] = run(target, adapted, case.arrays["x"])
    assert sentences == [
        "pos_embed: grid 4x4 becomes 6x3: bilinear, corners aligned (rule 'google'); "
        "1 prefix row kept."
    ]
    torch.testing.assert_close(found["dino"], case.arrays["logits"], rtol=0, atol=1e-5)
    assert float((found["google"] - case.arrays["logits"]).abs().max()) > 1e-3


OPTIONS: list[dict[str, Any]] = [
    {},
    {"pool": "gap"},
    {"pool": "map", "num_registers": 3},
    {"distillation_token": True},
    {"representation_size": 13},
    {"posemb": "learned_2d"},
    {"posemb_at": "every", "distillation_token": True},
    {"posemb_at": "every", "posemb": "learned_2d"},
    {"posemb_at": "shared"},
    {"posemb": "relative"},
    {"posemb": "sincos_2d"},
    {"posemb": "rope_2d"},
    {"posemb": "learned_rope_2d", "rope": "index", "rope_grid": (5, 4)},
    {"pool": "map", "num_registers": 3, "map_prefix": False, "map_heads": 4, "map_mlp_dim": 5},
    {"posemb": "none"},
    {"posemb_prefix": False, "num_registers": 2},
    {"norm_after_pool": True, "pool": "gap"},
]


@pytest.mark.parametrize("fields", OPTIONS, ids=str)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_same_task_is_the_same_model_bit_for_bit(fields: dict[str, Any], rule: str) -> None:
    config = vit(**fields)
    state = values(config)
    adapted, sentences = adapt(state, config, target_config(config), resample=rule)
    assert sentences == []
    assert all(adapted[name] is state[name] for name in state)
    assert list(adapted) == list(shapes_of(config))


@pytest.mark.parametrize("fields", OPTIONS, ids=str)
def test_every_kind_of_model_moves_to_a_grid_that_is_not_square(fields: dict[str, Any]) -> None:
    config = vit(**fields)
    target = target_config(config, image_size=(20, 21), num_classes=5, channels=1)
    state = values(config)
    adapted, sentences = adapt(state, config, target, resample="google")
    assert run(target, adapted, pictures(target)).shape == (3, 5)
    kind = fields.get("posemb", "learned")
    about = [text for text in sentences if "grid 2x3 becomes 4x7" in text]
    assert len(about) == (kind != "none")
    changed = {name for name in state if adapted[name] is not state[name]}
    expected = {"patch_embed.proj.weight", "head.weight", "head.bias"}
    tables = {"learned": ["pos_embed"], "learned_2d": ["pos_embed_x", "pos_embed_y"]}
    tables["learned_rope_2d"] = tables["learned"]
    expected |= set(tables.get(kind, []))
    if config.posemb_at == "every":
        expected |= {f"blocks.1.{name}" for name in tables[kind]}
    if kind == "relative":
        expected |= {f"blocks.{index}.attn.relative.keys" for index in range(2)}
    if config.distillation_token:
        expected |= {"head_dist.weight", "head_dist.bias"}
    assert changed == expected


@pytest.mark.parametrize("posemb", ["learned", "learned_2d"])
def test_tables_of_every_layer_change_by_the_same_rule(posemb: str) -> None:
    """Equal tables stay equal, and those of another layer are no copies of the first."""
    config = vit(posemb=posemb, posemb_at="every", depth=3)
    target = target_config(config, image_size=(20, 21))
    state = values(config)
    kinds = ["pos_embed"] if posemb == "learned" else ["pos_embed_x", "pos_embed_y"]
    for kind in kinds:
        state[f"blocks.2.{kind}"] = state[kind].clone()
    adapted, sentences = adapt(state, config, target, resample="google")
    assert len(sentences) == 1
    assert "of 3 layers" in sentences[0]
    for kind in kinds:
        assert torch.equal(adapted[f"blocks.2.{kind}"], adapted[kind])
        assert not torch.equal(adapted[f"blocks.1.{kind}"], adapted[kind])


def test_a_distillation_token_gets_a_row_in_every_table() -> None:
    config = vit(posemb_at="every")
    state = values(config)
    target = config.model_copy(update={"distillation_token": True})
    adapted, _ = adapt(state, config, target, resample="google")
    back, _ = adapt(adapted, target, config, resample="google")
    for name in ("pos_embed", "blocks.1.pos_embed"):
        assert adapted[name].shape == (1, 8, 24)
        assert (adapted[name][:, 1] == 0).all()
        assert torch.equal(back[name], state[name])


def test_relative_offsets_decide_as_before_on_the_same_grid_of_larger_patches() -> None:
    config = vit(posemb="relative", patch_size=(5, 3))
    target = target_config(config, image_size=(20, 9), patch_size=(10, 3))
    state = values(config)
    adapted, sentences = adapt(state, config, target, resample="google")
    for name in (name for name in state if "relative" in name):
        assert adapted[name] is state[name]
    assert sentences == [
        "patch_embed.proj.weight: patches 5x3 become 10x3: pseudo-inverse of bilinear resize "
        "(FlexiViT)."
    ]


def test_timms_checkpoints_get_timms_patch_resize() -> None:
    config = vit()
    target = target_config(config, image_size=(14, 9), patch_size=(7, 3))
    state = values(config)
    weight = "patch_embed.proj.weight"
    for resample, rule in (("timm", "pi_timm"), ("timm_npz", "pi_timm"), ("google", "pi")):
        adapted, sentences = adapt(state, config, target, resample=resample)
        assert torch.equal(adapted[weight], resize_patch(state[weight], (7, 3), rule))
        assert ("antialiased bicubic" in sentences[0]) == (rule == "pi_timm")


def test_a_gray_model_answers_gray_images_as_the_color_model() -> None:
    config = vit()
    state = values(config)
    gray = target_config(config, channels=1)
    adapted, sentences = adapt(state, config, gray, resample="google")
    images = pictures(gray)
    expected = run(config, state, images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(run(gray, adapted, images), expected, rtol=1e-4, atol=1e-4)
    again, _ = adapt(adapted, gray, config, resample="google")
    back = run(config, again, images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(back, expected, rtol=1e-4, atol=1e-4)
    name = "patch_embed.proj.weight"
    assert sentences == [f"{name}: 3 input channels become 1: the sum over the channels."]


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    patch=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    channels=st.integers(1, 5),
    classes=st.integers(0, 9),
    rule=st.sampled_from(sorted(RULES)),
)
def test_any_task_gives_a_model_that_runs(
    size: tuple[int, int], patch: tuple[int, int], channels: int, classes: int, rule: str
) -> None:
    config = vit(depth=1)
    image = (size[0] * patch[0], size[1] * patch[1])
    target = target_config(
        config, num_classes=classes, image_size=image, patch_size=patch, channels=channels
    )
    adapted, sentences = adapt(values(config), config, target, resample=rule)
    assert run(target, adapted, pictures(target)).isfinite().all()
    expected = (patch != (5, 3)) + (size != (2, 3)) + (channels != 3) + (classes != 7)
    assert len(sentences) == expected


def bit(**fields: Any) -> BiTConfig:
    tiny: dict[str, Any] = {"image_size": (32, 40), "depths": (1,), "width_factor": 0.5}
    return BiTConfig(**(tiny | {"num_classes": 7} | fields))


@pytest.mark.parametrize("style", ["v2", "v1_gn"])
def test_a_residual_network_gets_another_root_and_head(style: str) -> None:
    config = bit(style=style)
    target = target_config(config, image_size=48, channels=1, num_classes=2)
    state = values(config)
    adapted, sentences = adapt(
        state, config, target, resample="google", classes=PETS, target_classes=("gnu", "yak")
    )
    assert torch.equal(adapted["head.fc.weight"][0], state["head.fc.weight"][6])
    assert not adapted["head.fc.weight"][1].any()
    assert run(target, adapted, pictures(target)).shape == (3, 2)
    assert "standardised" in sentences[0]
    with pytest.raises(ModelError, match="no patches") as caught:
        target_config(config, patch_size=8)
    assert caught.value.code == "VIT-451"


@pytest.mark.parametrize("norm", ["batch", "group_std"])
def test_a_residual_network_for_small_images_gets_another_size(norm: str) -> None:
    """Running values are taken along; gray images as three equal channels give the same."""
    config = resolve_model("resnet_ti", num_classes=7, overrides={"norm": norm})
    target = target_config(config, image_size=(24, 20), channels=1, num_classes=2)
    state = values(config)
    adapted, sentences = adapt(
        state, config, target, resample="google", classes=PETS, target_classes=("gnu", "yak")
    )
    running = [name for name in state if "running" in name]
    assert bool(running) == (norm == "batch")
    assert all(torch.equal(adapted[name], state[name]) for name in running)
    assert torch.equal(adapted["head.fc.weight"][0], state["head.fc.weight"][6])
    assert ("standardised" in sentences[0]) == (norm == "group_std")
    gray = target_config(config, channels=1)
    other, _ = adapt(state, config, gray, resample="google")
    images = pictures(gray)
    if norm == "batch":
        expected = run(config, state, images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(run(gray, other, images), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="VIT-451"):
        adapt(state, config, target.model_copy(update={"pool": "max"}), resample="google")


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("r_vit_ti16", 64, "patch_embed.backbone.conv.weight"),
        ("r26_vit_s32", 64, "patch_embed.backbone.stem.conv.weight"),
        ("cct_2_3x2", 32, "patch_embed.convs.0.weight"),
    ],
)
def test_stems_get_other_channels_and_their_maps_another_grid(
    name: str, size: int, layer: str
) -> None:
    small: dict[str, Any] = {"depth": 1, "width": 32, "num_heads": 2, "mlp_dim": 7}
    if name == "r26_vit_s32":
        small |= {"stem_stages": (1, 1), "stem_width": 32}
    config = resolve_model(name, num_classes=3, image_size=size, overrides=small)
    target = target_config(config, image_size=(size, 2 * size), channels=1)
    state = values(config)
    adapted, sentences = adapt(state, config, target, resample="google")
    assert sentences[0].startswith(f"{layer}: 3 input channels become 1")
    assert torch.equal(adapted[layer], state[layer].double().sum(1, keepdim=True).float())
    assert sentences[1].startswith("pos_embed: grid ")
    assert run(target, adapted, pictures(target)).shape == (3, 3)


def test_what_cannot_be_adapted_is_refused_with_both_sides() -> None:
    config = vit()
    state = values(config)
    cases: list[tuple[ModelConfig, State, dict[str, Any], str, str]] = [
        (vit(width=48), state, {}, "VIT-451", "width: expected 48, got 24"),
        (vit(gelu="gelu_tanh"), state, {}, "VIT-451", "expected gelu_tanh, got gelu"),
        (vit(layer_scale=0.1), state, {}, "VIT-451", "layer_scale: expected 0.1, got None"),
        (bit(), state, {}, "VIT-451", "expected BiTConfig, got ViTConfig"),
        (config, state | {"more": state["norm.bias"]}, {}, "VIT-452", "no such tensor, got .24,."),
        (
            config,
            state | {"norm.bias": torch.zeros(23)},
            {},
            "VIT-452",
            r"norm.bias: expected \(24,\), got \(23,\)",
        ),
        (config, {}, {}, "VIT-452", "and 22 more"),
        (config, state, {"classes": PETS[:3]}, "VIT-454", "3 class names for a head of 7 rows"),
        (config, state, {"target_classes": PETS + PETS}, "VIT-454", "14 class names"),
        (config, state, {"resample": "googel"}, "VIT-450", "Did you mean google"),
    ]
    for target, given_state, more, code, text in cases:
        with pytest.raises(ModelError, match=text) as caught:
            adapt(given_state, config, target, **({"resample": "google"} | more))
        assert caught.value.code == code
    with pytest.raises(UsageError, match="multiple of the patch") as refused:
        target_config(config, image_size=11)
    assert refused.value.code == "VIT-214"
    scaled = vit(layer_scale=0.1)
    same, said = adapt(values(scaled), scaled, vit(layer_scale=1e-5), resample="google")
    assert said == []  # only where training starts from
    assert same["blocks.0.ls1.gamma"].shape == (24,)
