"""Each corruption: keyed, monotone, in range, at any size, and near what its definition says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.evaluation.robustness import corruption_kinds as kinds
from vitrail.evaluation.robustness import corruptions
from vitrail.evaluation.robustness import image_filters as filters
from vitrail.evaluation.robustness.corruption_draws import Draws, between, length
from vitrail.evaluation.robustness.corruptions import (
    CORRUPTIONS,
    GROUPS,
    corruptions_named,
    severities_of,
)

SIZES = [(224, 224, 3, 3), (31, 37, 3, 8), (8, 8, 1, 31)]  # h, w, C, images


def corrupted(images: Tensor, indices: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """As `corruptions.corrupted`, of tensors."""
    arrays = images.numpy(), indices.numpy()
    return torch.from_numpy(corruptions.corrupted(*arrays, name, severity, seed=seed))


def scenes(height: int, width: int, channels: int, count: int) -> Tensor:
    """Images (B, C, h, w) uint8 with edges, gradients and fine texture, of any brightness."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    found = np.empty((count, channels, height, width))
    for picture in found:
        for plane in picture:
            slope = rng.normal(size=2)
            plane[:] = slope[0] * rows + slope[1] * columns
            for _ in range(6):
                y, x, r = rng.random(3)
                plane += rng.normal() * ((rows - y) ** 2 + (columns - x) ** 2 < (r / 3) ** 2)
            plane += 0.1 * rng.normal(size=(height, width))
        low, high = picture.min(), picture.max()
        top = rng.uniform(0.5, 1.0)
        picture[:] = rng.uniform(0, 0.3) + (top - 0.3) * (picture - low) / (high - low)
    return torch.from_numpy(np.rint(255 * np.clip(found, 0, 1)).astype(np.uint8))


def damage(clean: Tensor, name: str, severity: int) -> float:
    """Root of the mean squared difference, in 0..255."""
    got = corrupted(clean, torch.arange(len(clean)), name, severity)
    return float((got.double() - clean.double()).square().mean().sqrt())


def test_there_are_fifteen_in_four_groups() -> None:
    assert len(CORRUPTIONS) == 15
    assert [len(members) for members in GROUPS.values()] == [3, 4, 4, 4]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name: str, size: tuple[int, int, int, int]) -> None:
    clean = scenes(*size)
    found = [damage(clean, name, severity) for severity in (1, 2, 3, 4, 5)]
    assert found == sorted(found), found
    assert found[0] > 0
    assert found[4] > 1.15 * found[0], found
    assert found[4] < 110


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_the_same_in_any_batch(name: str) -> None:
    clean = scenes(31, 37, 3, 5)
    numbers = torch.tensor([4, 0, 9, 1_000_003, 2])
    whole = corrupted(clean, numbers, name, 3)
    assert whole.shape == clean.shape
    assert whole.dtype == torch.uint8
    order = torch.tensor([3, 1, 4])
    assert torch.equal(corrupted(clean[order], numbers[order], name, 3), whole[order])
    one = corrupted(clean[3:4], numbers[3:4], name, 3)
    assert torch.equal(one, whole[3:4])
    assert not torch.equal(whole, clean)


RANDOM = set(CORRUPTIONS) - {
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_chance_decides_depends_on_image_and_seed(name: str) -> None:
    clean = scenes(31, 37, 3, 1).expand(2, -1, -1, -1)
    same = torch.tensor([5, 5])
    first = corrupted(clean, same, name, 4)
    assert torch.equal(first[0], first[1])
    others = [
        corrupted(clean, torch.tensor([5, 6]), name, 4)[1],
        corrupted(clean, same, name, 4, seed=1)[1],
    ]
    for other in others:
        assert torch.equal(other, first[0]) == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_gray_and_floats(name: str) -> None:
    gray = scenes(13, 11, 1, 2)
    assert corrupted(gray, torch.arange(2), name, 2).shape == gray.shape
    floats = corrupted(gray.float(), torch.arange(2), name, 2)
    assert floats.dtype == torch.float32
    assert 0 <= floats.min()
    assert floats.max() <= 255
    rounded = corrupted(gray, torch.arange(2), name, 2).float()
    assert (floats - rounded).abs().max() <= 0.5


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"impulse_noise", "snow", "frost"}))
def test_uniform_gray_stays_uniform_or_only_noisy(name: str) -> None:
    """Kernels sum to 1, resampling keeps constants, contrast keeps the mean."""
    flat = torch.full((3, 3, 33, 29), 120, dtype=torch.uint8)
    got = corrupted(flat, torch.arange(3), name, 3).double()
    if name in ("gaussian_noise", "shot_noise"):
        assert got.mean() == pytest.approx(120, abs=0.5)
    elif name not in ("fog", "brightness"):
        assert (got - 120).abs().max() <= 1
    if name == "brightness":
        assert (got == round(120 + 255 * 0.15)).all()


def picture(side: int = 32, value: float = 0.5) -> np.ndarray:
    return np.full((4, side, side, 3), value, np.float32)


def test_gaussian_noise_is_normal_with_its_sigma() -> None:
    noise = kinds.gaussian_noise(picture(), 3, Draws(0, "x", np.arange(4))) - 0.5
    assert stats.kstest(noise.ravel() / 0.08, "norm").pvalue > 0.001
    large = kinds.gaussian_noise(picture(224), 3, Draws(0, "x", np.arange(4))) - 0.5
    assert large.std() == pytest.approx(0.18, rel=0.01)


def test_shot_noise_is_poisson() -> None:
    counts = kinds.shot_noise(picture(value=51 / 255), 5, Draws(0, "x", np.arange(4))) * 50
    assert np.abs(counts - np.rint(counts)).max() < 1e-4
    observed = np.bincount(np.rint(counts).astype(int).ravel(), minlength=31)[:31]
    expected = stats.poisson.pmf(np.arange(31), 10) * counts.size
    kept = expected > 5
    statistic = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert stats.chi2.sf(statistic, kept.sum() - 1) > 0.001
    assert (kinds.shot_noise(picture(value=0), 5, Draws(0, "x", np.arange(4))) == 0).all()


def test_impulse_noise_changes_its_share() -> None:
    got = kinds.impulse_noise(picture(), 5, Draws(0, "x", np.arange(4)))
    assert (got == 0).mean() == pytest.approx(0.035, abs=0.006)
    assert (got == 1).mean() == pytest.approx(0.035, abs=0.006)
    assert set(np.unique(got)) == {0.0, 0.5, 1.0}


def test_convolution_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((2, 13, 17, 3)).astype(np.float32)
    kernels = rng.random((2, 5, 5))
    got = filters.convolve(x, kernels)
    for image, kernel, out in zip(x, kernels, got, strict=True):
        expected = ndimage.convolve(image.astype(float), kernel[..., None], mode="reflect")
        assert np.abs(out - expected).max() < 1e-5
    with_smooth = filters.convolve(x, filters.gaussian(1.3))
    expected = ndimage.gaussian_filter(x.astype(float), (0, 1.3, 1.3, 0), mode="reflect")
    assert np.abs(with_smooth - expected).max() < 2e-3


@pytest.mark.parametrize("radius", [0.1, 0.4, 1.5, 6.0])
def test_a_disc_has_the_spread_of_a_disc(radius: float) -> None:
    """Mean square distance: r^2 / 2 of the disc and 2 s^2 of the smoothing Gaussian."""
    kernel = filters.disc(radius, 1.0)[0]
    places = np.arange(len(kernel)) - len(kernel) // 2
    spread = (kernel * (places[:, None] ** 2 + places[None, :] ** 2)).sum()
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert spread == pytest.approx(radius**2 / 2 + 2, rel=0.005)


def test_a_trail_points_where_its_angle_says() -> None:
    kernels = filters.trails(4.0, np.array([0, 90, 45], np.float32))
    middle = kernels.shape[1] // 2
    rows, columns = np.mgrid[-middle : middle + 1, -middle : middle + 1]
    means = [((k * rows).sum(), (k * columns).sum()) for k in kernels]
    reach = 4 * np.sqrt(2 / np.pi)
    assert means[0] == pytest.approx((0, reach), abs=0.2)
    assert means[1] == pytest.approx((-reach, 0), abs=0.2)
    assert means[2] == pytest.approx((-reach / 2**0.5, reach / 2**0.5), abs=0.2)


def test_sampling_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((2, 11, 13, 3)).astype(np.float32)
    rows = rng.uniform(-6, 16, (2, 11, 13)).astype(np.float32)
    columns = rng.uniform(-6, 18, (2, 11, 13)).astype(np.float32)
    got = filters.sampled(x, rows, columns)
    for i in range(2):
        for c in range(3):
            expected = ndimage.map_coordinates(
                x[i, :, :, c].astype(float), [rows[i], columns[i]], order=1, mode="reflect"
            )
            assert np.abs(got[i, :, :, c] - expected).max() < 1e-5


def test_pixelate_makes_boxes_of_their_mean() -> None:
    x = np.random.default_rng(0).random((2, 224, 224, 3)).astype(np.float32)
    got = kinds.pixelate(x, 5, Draws(0, "x", np.arange(2)))  # 224 * 0.25 = 56 boxes of 4 px
    boxes = x.reshape(2, 56, 4, 56, 4, 3).mean(axis=(2, 4))
    assert np.abs(got - boxes.repeat(4, axis=1).repeat(4, axis=2)).max() < 1e-5


def test_brightness_keeps_hue_and_saturation() -> None:
    x = np.random.default_rng(0).uniform(0.05, 0.6, (1, 5, 7, 3)).astype(np.float32)
    got = kinds.brightness(x, 2, Draws(0, "x", np.arange(1)))
    assert got.max(axis=3) == pytest.approx(x.max(axis=3) + 0.1, abs=1e-6)
    assert got / got.max(axis=3, keepdims=True) == pytest.approx(
        x / x.max(axis=3, keepdims=True), abs=1e-5
    )
    black = kinds.brightness(np.zeros_like(x), 2, Draws(0, "x", np.arange(1)))
    assert black == pytest.approx(np.full_like(x, 0.1), abs=1e-6)


@given(st.integers(1, 5), st.integers(4, 600))
def test_severities_between_the_two_sizes(severity: int, side: int) -> None:
    small, large = (1.0, 2.0, 3.0, 4.0, 5.0), (10.0, 20.0, 30.0, 40.0, 50.0)
    got = between(small, large, severity, side)
    assert severity - 1e-9 <= got <= 10 * severity + 1e-9
    assert between(small, large, severity, 32) == pytest.approx(severity)
    assert between(small, large, severity, 224) == pytest.approx(10 * severity)
    assert length(small, large, severity, side) <= length(small, large, severity, side + 1)
    assert length(small, large, severity, 16) == pytest.approx(severity / 2)
    assert length(small, large, severity, 448) == pytest.approx(20 * severity)


def test_names_and_severities_as_people_write_them() -> None:
    assert corruptions_named("all") == tuple(CORRUPTIONS)
    assert corruptions_named("fog, noise") == (*GROUPS["noise"], "fog")
    assert corruptions_named("jpeg-compression") == ("jpeg_compression",)
    assert severities_of("3") == (3,)
    assert severities_of("5,1-2") == (1, 2, 5)
    with pytest.raises(UsageError, match="Did you mean fog") as caught:
        corruptions_named("fogg")
    assert caught.value.code == "VIT-280"
    for bad in ("0", "6", "5-1", "x", "", "1-", "-3", "1.5"):
        with pytest.raises(UsageError, match="from 1 to 5") as caught:
            severities_of(bad)
        assert caught.value.code == "VIT-281"
