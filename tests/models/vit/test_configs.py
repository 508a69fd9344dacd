"""Bounds, defaults, and settings that are refused. Names: test_names.py."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig

TINY: dict[str, Any] = {
    "image_size": (10, 9),
    "patch_size": (5, 3),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 11,
    "num_classes": 7,
}

ROOT: dict[str, Any] = {"stem": "resnet", "patch_size": (1, 1)}  # map 3 x 3
CONVS: dict[str, Any] = {"stem": "conv", "patch_size": (1, 1), "pool": "seq"}


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"dept": 6}, "VIT-211", "depth"),
        ({"image_size": (10, 8)}, "VIT-214", "width 8 px is not a multiple of the patch width 3"),
        ({"image_size": (3, 9)}, "VIT-214", "height 3 px"),
        ({"depth": 0}, "VIT-222", "depth"),
        ({"depth": "six"}, "VIT-222", "got 'six'"),
        ({"width": 25}, "VIT-222", "width 25 is not a multiple of num_heads 3"),
        ({"layer_scale": 0}, "VIT-222", "layer_scale"),
        ({"layer_scale": -1e-4}, "VIT-222", "layer_scale"),
        ({"dropout": 1.0}, "VIT-222", "dropout"),
        ({"drop_path": float("nan")}, "VIT-222", "drop_path"),
        ({"ln_eps": 0}, "VIT-222", "ln_eps"),
        ({"pool": "mean"}, "VIT-222", "pool"),
        ({"num_registers": 2000}, "VIT-222", "num_registers"),
        ({"pool": "gap", "posemb_prefix": True}, "VIT-222", "no cls token"),
        ({"posemb": "none", "posemb_prefix": True}, "VIT-222", "posemb_prefix has no effect"),
        ({"pool": "gap", "distillation_token": True}, "VIT-222", "distillation_token needs"),
        ({"distillation_token": True, "representation_size": 5}, "VIT-222", "do not go together"),
        ({"num_classes": 0, "head_bias_init": -7}, "VIT-222", "head_bias_init has no effect"),
        ({"mlp": "swiglu", "gelu": "gelu_tanh"}, "VIT-222", "gelu='gelu_tanh' has no effect"),
        ({"depth": 1, "drop_path": 0.1}, "VIT-222", "drop_path has no effect at depth 1"),
        ({"posemb": "none", "posemb_at": "every"}, "VIT-222", "posemb_at='every' has no effect"),
        ({"posemb": "rope_2d", "posemb_at": "shared"}, "VIT-222", "with posemb='rope_2d'"),
        ({"posemb": "relative", "posemb_at": "shared"}, "VIT-222", "with posemb='relative'"),
        ({"posemb": "sincos_2d", "posemb_at": "every"}, "VIT-222", "fixed table is 'shared'"),
        ({"posemb_at": "every", "depth": 1}, "VIT-222", "no effect at depth 1"),
        ({"posemb_at": "twice"}, "VIT-222", "posemb_at"),
        (
            {
                "width": 6144,
                "depth": 256,
                "mlp_dim": 1,
                "num_heads": 3,
                "image_size": (640, 384),
                "posemb_at": "every",
            },
            "VIT-222",
            "billion",
        ),
        ({"posemb": "sincos_2d", "width": 6}, "VIT-222", "multiples of 4"),
        ({"posemb": "sincos_2d", "width": 4, "num_heads": 1}, "VIT-222", "width >= 8"),
        ({"posemb": "learned_2d", "width": 9}, "VIT-222", "multiples of 2"),
        ({"posemb": "rope_2d", "num_heads": 4}, "VIT-222", "width / num_heads in multiples of 4"),
        ({"rope_base": 10.0}, "VIT-222", "rope_base has no effect with posemb='learned'"),
        ({"rope": "index"}, "VIT-222", "rope has no effect with posemb='learned'"),
        ({"posemb": "rope_2d", "rope_start": 1.0}, "VIT-222", "no effect with rope='centred'"),
        ({"posemb": "rope_2d", "rope_grid": (3, 4)}, "VIT-222", "no effect with rope='centred'"),
        ({"posemb": "learned_rope_2d", "num_heads": 4}, "VIT-222", "in multiples of 4"),
        ({"posemb": "rope_2d", "rope_base": 1.0}, "VIT-222", "rope_base"),
        ({"map_heads": 3}, "VIT-222", "map_heads is for pool='map'"),
        ({"pool": "gap", "map_mlp_dim": 3}, "VIT-222", "map_mlp_dim is for pool='map'"),
        ({"pool": "map", "map_heads": 7}, "VIT-222", "not a multiple of map_heads 7"),
        ({"pool": "map", "map_prefix": False}, "VIT-222", "no effect without prefix tokens"),
        ({"pool": "gap", "cls_token": True, "map_prefix": False}, "VIT-222", "map_prefix is for"),
        ({"cls_token": False}, "VIT-222", "pool='cls' needs cls_token"),
        ({"pool": "cls_gap", "cls_token": False}, "VIT-222", "pool='cls_gap' needs cls_token"),
        ({"norm_after_pool": True}, "VIT-222", "norm_after_pool is for pool='gap'"),
        ({"stem_stages": (1,)}, "VIT-222", "stem_stages has no effect with stem='none'"),
        ({"std_eps": 1e-8}, "VIT-222", "std_eps has no effect with stem='none'"),
        (ROOT | {"stem_kernel": 5}, "VIT-222", "stem_kernel has no effect with stem='resnet'"),
        (ROOT | {"stem_stages": (1, 0)}, "VIT-222", "stem_stages"),
        (ROOT | {"stem_stages": (1, 1, 1, 1, 1)}, "VIT-222", "stem_stages"),
        (ROOT | {"stem_width": 48}, "VIT-230", "48 channels"),
        (ROOT | {"patch_size": (2, 1)}, "VIT-214", "3 positions of the resnet stem's feature map"),
        (ROOT | {"stem_width": 16_384, "stem_stages": (256,) * 4}, "VIT-222", "billion"),
        (CONVS | {"gn_eps": 1e-5}, "VIT-222", "gn_eps has no effect with stem='conv'"),
        (CONVS | {"patch_size": (3, 1)}, "VIT-222", "patch_size must be 1"),
        (CONVS | {"stem_kernel": 4}, "VIT-222", "stem_kernel must be odd"),
        (CONVS | {"stem_width": 32}, "VIT-222", "stem_width has no effect with stem_convs=1"),
        ({"image_size": (10_000, 9_000)}, "VIT-222", "6000001 tokens; at most 65536"),
        ({"width": 16_383, "depth": 256, "mlp_dim": 131_072}, "VIT-222", "billion"),
        ({"width": 10**30}, "VIT-222", "width"),
    ],
)
def test_refused(changes: dict[str, Any], code: str, text: str) -> None:
    """Impossible, hostile, or without effect: refused before anything is allocated."""
    with pytest.raises(UsageError) as caught:
        ViTConfig(**(TINY | changes))
    assert caught.value.code == code
    assert text in f"{caught.value.message}\n{caught.value.hint}"


def test_sizes_that_would_fit_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_model("vit_b16", num_classes=2, image_size=(230, 224))
    assert "224 or 240" in caught.value.hint
    assert "2, 5, 10, 23, 46" in caught.value.hint


def test_posemb_prefix_is_true_where_it_can_be() -> None:
    """big_vision and DeiT III set it to False; without cls or a learned table it cannot be."""
    assert ViTConfig(**TINY).posemb_prefix is True
    assert ViTConfig(**TINY, pool="gap").posemb_prefix is False
    assert ViTConfig(**TINY, posemb="rope_2d").posemb_prefix is False
    assert ViTConfig(**TINY, distillation_token=True).posemb_rows == 2 + 6
    assert ViTConfig(**TINY, num_registers=3).posemb_rows == 1 + 6
    assert ViTConfig(**TINY, posemb_prefix=False).posemb_rows == 6


def test_cls_token_may_stand_beside_other_pools() -> None:
    """timm's `global_pool="avg"` keeps it, with its row of the table, out of the mean."""
    config = ViTConfig(**TINY, pool="gap", cls_token=True)
    assert (config.num_prefix, config.posemb_prefix, config.posemb_rows) == (1, True, 7)
    assert ViTConfig(**TINY | {"pool": "gap", "cls_token": "true"}) == config
    assert ViTConfig(**TINY, pool="gap").num_prefix == 0
    assert ViTConfig(**TINY, pool="seq").cls_token is False
    both = ViTConfig(**TINY, pool="cls_gap")
    assert (both.cls_token, both.pooled_width, both.num_features) == (True, 48, 48)


def test_sizes_behind_a_stem() -> None:
    """Every stride-2 layer makes ceil(size / 2); the root has two, stages after the first one."""
    sizes = TINY | ROOT | {"image_size": (50, 33)}
    assert ViTConfig(**sizes).map_size == (13, 9)
    assert ViTConfig(**sizes | {"stem_stages": "2,1,3"}).map_size == (4, 3)
    assert ViTConfig(**sizes, stem_stages=(2, 1, 3)).map_channels == 1024
    assert ViTConfig(**sizes | {"stem_stages": 2, "stem_root": "small"}).map_size == (50, 33)
    units = ViTConfig(**sizes, stem_stages=(1, 2)).stem_units
    shapes = [(u.num_in, u.num_mid, u.num_out, u.stride, u.has_projection) for u in units]
    assert shapes == [
        (64, 64, 256, 1, True),
        (256, 128, 512, 2, True),
        (512, 128, 512, 1, False),
    ]
    assert (units[1].in_size, units[1].out_size) == ((13, 9), (7, 5))
    convs = TINY | CONVS | {"image_size": (50, 33), "stem_kernel": 7}
    assert ViTConfig(**convs).grid == (13, 9)  # stride 2, then the pool


def test_bit_fields() -> None:
    """The numbers of a style are filled in; a field that is given stays."""
    text: dict[str, Any] = {"depths": "1,2", "width_factor": "0.5"}
    config = BiTConfig(image_size=(50, 33), **text)
    assert (config.std_eps, config.std_form, config.gn_eps) == (1e-10, "inside", 1e-5)
    assert (config.stem_width, config.num_features, config.map_size) == (32, 256, (7, 5))
    other = BiTConfig(image_size=(50, 33), depths=(1, 2), style="v1_gn", gn_eps=1e-3)
    assert (other.std_eps, other.std_form, other.gn_eps) == (1e-5, "outside", 1e-3)
    assert BiTConfig(image_size=(50, 50), depths=(3,), stem="small").map_size == (50, 50)
    assert BiTConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"depth": 6}, "VIT-211", "depths"),
        ({"pool": "gap"}, "VIT-211", "unknown field of the model: pool"),
        ({"depths": ()}, "VIT-222", "depths"),
        ({"depths": "3,x"}, "VIT-222", "depths"),
        ({"width_factor": 0.6}, "VIT-230", "width_factor 0.6 gives a stem of 38 channels"),
        ({"width_factor": 64, "depths": (256,) * 4}, "VIT-222", "billion"),
        ({"head_bias_init": -7.0}, "VIT-222", "head_bias_init has no effect"),
        ({"style": "v3"}, "VIT-222", "style"),
    ],
)
def test_refused_bit(changes: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        BiTConfig(**({"image_size": (50, 33), "depths": (1, 2)} | changes))
    assert caught.value.code == code
    assert text in f"{caught.value.message}\n{caught.value.hint}"


def test_token_counts() -> None:
    config = ViTConfig(**TINY, distillation_token=True, num_registers=3)
    assert (config.grid, config.num_patches) == ((2, 3), 6)
    assert (config.num_prefix, config.num_tokens) == (5, 11)


def test_json_round_trip_and_frozen() -> None:
    config = ViTConfig(**TINY, pool="map", representation_size=5, layer_scale=0.1)
    assert ViTConfig.model_validate_json(config.model_dump_json()) == config
    assert len({config, ViTConfig(**config.model_dump())}) == 1
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, "depth", 3)  # noqa: B010


def test_json_is_checked_like_arguments() -> None:
    text = ViTConfig(**TINY).model_dump_json()
    with pytest.raises(UsageError, match="VIT-222"):
        ViTConfig.model_validate_json(text.replace('"depth":2', '"depth":2000'))
    with pytest.raises(UsageError, match="VIT-211"):
        ViTConfig.model_validate_json(text.replace('"depth":2', '"depth":2,"evil":1'))


def test_no_torch() -> None:
    """Checking a configuration takes milliseconds."""
    code = "import sys, vitrail.models.names, vitrail.models.cost; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
