"""Preprocess against Pillow and closed forms; golden tensors: test_preprocess_golden.py."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.preprocess import Preprocess, gray_pixels, short_side
from vitrail.data.images.tf_resize import tf_resize
from vitrail.errors import DataError

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def picture(
    height: int, width: int, channels: int = 3, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise: every rounding error of a resize shows."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_squash_is_pillows_resize_bit_for_bit(interpolation: str) -> None:
    pixels = picture(53, 31)
    rule = Preprocess.from_json(
        {"height": 23, "width": 37, "resize": [23, 37], "interpolation": interpolation}
    )
    expected = Image.fromarray(pixels).resize((37, 23), Image.Resampling[interpolation.upper()])
    assert np.array_equal(rule.pixels(pixels), np.asarray(expected))


def test_short_side_then_centre_crop_follows_torchvision_rounding() -> None:
    pixels = picture(101, 67)
    rule = Preprocess(height=32, width=32, resize=37, crop="center", interpolation="bilinear")
    resized = Image.fromarray(pixels).resize((37, int(37 * 101 / 67)), Image.Resampling.BILINEAR)
    top, left = round((resized.height - 32) / 2), round((37 - 32) / 2)  # halves to even: 2.5 -> 2
    expected = np.asarray(resized)[top : top + 32, left : left + 32]
    assert rule.resized(101, 67) == (55, 37)
    assert np.array_equal(rule.pixels(pixels), expected)


@pytest.mark.parametrize(("crop", "offset"), [("center", 2), ("center_floor", 1)])
def test_the_two_centres_differ_by_one_px_where_the_room_is_odd(crop: str, offset: int) -> None:
    pixels = picture(13, 11)
    rule = Preprocess.model_validate({"height": 10, "width": 11, "resize": (13, 11), "crop": crop})
    assert np.array_equal(rule.pixels(pixels), pixels[offset : offset + 10])


def test_a_target_that_is_not_square_is_covered() -> None:
    rule = Preprocess(height=20, width=40, resize=20, crop="center")
    assert rule.resized(100, 100) == (40, 40)
    assert rule.resized(10, 400) == (20, 800)
    assert rule.pixels(picture(37, 41)).shape == (20, 40, 3)


def test_short_side_is_timms_floor() -> None:
    assert [
        short_side(224, 0.9),
        short_side(224, 0.875),
        short_side(384, 1.0),
        short_side(64, 0.9),
    ] == [248, 256, 384, 71]


def test_call_is_pixels_scaled_and_normalised() -> None:
    pixels = picture(7, 5)
    rule = Preprocess(height=7, width=5, resize=(7, 5), **IMAGENET)
    result = rule(pixels)
    expected = (pixels / 255 - np.array(IMAGENET["mean"])) / np.array(IMAGENET["std"])
    assert result.shape == (3, 7, 5)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    np.testing.assert_allclose(result.numpy(), expected.transpose(2, 0, 1), atol=1e-6)


def test_gray_model_sees_pillows_luma_and_a_gray_image_fills_three_channels() -> None:
    pixels = picture(11, 13)
    gray_rule = Preprocess(height=11, width=13, resize=(11, 13), mean=(0.5,), std=(0.5,))
    assert gray_rule.channels == 1
    assert np.array_equal(
        gray_rule.pixels(pixels)[:, :, 0], np.asarray(Image.fromarray(pixels).convert("L"))
    )
    assert np.array_equal(gray_pixels(pixels), gray_rule.pixels(pixels))
    one = picture(11, 13, 1)
    color_rule = Preprocess(height=11, width=13, resize=(11, 13))
    assert np.array_equal(color_rule.pixels(one), np.repeat(one, 3, axis=2))
    assert gray_rule(one).shape == (1, 11, 13)


def test_every_kind_of_input_gives_one_tensor(tmp_path: Path) -> None:
    pixels = picture(19, 17)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=image.getexif())
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue())
    rule = Preprocess(height=17, width=19, resize=(17, 19))
    expected = rule(np.ascontiguousarray(np.rot90(pixels, -1)))
    with Image.open(path) as opened:
        given = [rule(buffer.getvalue()), rule(str(path)), rule(path), rule(opened)]
    for tensor in given:
        assert torch.equal(tensor, expected)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(1, 64),
    extra=st.integers(0, 9),
)
def test_any_image_gives_the_shape_asked_for(
    height: int, width: int, size: int, extra: int
) -> None:
    rule = Preprocess(
        height=size, width=size, resize=size + extra, crop="center", interpolation="nearest"
    )
    tall, wide = rule.resized(height, width)
    assert min(tall, wide) == size + extra
    assert abs(tall * width - wide * height) <= max(height, width)  # the aspect is kept to one px
    if max(tall, wide) < 2000:
        assert rule.pixels(np.zeros((height, width, 3), np.uint8)).shape == (size, size, 3)


def test_json_round_trip_and_refusals() -> None:
    rule = Preprocess(height=224, width=192, resize=248, crop="center", **IMAGENET)
    assert Preprocess.from_json(json.loads(json.dumps(rule.to_json()))) == rule
    good = rule.to_json()
    changes: list[tuple[dict[str, Any], str]] = [
        ({"crop": "none"}, "without a crop"),
        ({"resize": 100}, "smaller"),
        ({"std": [0, 1, 1]}, "above 0"),
        ({"mean": [0.5, 0.5]}, "1 or 3"),
        ({"resize": [300, 100]}, "smaller"),
        ({"bogus": 1}, "bogus"),
        ({"height": 10**9}, "height"),
        ({"interpolation": "cubic"}, "interpolation"),
    ]
    for change, word in changes:
        with pytest.raises(DataError, match=word) as caught:
            Preprocess.from_json(good | change)
        assert caught.value.code == "VIT-329"


def test_arrays_that_are_no_8_bit_images_are_refused_by_name() -> None:
    rule = Preprocess(height=4, width=4, resize=(4, 4))
    for array in (
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(DataError, match="uint8") as caught:
            rule(array)  # type: ignore[arg-type]
        assert caught.value.code == "VIT-328"
    with pytest.raises(DecodeFault, match="empty file"):
        rule(b"")


GOOGLE: dict[str, Any] = {
    "height": 23,
    "width": 37,
    "resize": (23, 37),
    "interpolation": "bilinear",
    "resizer": "tensorflow",
    "antialias": False,
}


def test_tensorflows_resize_is_cut_to_8_bits_or_kept() -> None:
    pixels = picture(53, 31)
    exact = tf_resize(pixels, 23, 37, "bilinear")
    cut = Preprocess.model_validate(GOOGLE)
    kept = Preprocess.model_validate(GOOGLE | {"keep_floats": True})
    assert cut.values(pixels).dtype == np.uint8
    assert np.array_equal(cut.pixels(pixels), np.floor(exact))
    assert kept.values(pixels).dtype == np.float32
    assert np.array_equal(kept.values(pixels), exact)
    assert np.array_equal(kept.pixels(pixels), np.rint(exact))
    expected = (exact.transpose(2, 0, 1) - 127.5) / 127.5
    np.testing.assert_allclose(kept(pixels).numpy(), expected, atol=2e-7)
    gray = Preprocess.model_validate(GOOGLE | {"mean": (0.5,), "std": (0.5,)})
    assert gray(pixels).shape == (1, 23, 37)
    assert cut(picture(53, 31, 1)).shape == (3, 23, 37)


def test_big_vision_rounds_both_sides_to_the_nearest() -> None:
    """73 x 101 px at a short side of 10: 101 * 10 / 73 = 13.8, where Pillow's rule gives 13."""
    rule = Preprocess.model_validate(
        GOOGLE | {"height": 7, "width": 7, "resize": 10, "crop": "center_floor"}
    )
    assert rule.resized(73, 101) == (10, 14)
    assert rule.model_copy(update={"resizer": "pillow"}).resized(73, 101) == (10, 13)
    assert rule.pixels(picture(73, 101)).shape == (7, 7, 3)


def test_records_of_pillow_are_written_and_read_as_ever() -> None:
    old = {
        "height": 4,
        "width": 5,
        "resize": [4, 5],
        "crop": "none",
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    assert Preprocess.from_json(old).to_json() == old
    assert Preprocess.from_json(old).crop_interpolation == "bicubic"
    google = Preprocess.model_validate(GOOGLE | {"keep_floats": True})
    assert Preprocess.from_json(json.loads(json.dumps(google.to_json()))) == google
    area = Preprocess.model_validate(GOOGLE | {"interpolation": "area", "antialias": True})
    assert area.crop_interpolation == "bilinear"


def test_settings_without_effect_on_the_resizer_are_refused() -> None:
    good = Preprocess(height=4, width=4, resize=(4, 4)).to_json()
    changes: list[tuple[dict[str, Any], str]] = [
        ({"interpolation": "area"}, "need resizer=tensorflow"),
        ({"antialias": False}, "need resizer=tensorflow"),
        ({"keep_floats": True}, "need resizer=tensorflow"),
        ({"resizer": "tensorflow"}, "got bicubic with antialias=True"),
        ({"resizer": "tensorflow", "interpolation": "area", "antialias": False}, "got area"),
        ({"resizer": "opencv"}, "resizer"),
    ]
    for change, words in changes:
        with pytest.raises(DataError, match=words) as caught:
            Preprocess.from_json(good | change)
        assert caught.value.code == "VIT-329"
