"""File names of AugReg: the published ones, both ways, and every part wrong once (spec 2.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.checkpoints.catalogue.augreg_names import (
    DROPS,
    EPOCHS,
    LEVELS,
    RESOLUTIONS,
    SLUGS,
    TASKS,
    WEIGHT_DECAYS,
    Adapted,
    AugRegName,
    is_augreg,
    parse_augreg,
)
from vitrail.errors import ModelError

# vision_transformer README, table of recommended models, row R50+L/32
HYBRID = (
    "R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"
    "--imagenet2012-steps_20k-lr_0.01-res_384"
)
PLAIN = "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"


def test_a_published_name() -> None:
    name = parse_augreg(HYBRID + ".npz")
    assert name == AugRegName(
        "R50_L_32", "i21k", 0.001, "medium1", 0.1, 0.1, Adapted("imagenet2012", 20, 0.01, 384)
    )
    assert (name.slug, name.image_size, name.num_classes) == ("r50_vit_l32", (384, 384), 1000)
    assert str(name) == HYBRID
    assert name.adapted is not None
    assert name.adapted.steps == 20_000


def test_a_pretrained_name() -> None:
    name = parse_augreg(PLAIN)
    assert (name.slug, name.image_size, name.num_classes) == ("vit_ti16", (224, 224), 21843)
    assert name.epochs == 300
    assert str(name) == PLAIN


@pytest.mark.parametrize(("thousands", "steps"), [(0, 500), (2, 2500), (10, 10_000)])
def test_steps_are_cut_to_thousands(thousands: int, steps: int) -> None:
    name = parse_augreg(f"{PLAIN}--oxford_iiit_pet-steps_{thousands}k-lr_0.003-res_224")
    assert name.adapted is not None
    assert name.adapted.steps == steps
    assert name.num_classes == 37


def test_the_count_of_pretrained_files() -> None:
    """7 levels x 2 decays x 2 drops = 28 recipes x 9 models x 3 data sets + 3 of B/8 = 759."""
    recipes = len(LEVELS) * len(WEIGHT_DECAYS) * len(DROPS)
    assert recipes * (len(SLUGS) - 1) * len(EPOCHS) + 3 == 759


rates = st.sampled_from((0.0003, 0.001, 0.003, 0.01, 0.03)) | st.floats(1e-9, 99)
adaptations = st.builds(
    Adapted,
    st.sampled_from(sorted(TASKS)),
    st.integers(0, 9999),
    rates,
    st.sampled_from(RESOLUTIONS),
)
names = st.builds(
    AugRegName,
    st.sampled_from(sorted(SLUGS)),
    st.sampled_from(sorted(EPOCHS)),
    rates.filter(lambda rate: "-" not in str(rate)),
    st.sampled_from(LEVELS),
    st.sampled_from([float(decay) for decay in WEIGHT_DECAYS]),
    st.sampled_from([float(drop) for drop in DROPS]),
    st.none() | adaptations.filter(lambda adapted: "-" not in str(adapted.lr)),
)


@given(names)
def test_written_and_read_back(name: AugRegName) -> None:
    assert parse_augreg(str(name)) == name
    assert parse_augreg(f"{name}.npz") == name
    assert is_augreg(str(name))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("R50_L_32", "R50_L_16", "R50_L_16"),
        ("-i21k-", "-i22k-", "i22k"),
        ("-300ep-", "-30ep-", "30ep"),
        ("-lr_0.001-", "-lr_0.0010-", "lr_0.0010"),
        ("-lr_0.001-", "-lr_nan-", "lr_nan"),
        ("-lr_0.001-", "-rate_0.001-", "rate_0.001"),
        ("medium1", "medium3", "aug_medium3"),
        ("wd_0.1", "wd_0.3", "wd_0.3"),
        ("do_0.1", "do_0.2", "do_0.2"),
        ("sd_0.1", "sd_0.0", "sd_0.0"),
        ("imagenet2012", "imagenet", "imagenet"),
        ("steps_20k", "steps_20", "steps_20"),
        ("steps_20k", "steps_020k", "steps_020k"),
        ("-lr_0.01-", "-lr_-", "lr_"),
        ("res_384", "res_385", "res_385"),
        ("--imagenet2012-steps_20k-lr_0.01-res_384", "--", "nothing"),
        ("-aug_medium1", "", "8 parts"),
    ],
)
def test_a_wrong_part_is_named(old: str, new: str, part: str) -> None:
    assert old in HYBRID
    with pytest.raises(ModelError) as caught:
        parse_augreg(HYBRID.replace(old, new))
    assert caught.value.code == "VIT-462"
    assert part in caught.value.message
    assert "no AugReg file" in caught.value.message


@pytest.mark.parametrize("name", ["ViT-B_16", "BiT-M-R50x1", "R50+ViT-B_16.npz", "vit_b16", ""])
def test_other_names_are_not_meant(name: str) -> None:
    assert not is_augreg(name)
