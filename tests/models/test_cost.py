"""Parameter counts and multiply-adds against published constants.

Counts: google-research/vision_transformer `vit_jax/models_test.py` and torchvision's model cards
state many of them; the others follow from the same formula. Multiply-adds: timm's profiler,
`results/benchmark-infer-*.csv` (pytorch-image-models).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitrail.models.bit.config import BiTConfig
from vitrail.models.cost import activation_bytes, macs, parameters, standardised_bytes
from vitrail.models.create import build, create_model
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.vit.config import ViTConfig

# name: 1000 classes, these with GAP and no cls, no head, 21,843 classes, these with a tanh layer,
# 384 px (0: not a multiple of 14), billions of multiply-adds at 224 px and at 384 px.
PUBLISHED: dict[str, tuple[int, int, int, int, int, int, float, float]] = {
    "Ti/16": (5717416, 5717032, 5524416, 9740115, 9777171, 5790376, 1.25, 4.68),
    "S/8": (22055272, 22054504, 21670272, 30079827, 30227667, 22638952, 22.41, 98.08),
    "S/16": (22050664, 22049896, 21665664, 30075219, 30223059, 22196584, 4.60, 15.49),
    "S/32": (22878952, 22878184, 22493952, 30903507, 31051347, 22915432, 1.14, 3.44),
    "M/16": (38837736, 38836712, 38324736, 49530195, 49792851, 39032296, 7.99, 26.10),
    "B/8": (86576872, 86575336, 85807872, 102605139, 103195731, 87744232, 78.15, 294.0),
    "B/16": (86567656, 86566120, 85798656, 102595923, 103186515, 86859496, 17.56, 55.48),
    "B/32": (88224232, 88222696, 87455232, 104252499, 104843091, 88297192, 4.41, 13.04),
    "L/14": (304203752, 304201704, 303178752, 325567827, 326617427, 0, 81.01, 0),
    "L/16": (304326632, 304324584, 303301632, 325690707, 326740307, 304715752, 61.55, 191.07),
    "L/32": (306535400, 306533352, 305510400, 327899475, 328949075, 306632680, 15.38, 45.28),
    "H/14": (632045800, 632043240, 630764800, 658745683, 660385363, 0, 167.30, 0),
    "H/16": (632199400, 632196840, 630918400, 658899283, 660538963, 632685800, 127.31, 390.9),
    "g/14": (1012611432, 1012608616, 1011202432, 1041979219, 1043963091, 0, 267.03, 0),
    "G/14": (1844440680, 1844437352, 1842775680, 1879144275, 1881914835, 0, 483.75, 0),
}


def six(name: str) -> list[ViTConfig | None]:
    """The configurations of the six columns of counts."""

    def at(**values: Any) -> ViTConfig:
        classes = values.pop("num_classes", 1000)
        config = resolve_model(f"ViT-{name}", num_classes=classes, overrides=values)
        assert isinstance(config, ViTConfig)
        return config

    width = at().width
    return [
        at(),
        at(pool="gap"),
        at(num_classes=0),
        at(num_classes=21_843),
        at(num_classes=21_843, representation_size=width),
        None if name.endswith("14") else at(image_size=384),
    ]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    """By formula, and counted on the module itself."""
    for config, expected in zip(six(name), PUBLISHED[name][:6], strict=True):
        if config is None:
            assert expected == 0
            continue
        assert parameters(config) == expected
        assert sum(value.numel() for value in build(config).parameters()) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_multiply_adds(name: str) -> None:
    """Within 1 %: the published figures have three digits."""
    configs, expected = six(name), PUBLISHED[name]
    for config, billions in ((configs[0], expected[6]), (configs[5], expected[7])):
        if config is not None:
            assert macs(config) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("width", "depth", "num_heads", "mlp_dim", "count", "billions"),
    [
        (192, 12, 3, 768, 5_362_762, 0.365),
        (192, 6, 3, 768, 2_693_578, 0.183),
        (256, 7, 4, 512, 3_722_250, 0.254),  # ViT-Lite-7/4
        (384, 7, 12, 384, 6_268_810, 0.426),
        (384, 6, 6, 1536, 10_695_562, 0.711),
    ],
)
def test_cifar_sizes(
    width: int, depth: int, num_heads: int, mlp_dim: int, count: int, billions: float
) -> None:
    """32 px, patch 4, 10 classes."""
    sizes = {"width": width, "depth": depth, "num_heads": num_heads, "mlp_dim": mlp_dim}
    config = resolve_model("vit_ti4", num_classes=10, image_size=32, overrides=sizes)
    assert parameters(config) == count
    assert macs(config) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "further"),
    [
        ({"posemb_at": "every"}, 11 * 197 * 768),
        ({"posemb_at": "every", "pool": "gap"}, 11 * 196 * 768),
        ({"posemb_at": "every", "posemb": "learned_2d"}, 11 * (14 + 14) * 384),
        ({"posemb_at": "shared"}, 0),
    ],
)
def test_tables_of_every_layer(changes: dict[str, Any], further: int) -> None:
    """Table 8: ViT-B/16 with a table before each of 12 blocks."""
    once = resolve_model("vit_b16", num_classes=5, overrides=changes | {"posemb_at": "stem"})
    config = resolve_model("vit_b16", num_classes=5, overrides=changes)
    assert parameters(config) - parameters(once) == further
    assert sum(value.numel() for value in build(config).parameters()) == parameters(config)


@pytest.mark.parametrize(
    ("name", "image_size", "changes", "millions"),
    [
        ("vit_ti16", 224, {"distillation_token": True}, 5.91),  # DeiT
        ("vit_s16", 224, {"distillation_token": True}, 22.44),
        ("vit_b16", 224, {"distillation_token": True}, 87.34),
        ("vit_b16", 384, {"distillation_token": True}, 87.63),
        ("vit_s16", 224, {"posemb_prefix": False, "layer_scale": 1e-4}, 22.06),  # DeiT III
        ("vit_m16", 224, {"posemb_prefix": False, "layer_scale": 1e-4}, 38.85),
        ("vit_b16", 224, {"posemb_prefix": False, "layer_scale": 1e-4}, 86.59),
        ("vit_l16", 224, {"posemb_prefix": False, "layer_scale": 1e-4}, 304.37),
        ("vit_h14", 224, {"posemb_prefix": False, "layer_scale": 1e-4}, 632.13),
        ("vit_l16", 512, {}, 305.174504),  # torchvision's SWAG models
        ("vit_h14", 518, {}, 633.470440),
    ],
)
def test_published_variants(
    name: str, image_size: int, changes: dict[str, Any], millions: float
) -> None:
    """timm's results tables, to the digits they print."""
    config = resolve_model(name, num_classes=1000, image_size=image_size, overrides=changes)
    digits = len(str(millions).split(".")[1])
    assert round(parameters(config) / 1e6, max(digits, 2)) == millions
    assert sum(value.numel() for value in build(config).parameters()) == parameters(config)


TINY: dict[str, Any] = {
    "image_size": (40, 24),
    "patch_size": (4, 4),
    "width": 48,
    "depth": 3,
    "num_heads": 3,
    "mlp_dim": 160,
    "num_classes": 7,
}


def numbers_kept(config: ModelConfig, batch_size: int) -> int:
    """Numbers that autograd keeps between forward and backward, counted storage by storage."""
    model = create_model(config)
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    images = torch.randn(batch_size, config.channels, *config.image_size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(images)
    return sum(storage.nbytes() for storage in kept.values()) // 4


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"depth": 1},
        {"pool": "gap"},
        {"pool": "map"},
        {"layer_scale": 0.1},
        {"qk_norm": True},
        {"mlp": "swiglu"},
        {"gelu": "quick_gelu"},
        {"gelu": "gelu_tanh"},
        {"dropout": 0.1},
        {"drop_path": 0.1},
        {"posemb": "rope_2d"},
        {"posemb": "learned_rope_2d", "rope": "index"},
        {"pool": "map", "num_registers": 2, "map_prefix": False, "map_heads": 2},
        {"posemb": "relative"},
        {"pre_norm": True},
        {"posemb_at": "every"},
        {"posemb_at": "shared", "posemb": "learned_2d"},
        {"dropout": 0.1, "mlp": "swiglu", "posemb": "sincos_2d", "num_registers": 3},
    ],
    ids=str,
)
def test_activation_memory(changes: dict[str, Any]) -> None:
    """Within 1 %: pooling and head are left out of the formula."""
    config = ViTConfig(**(TINY | changes))
    kept = 4 * numbers_kept(config, batch_size=8)
    assert activation_bytes(config, 8) == pytest.approx(kept, rel=0.01)
    checkpointed = activation_bytes(config, 8, is_checkpointed=True)
    assert checkpointed < activation_bytes(config, 8) or config.depth == 1


# Parameters with 1000 classes; billions of multiply-adds at 224 and 384 px (0: not published).
# google-research/vision_transformer `models_test.py`; timm `results/benchmark-infer-*.csv`.
HYBRIDS: dict[str, tuple[int, float, float]] = {
    "R+ViT-Ti/16": (6_337_704, 0.44, 1.34),
    "R26+ViT-S/32": (36_431_912, 3.56, 10.43),
    "R26+ViT-B/32": (101_383_976, 6.81, 0),
    "R50+ViT-B/16": (98_659_112, 21.66, 67.43),
    "R50+ViT-L/32": (328_994_856, 19.58, 57.43),
    "R50+ViT-B/32": (110_945_832, 0, 0),
}
# Parameters with 1000 and with 21,843 classes; multiply-adds at 224 px and at a larger size.
BITS: dict[str, tuple[int, int, float, tuple[int, float]]] = {
    "BiT-R50x1": (25_549_352, 68_256_659, 4.23, (448, 16.62)),
    "BiT-R50x2": (97_988_712, 183_382_483, 0, (0, 0)),
    "BiT-R50x3": (217_319_080, 345_399_315, 37.06, (448, 145.7)),
    "BiT-R101x1": (44_541_480, 87_248_787, 8.04, (448, 31.65)),
    "BiT-R101x3": (387_934_888, 516_015_123, 71.23, (448, 280.3)),
    "BiT-R152x1": (60_185_128, 102_892_435, 0, (0, 0)),
    "BiT-R152x2": (236_335_208, 321_728_979, 46.95, (448, 185.0)),
    "BiT-R152x4": (936_533_224, 1_107_299_923, 186.9, (480, 844.8)),
    "BiT-R200x3": (568_633_000, 696_713_235, 0, (0, 0)),
}


def counted(config: ModelConfig) -> int:
    return sum(value.numel() for value in build(config).parameters())


@pytest.mark.parametrize("name", HYBRIDS)
def test_published_hybrids(name: str) -> None:
    """Counts exactly, by formula and on the module; multiply-adds within 1 %."""
    count, at_224, at_384 = HYBRIDS[name]
    config = resolve_model(name, num_classes=1000)
    assert parameters(config) == counted(config) == count
    for size, billions in ((224, at_224), (384, at_384)):
        if billions:
            other = resolve_model(name, num_classes=1000, image_size=size)
            assert macs(other) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize("name", BITS)
def test_published_bits(name: str) -> None:
    """Counts exactly, by formula and on the module; multiply-adds within 1 %."""
    few, many, at_224, (larger, at_larger) = BITS[name]
    config = resolve_model(name, num_classes=1000)
    assert parameters(config) == counted(config) == few
    config = resolve_model(name, num_classes=21_843)
    assert parameters(config) == counted(config) == many
    for size, billions in ((224, at_224), (larger, at_larger)):
        if billions:
            other = resolve_model(name, num_classes=1000, image_size=size)
            assert macs(other) / 1e9 == pytest.approx(billions, rel=0.01)


def test_the_other_style_of_residual_network() -> None:
    """big_vision `models/bit.py`, R50 of width 1."""
    config = resolve_model("bit_r50x1_gn", num_classes=1000)
    assert parameters(config) == counted(config) == 25_557_032


def test_compact_convolutional_transformer() -> None:
    """Compact-Transformers states 3.76 M parameters and 1.19 billion multiply-adds at 32 px."""
    config = resolve_model("CCT-7/3x1", num_classes=10)
    assert parameters(config) == counted(config) == 3_765_515
    assert macs(config) / 1e9 == pytest.approx(1.19, rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "seq"},
        {"posemb": "learned_rope_2d", "num_registers": 2},
        {"pool": "map", "map_mlp_dim": 5, "map_heads": 2},
        {"pool": "cls_gap", "representation_size": 5},
        {"pool": "gap", "cls_token": True, "norm_after_pool": True},
        {"stem": "conv", "stem_convs": 3, "stem_kernel": 7, "stem_width": 5, "patch_size": (1, 1)},
        {"stem": "resnet", "stem_width": 32, "patch_size": (2, 3), "pre_norm": True},
        {"stem": "resnet", "stem_root": "small", "stem_stages": (2, 1), "patch_size": (1, 1)},
    ],
    ids=str,
)
def test_counts_of_options(changes: dict[str, Any]) -> None:
    config = ViTConfig(**(TINY | changes))
    assert parameters(config) == counted(config)


def test_multiply_adds_of_a_residual_network_by_hand() -> None:
    """One unit behind a 3x3 root on 2 x 3 pixels; 5 a number in a norm, 4 a standardised weight."""
    config = BiTConfig(
        image_size=(2, 3), depths=(1,), width_factor=0.5, stem="small", num_classes=5
    )
    weights = [9 * 3 * 32, 32 * 32, 9 * 32 * 32, 32 * 128, 32 * 128]
    normed = 6 * (32 + 32 + 32 + 128)
    assert macs(config) == (6 + 4) * sum(weights) + 5 * normed + 128 * 5
    other = config.model_copy(update={"style": "v1_gn"})
    normed = 6 * (32 + 32 + 32 + 128 + 128)
    assert macs(other) == (6 + 4) * sum(weights) + 5 * normed + 128 * 5


SMALL: dict[str, Any] = {"depths": (1, 2), "width_factor": 0.5, "num_classes": 7}
RES: dict[str, Any] = {"image_size": (31, 26), "num_classes": 7}
RESIDUAL: dict[str, Any] = {
    "stem": "residual",
    "stem_stride": 1,
    "stem_widths": (24, 40),
    "stem_strides": (1, 2),
    "stem_depths": (1, 2),
    "depth": 1,
}
STEM: dict[str, Any] = TINY | {"depth": 1, "stem": "resnet", "patch_size": (1, 1)}


@pytest.mark.parametrize(
    "config",
    [
        BiTConfig(image_size=(64, 48), **SMALL),
        BiTConfig(image_size=(63, 45), style="v1_gn", **SMALL),
        BiTConfig(image_size=(64, 48), style="v1_gn", **SMALL),
        BiTConfig(image_size=(12, 16), stem="small", **SMALL),
        BiTConfig(image_size=(12, 16), style="v1_gn", stem="small", **SMALL),
        ViTConfig(**(STEM | {"patch_size": (2, 2)})),
        ViTConfig(**(STEM | {"stem_stages": (1, 2)})),
        ViTConfig(**(STEM | {"stem_stages": (1,), "stem_root": "small", "image_size": (6, 8)})),
        ViTConfig(**(STEM | {"stem": "conv", "stem_convs": 2, "pool": "seq"})),
        ResNetConfig(**RES),
        ResNetConfig(**RES, pool="max"),
        ResNetConfig(**RES, norm="group", relu="sum", depths=(2, 1)),
        ResNetConfig(**RES, norm="group_std", opening="projection", block="bottleneck"),
        ResNetConfig(**RES, relu="sum", block="bottleneck", stem_stride=1),
        ResNetConfig(**RES, opening="projection", pool="mean", depths=(2, 3)),
        ViTConfig(**(TINY | RESIDUAL)),
        ViTConfig(**(TINY | RESIDUAL | {"stem_norm": "group"})),
        ViTConfig(**(TINY | {"depth": 1, "stem": "residual", "stem_stride": 1})),
    ],
    ids=lambda config: f"{config.family}-{config.image_size}",
)
def test_activation_memory_of_an_image(config: ModelConfig) -> None:
    """What one more image adds, within 1 %; kernels as they are applied do not count for each."""
    kept = 4 * (numbers_kept(config, 20) - numbers_kept(config, 16)) / 4
    formula = (activation_bytes(config, 20) - activation_bytes(config, 16)) / 4
    assert formula == pytest.approx(kept, rel=0.01)
    checkpointed = activation_bytes(config, 16, is_checkpointed=True)
    assert checkpointed < activation_bytes(config, 16) or "conv" in str(config)


def test_memory_of_standardised_kernels() -> None:
    """The rest of what is kept, apart from rounding: each kernel once or twice."""
    for style, share in (("v2", 4), ("v1_gn", 8)):
        config = BiTConfig(image_size=(8, 8), style=style, **SMALL)  # type: ignore[arg-type]
        weights = sum(v.numel() for v in build(config).parameters() if v.ndim == 4 and len(v) > 7)
        root = 49 * 3 * 32
        assert standardised_bytes(config) == share * (weights - root)
        one_image = 4 * (numbers_kept(config, 18) - numbers_kept(config, 17))
        fixed = 4 * numbers_kept(config, 17) - 17 * one_image
        assert fixed == pytest.approx(share * weights, rel=0.02)


def test_swiglu_and_pooling_multiply_adds() -> None:
    """By hand, one block of width 4: 5 tokens (4 patches of 2 x 3 pixels and cls)."""
    sizes: dict[str, Any] = {
        "image_size": (4, 6),
        "patch_size": (2, 3),
        "channels": 2,
        "width": 4,
        "depth": 1,
    }
    config = ViTConfig(**sizes, num_heads=2, mlp_dim=3, num_classes=5, mlp="swiglu")
    patches, qkv_out, mixing = 4 * 12 * 4, 5 * 4 * 16, 2 * 25 * 4
    assert macs(config) == patches + qkv_out + mixing + 5 * 3 * 12 + 4 * 5
    pooled = ViTConfig(**sizes, num_heads=2, mlp_dim=3, num_classes=5, pool="map")
    block = 4 * 4 * 16 + 2 * 16 * 4 + 4 * 2 * 12
    pool = 16 + 4 * 32 + 2 * 4 * 4 + 16 + 2 * 12  # q, kv, mixing, projection, MLP of one token
    assert macs(pooled) == patches + block + pool + 4 * 5
    wider = pooled.model_copy(update={"map_mlp_dim": 7})
    assert macs(wider) == macs(pooled) + 2 * 4 * (7 - 3)
