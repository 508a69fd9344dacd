"""A sketch is the cosine series of an image's luma, whatever its size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from tests.data.odd_images import noise
from vitrail.data.check.perceptual_hash import CELLS, SIDE, cosines, joined, sketch, sketch_all


def luma(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] == 1:
        return pixels[:, :, 0].astype(np.float64)
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]))


@pytest.mark.parametrize(("height", "width", "channels"), [(37, 53, 3), (31, 19, 1), (97, 61, 3)])
def test_waves_are_those_of_scipy(height: int, width: int, channels: int) -> None:
    pixels = noise(height, width, channels, seed=3)
    expected = dctn(luma(pixels), norm="ortho")[:SIDE, :SIDE] / np.sqrt(height * width)
    waves = sketch(pixels).waves[0].astype(np.float64)
    assert np.abs(waves - expected).max() < 2e-3 * np.abs(expected).max()  # float16
    assert np.abs(sketch(pixels.transpose(1, 0, 2)).waves[0] - waves.T).max() < 0.1


def test_images_smaller_than_the_series_have_no_high_waves() -> None:
    pixels = noise(7, 11, 1)
    waves = sketch(pixels).waves[0]
    assert not waves[7:].any()
    assert not waves[:, 11:].any()
    variance = luma(pixels).var()
    assert float((waves.astype(np.float64) ** 2).sum() - waves[0, 0].astype(float) ** 2) == (
        pytest.approx(variance, rel=2e-3)
    )


def test_large_images_are_reduced_without_harm() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((643, 401), Image.Resampling.BICUBIC))
    one = sketch(large)
    assert one.sides.tolist() == [401]
    expected = dctn(luma(large), norm="ortho")[:SIDE, :SIDE] / np.sqrt(401 * 643)
    assert np.abs(one.waves[0] - expected).max() < 0.5  # gray levels
    assert cosines(401, 6).shape == (SIDE, 67)  # the last cell is 5 px wide
    assert cosines(401, 6)[1:].sum(axis=1) == pytest.approx(0, abs=2e-3)


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    for shape in ((17, 23, 3), (8, 8, 1), (131, 140, 3)):
        images = np.stack([noise(*shape, seed=k) for k in range(5)])
        together, single = sketch_all(images), joined([sketch(one) for one in images])
        assert np.array_equal(together.waves, single.waves)
        assert np.array_equal(together.colours, single.colours)
        assert np.array_equal(together.sides, single.sides)
    nothing = sketch_all(np.zeros((0, 5, 7, 3), np.uint8))
    assert len(nothing) == 0
    assert nothing.take(np.zeros(0, np.int64)).waves.shape == (0, SIDE, SIDE)


def test_colours_are_means_of_sixteenths() -> None:
    pixels = np.zeros((22, 13, 3), np.uint8)
    pixels[:, :6] = (255, 0, 0)
    colours = sketch(pixels).colours[0].astype(int)  # (2, 4, 4)
    assert colours.shape == (2, CELLS, CELLS)
    image = Image.fromarray(np.full((1, 1, 3), (255, 0, 0), np.uint8)).convert("YCbCr")
    _, blue, red = np.asarray(image)[0, 0].astype(int) - 128
    assert (np.abs(colours[0, :, 0] - blue) <= 1).all()
    assert (np.abs(colours[1, :, 0] - red) <= 1).all()
    assert not colours[:, :, 2:].any()
    assert not sketch(noise(9, 9, 1)).colours.any()
