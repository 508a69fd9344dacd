"""TensorFlow's resize: its own results bit for bit, closed forms, and what antialias is for."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.images.tf_resize import Method, tf_resize

REFERENCE = Path(__file__).parents[2] / "reference" / "tf_resize.npz"
METHODS: tuple[Method, ...] = get_args(Method)
SIDE = st.integers(1, 40)


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_every_bit_is_tensorflows(method: Method) -> None:
    """Smaller, larger, both at once, to and from one pixel, at prime sizes (TensorFlow 2.21.0)."""
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        keys = [key for key in arrays.files if key.endswith(f"_{method}")]
        keys = [key for key in keys if method != "bilinear" or "antialias" not in key]
        for key in keys:
            expected = arrays[key]
            height, width, _ = expected.shape
            found = tf_resize(arrays[key.removesuffix(f"_{method}")], height, width, method)
            assert found.dtype == expected.dtype == np.float32
            assert np.array_equal(found, expected), key
    assert len(keys) == 6


def test_half_pixel_centres_by_hand() -> None:
    """Two pixels to four: the new centres lie at -.25, .25, .75 and 1.25."""
    pixels = np.array([[[0], [100]]], np.uint8)
    for method in ("bilinear", "bilinear_antialias"):
        assert tf_resize(pixels, 1, 4, method).ravel().tolist() == [0.0, 25.0, 75.0, 100.0]
    assert tf_resize(pixels, 1, 4, "area").ravel().tolist() == [0.0, 0.0, 100.0, 100.0]


def test_without_antialias_most_of_a_large_image_is_never_looked_at() -> None:
    pixels = np.zeros((1, 90, 1), np.uint8)
    pixels[0, 1::9] = 255  # one column in nine; samples are between columns 4 and 5 of nine
    assert not tf_resize(pixels, 1, 10, "bilinear").any()
    assert tf_resize(pixels, 1, 10, "area").ravel().tolist() == pytest.approx([255 / 9] * 10)
    smooth = tf_resize(pixels, 1, 10, "bilinear_antialias").ravel()
    assert smooth[1:-1].tolist() == pytest.approx([255 / 9] * 8, rel=0.05)


@settings(deadline=None)
@given(height=SIDE, width=SIDE, new_height=SIDE, new_width=SIDE, method=st.sampled_from(METHODS))
def test_laws(height: int, width: int, new_height: int, new_width: int, method: Method) -> None:
    """The same size is the same image; results stay in range; flat stays flat; axes are alike."""
    pixels = picture(height, width)
    assert np.array_equal(tf_resize(pixels, height, width, method), pixels)
    found = tf_resize(pixels, new_height, new_width, method)
    assert found.shape == (new_height, new_width, 3)
    assert found.min() >= -1e-3
    assert found.max() <= 255.001
    flat = np.full((height, width, 1), 200, np.uint8)
    np.testing.assert_allclose(tf_resize(flat, new_height, new_width, method), 200, rtol=1e-5)
    turned = tf_resize(pixels.swapaxes(0, 1), new_width, new_height, method).swapaxes(0, 1)
    np.testing.assert_allclose(found, turned, atol=1e-3)


def test_antialiased_bilinear_is_pillows_up_to_its_rounding() -> None:
    pixels = picture(61, 47)
    pillow = np.asarray(Image.fromarray(pixels).resize((13, 17), Image.Resampling.BILINEAR))
    found = tf_resize(pixels, 17, 13, "bilinear_antialias")
    assert np.abs(found - pillow).max() < 1.5  # Pillow rounds to 8 bits between the axes
    other = tf_resize(pixels, 17, 13, "bilinear")
    assert np.abs(other - pillow).max() > 20  # negative control
