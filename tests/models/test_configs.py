"""Names, overrides, bounds, and settings that are refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import UsageError
from vitrail.models.configs import ViTConfig
from vitrail.models.names import VARIANTS, known_names, resolve_model, slug

# Width, depth, MLP, heads: arXiv 2010.11929 Table 1 (B, L, H); big_vision `decode_variant`, timm.
TABLE = {
    "mu": (32, 1, 128, 2),
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "M": (512, 12, 2048, 8),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "So400m": (1152, 27, 4304, 16),
    "H": (1280, 32, 5120, 16),
    "g": (1408, 40, 6144, 16),
    "G": (1664, 48, 8192, 16),
    "e": (1792, 56, 15360, 16),
}
TINY: dict[str, Any] = {
    "image_size": (10, 9),
    "patch_size": (5, 3),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 11,
    "num_classes": 7,
}


@pytest.mark.parametrize("letter", TABLE)
def test_published_sizes(letter: str) -> None:
    config = resolve_model(f"ViT-{letter}/14", num_classes=1000)
    assert (config.width, config.depth, config.mlp_dim, config.num_heads) == TABLE[letter]
    assert config.image_size == (224, 224)
    assert config.grid == (16, 16)
    assert set(TABLE) == set(VARIANTS)


@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 97), st.integers(1, 9))
def test_paper_name_and_slug_mean_the_same(letter: str, patch: int, patches: int) -> None:
    config = resolve_model(f"ViT-{letter}/{patch}", num_classes=3, image_size=patch * patches)
    assert config == resolve_model(slug(letter, patch), num_classes=3, image_size=patch * patches)
    assert config.grid == (patches, patches)


def test_names_in_any_case_and_patch_shape() -> None:
    assert resolve_model("VIT_B16", num_classes=2) == resolve_model("vit-b/16", num_classes=2)
    config = resolve_model("ViT-S/8x14", num_classes=2)
    assert config.patch_size == (8, 14)
    assert config.grid == (28, 16)
    giants = [resolve_model(name, num_classes=2).width for name in ("vit_g14", "vit_G14")]
    assert giants == [1408, 1664]
    assert slug("G", 14) == "vit_gigantic14"


def test_slugs_differ_where_case_is_ignored() -> None:
    names = known_names()
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert resolve_model(name, num_classes=2).num_classes == 2


def test_vit_digits() -> None:
    config = resolve_model("vit_digits", num_classes=10, channels=1)
    sizes = (config.width, config.depth, config.num_heads, config.mlp_dim, config.patch_size)
    assert sizes == (48, 4, 4, 192, (2, 2))
    assert config.image_size == (8, 8)
    assert config == resolve_model("ViT-digits", num_classes=10, channels=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vit_b61x", "vit_b16"), ("vitb16", "vit_b16"), ("vit_x16", "vit_"), ("resnet50", "Known:")],
)
def test_unknown_name_offers_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        resolve_model(name, num_classes=2)
    assert caught.value.code == "VIT-221"
    assert name in caught.value.message


def test_overrides_as_text() -> None:
    """What a command line passes."""
    text = {"depth": "6", "image_size": "64x48", "layer_scale": "1e-4", "qk_norm": "true"}
    config = resolve_model("vit_ti16", num_classes=5, overrides=text)
    assert (config.depth, config.image_size, config.grid) == (6, (64, 48), (4, 3))
    assert config.layer_scale == 1e-4
    assert config.qk_norm is True
    assert resolve_model("vit_ti16", num_classes=5, overrides={"layer_scale": "none"}).depth == 12


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
        ({"posemb": "sincos_2d", "width": 6}, "VIT-222", "multiples of 4"),
        ({"posemb": "sincos_2d", "width": 4, "num_heads": 1}, "VIT-222", "width >= 8"),
        ({"posemb": "learned_2d", "width": 9}, "VIT-222", "multiples of 2"),
        ({"posemb": "rope_2d", "num_heads": 4}, "VIT-222", "width / num_heads in multiples of 4"),
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
    code = (
        "import sys, vitrail.models.configs, vitrail.models.cost; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
