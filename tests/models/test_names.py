"""Names: what they stand for, spellings, overrides, and names that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import (
    VARIANTS,
    config_from_numbers,
    full_name,
    known_names,
    parse_name,
    resolve_model,
    slug,
)
from vitrail.models.vit.config import ViTConfig

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


def vit(name: str, **settings: Any) -> ViTConfig:
    """A named ViT."""
    config = resolve_model(name, **settings)
    assert isinstance(config, ViTConfig)
    return config


def bit(name: str, **settings: Any) -> BiTConfig:
    """A named BiT."""
    config = resolve_model(name, **settings)
    assert isinstance(config, BiTConfig)
    return config


@pytest.mark.parametrize("letter", TABLE)
def test_published_sizes(letter: str) -> None:
    config = vit(f"ViT-{letter}/14", num_classes=1000)
    assert (config.width, config.depth, config.mlp_dim, config.num_heads) == TABLE[letter]
    assert config.image_size == (224, 224)
    assert config.grid == (16, 16)
    assert set(TABLE) == set(VARIANTS)


@given(st.sampled_from(sorted(VARIANTS)), st.integers(1, 97), st.integers(1, 9))
def test_paper_name_and_slug_mean_the_same(letter: str, patch: int, patches: int) -> None:
    config = vit(f"ViT-{letter}/{patch}", num_classes=3, image_size=patch * patches)
    assert config == resolve_model(slug(letter, patch), num_classes=3, image_size=patch * patches)
    assert config.grid == (patches, patches)


def test_names_in_any_case_and_patch_shape() -> None:
    assert resolve_model("VIT_B16", num_classes=2) == resolve_model("vit-b/16", num_classes=2)
    config = vit("ViT-S/8x14", num_classes=2)
    assert config.patch_size == (8, 14)
    assert config.grid == (28, 16)
    giants = [vit(name, num_classes=2).width for name in ("vit_g14", "vit_G14")]
    assert giants == [1408, 1664]
    assert slug("G", 14) == "vit_gigantic14"


def test_slugs_differ_where_case_is_ignored() -> None:
    names = known_names()
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert resolve_model(name, num_classes=2).num_classes == 2


def test_vit_digits() -> None:
    config = vit("vit_digits", num_classes=10, channels=1)
    sizes = (config.width, config.depth, config.num_heads, config.mlp_dim, config.patch_size)
    assert sizes == (48, 4, 4, 192, (2, 2))
    assert config.image_size == (8, 8)
    assert config == resolve_model("ViT-digits", num_classes=10, channels=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_b61x", "vit_b16"),
        ("vitb16", "vit_b16"),
        ("vit_x16", "vit_"),
        ("xyz", "Known:"),
        ("resnet50", "nearest is bit_r50x1"),
        ("vit_base_patch16_224", "Here it is vit_b16"),
    ],
)
def test_unknown_name_offers_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        resolve_model(name, num_classes=2)
    assert caught.value.code == "VIT-221"
    assert name in caught.value.message


def test_overrides_as_text() -> None:
    """What a command line passes."""
    text = {"depth": "6", "image_size": "64x48", "layer_scale": "1e-4", "qk_norm": "true"}
    config = vit("vit_ti16", num_classes=5, overrides=text)
    assert (config.depth, config.image_size, config.grid) == (6, (64, 48), (4, 3))
    assert config.layer_scale == 1e-4
    assert config.qk_norm is True
    assert vit("vit_ti16", num_classes=5, overrides={"layer_scale": "none"}).depth == 12


# Stages, patch on the map, tokens without cls at 224 px: vision_transformer `configs/models.py`.
HYBRIDS = {
    "R+ViT-Ti/16": ((), 8, 49),
    "R26+ViT-S/32": ((2, 2, 2, 2), 1, 49),
    "R26+ViT-B/32": ((2, 2, 2, 2), 1, 49),
    "R50+ViT-B/16": ((3, 4, 9), 1, 196),
    "R50+ViT-B/32": ((3, 4, 6, 3), 1, 49),
    "R50+ViT-L/16": ((3, 4, 9), 1, 196),
    "R50+ViT-L/32": ((3, 4, 6, 3), 1, 49),
    "R26+ViT-Ti/16": ((2, 2, 4), 1, 196),
    "R101+ViT-L/16": ((3, 4, 26), 1, 196),
    "R200+ViT-H/32": ((3, 24, 36, 3), 1, 49),
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_hybrids(name: str) -> None:
    """Behind /16 the units of stage 4 stand in stage 3; without stages the stem has stride 4."""
    config = vit(name, num_classes=1000)
    stages, patch, tokens = HYBRIDS[name]
    assert (config.stem, config.stem_stages, config.patch_size) == (
        "resnet",
        stages,
        (patch, patch),
    )
    assert config.num_patches == tokens
    letter = name.split("-")[1].split("/")[0]
    assert (config.width, config.depth, config.mlp_dim, config.num_heads) == TABLE[letter]
    assert (config.std_eps, config.std_form, config.gn_eps) == (1e-5, "outside", 1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ("R50+ViT-B/16", "r50_vit_b16", "R50+B/16", "r50-vit-b-16", "R50x1+ViT-B/16"),
        ("R+ViT-Ti/16", "r_vit_ti16", "R+Ti/16", "R_Ti_16"),
        ("R26+ViT-S/32", "R26_S_32", "R26+S/32"),
        ("BiT-R50x1", "bit_r50x1", "BIT_R50X1", "bit-r50x1.0"),
        ("BiT-R50x1-GN", "bit_r50x1_gn"),
        ("bit_r26x1_gn_small", "BiT-R26x1-small-GN"),
        ("CCT-7/3x1", "cct_7_3x1", "cct-7-3x1"),
    ],
)
def test_spellings(names: tuple[str, ...]) -> None:
    assert len({resolve_model(name, num_classes=3) for name in names}) == 1


def test_bits() -> None:
    config = bit("BiT-R152x4", num_classes=21_843)
    assert (config.depths, config.width_factor, config.style) == ((3, 8, 36, 3), 4.0, "v2")
    assert (config.num_features, config.map_size) == (8192, (7, 7))
    small = bit("bit_r26x0.5_gn_small", num_classes=10)
    assert (small.style, small.stem, small.stem_width) == ("v1_gn", "small", 32)
    assert (small.image_size, small.map_size) == ((32, 32), (4, 4))
    assert vit("r50x2_vit_l32", num_classes=2).stem_width == 128


def test_compact_convolutional_transformers() -> None:
    """Compact-Transformers `src/cct.py`: blocks, width, heads and the MLP's share."""
    config = vit("CCT-7/3x1", num_classes=10)
    assert (config.depth, config.width, config.num_heads, config.mlp_dim) == (7, 256, 4, 512)
    assert (config.pool, config.grid, config.image_size) == ("seq", (16, 16), (32, 32))
    large = vit("cct_14_7x2", num_classes=1000)
    assert (large.depth, large.width, large.num_heads, large.mlp_dim) == (14, 384, 6, 1152)
    assert (large.image_size, large.conv_stride, large.grid) == ((224, 224), 2, (14, 14))


@pytest.mark.parametrize(
    "name",
    [
        *("R51+ViT-B/16", "R50+ViT-B/14", "R+ViT-Ti/15", "R+ViT-Ti/0", "R50+ViT-Q/16", "R50"),
        *("bit_r50", "bit_r50x0", "bit_r51x1", "bit_r50x1_gn_gn", "bit_m_r50x1"),
        *("cct_7", "cct_5_3x1", "cct_7_4x1", "cct_7_3x0", "", " ", "vit_"),
    ],
)
def test_what_is_no_name(name: str) -> None:
    assert parse_name(name) is None
    with pytest.raises(UsageError, match="VIT-221"):
        resolve_model(name, num_classes=2)


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_none(text: str) -> None:
    named = parse_name(text)
    assert named is None or resolve_model(text, num_classes=2, overrides={}).num_classes == 2


def test_numbers_make_the_configuration_again() -> None:
    for name in known_names():
        config = resolve_model(name, num_classes=5)
        assert config_from_numbers(config.family, config.model_dump(mode="json")) == config
    with pytest.raises(UsageError, match="vit") as caught:
        config_from_numbers("vgg", {})
    assert caught.value.code == "VIT-231"


@pytest.mark.parametrize("name", known_names())
def test_a_published_size_has_its_name_alone(name: str) -> None:
    config = resolve_model(name, num_classes=7, image_size=None, channels=1)
    assert full_name(name, config.model_dump()) == name
    assert full_name(name, config.model_dump(mode="json")) == name


def test_what_is_other_than_the_name_says_is_told() -> None:
    config = resolve_model("vit_ti8", num_classes=7, overrides={"width": 96, "depth": 2})
    assert full_name("vit_ti8", config.model_dump(mode="json")) == "vit_ti8 with width 96, depth 2"
    bit = resolve_model("bit_r26x1", num_classes=7, overrides={"depths": (1, 1, 1, 1)})
    assert full_name("bit_r26x1", bit.model_dump()) == "bit_r26x1 with depths 1x1x1x1"
    assert full_name("of mine", {"width": 3}) == "of mine"
    assert full_name("vit_ti8", {"width": "<b>"}) == "vit_ti8 with width <b>"
