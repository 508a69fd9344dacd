"""The preprocessing of adapted models, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vitrail.checkpoints.adapt_preprocess import adapt_preprocess
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.names import ModelConfig, resolve_model

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def model(size: object, channels: int = 3) -> ModelConfig:
    small = {"image_size": size, "depth": 1}
    return resolve_model("vit_ti16", num_classes=2, channels=channels, overrides=small)


def test_nothing_changes_for_the_same_pictures() -> None:
    rule = Preprocess(height=224, width=224, resize=256, crop="center", **IMAGENET)
    assert adapt_preprocess(rule, model(224)) == (rule, [])


def test_the_short_side_keeps_its_ratio_and_a_squash_stays_one() -> None:
    rule = Preprocess(height=224, width=224, resize=256, crop="center", **IMAGENET)
    larger, said = adapt_preprocess(rule, model(384))
    assert (larger.height, larger.width, larger.resize) == (384, 384, 438)
    assert said == ["preprocess: 224x224 px become 384x384 px (resize 256 becomes 438)."]
    same = {"mean", "std", "crop", "interpolation"}
    assert larger.model_dump(include=same) == rule.model_dump(include=same)
    wide, _ = adapt_preprocess(rule, model((224, 448)))
    assert wide.resize == 256
    google = Preprocess(
        height=224,
        width=224,
        resize=(224, 224),
        interpolation="bilinear",
        resizer="tensorflow",
        antialias=False,
        keep_floats=True,
    )
    squashed, _ = adapt_preprocess(google, model((384, 192)))
    assert squashed.resize == (384, 192)
    assert squashed.keep_floats
    deit = Preprocess(height=224, width=224, resize=(256, 256), crop="center_floor")
    assert adapt_preprocess(deit, model((448, 112)))[0].resize == (512, 128)


def test_gray_takes_the_mean_over_the_channels_and_color_repeats_it() -> None:
    rule = Preprocess(height=224, width=224, resize=(224, 224), **IMAGENET)
    gray, said = adapt_preprocess(rule, model(224, 1))
    assert gray.mean == pytest.approx((0.449,))
    assert gray.std == pytest.approx((0.226,))
    assert said == [
        "preprocess: pictures of 3 channels become 1, with mean 0.449 and std 0.226 in each."
    ]
    color, _ = adapt_preprocess(gray, model(224, 3))
    assert color.mean == gray.mean * 3
    with pytest.raises(ModelError, match="takes 5 channels") as caught:
        adapt_preprocess(rule, model(224, 5))
    assert caught.value.code == "VIT-455"
