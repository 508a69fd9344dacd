"""The batched path draws what the Pillow path draws and shows nearly the same pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.batch_augment import apply_plan, augment_batch, sample_affine, to_channels
from vitrail.data.augment.batch_colors import COLOR_OPS
from vitrail.data.augment.batch_resample import blur_weights, filter_weights, resize_boxes
from vitrail.data.augment.one_image import FILTERS, apply_color, augment_image, picture
from vitrail.data.augment.policies import OP_ID, OPS, AugmentDraws, affine_maps, draw_plan
from vitrail.data.images.preprocess import gray_pixels

# Levels of 255, on smooth images. Geometry: one, for the cut of fractions. Blur: three, Pillow
# rounds after each of six passes. Colours are exact, but what follows may enlarge a difference:
# twice by the enhancements of a policy, 1.3 times by each of brightness and contrast of a jitter.
POLICY_BOUND = 3
JITTERED_BOUND = 6


def smooth(num: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Images (num, H, W, C) that change by at most 20 levels a pixel."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = generator.uniform(0, 6, (num, 1, 1, channels))
    rate = generator.uniform(0.02, 0.12, (num, 2, 1, 1, channels))
    waves = np.sin(rate[:, 0] * y[None, :, :, None] + rate[:, 1] * x[None, :, :, None] + phase)
    return np.asarray(127.5 + 120 * waves).astype(np.uint8)


def rough(num: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num, height, width, channels), dtype=np.uint8)


def tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def array(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def drawn(num: int, seed: int = 0) -> random_slots.Uniforms:
    indices = np.arange(num, dtype=np.int64)
    return random_slots.draw(seed, np.full_like(indices, 3), indices, np.zeros_like(indices))


def both(
    pictures: np.ndarray, config: AugmentConfig, size: tuple[int, int], **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """Results (B, h, w, C) of the Pillow path and of the batched path, as int64."""
    u, channels = drawn(len(pictures)), pictures.shape[3]
    one = [
        np.asarray(augment_image(pixels, row, config, size, **options)).reshape(*size, channels)  # type: ignore[arg-type]
        for pixels, row in zip(pictures, u, strict=True)
    ]
    batched = augment_batch(tensor(pictures), u, config, size, **options)  # type: ignore[arg-type]
    assert batched.dtype == torch.uint8
    assert batched.is_contiguous()
    return np.stack(one).astype(int), array(batched).astype(int)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", ["none", "pad_crop"])
def test_flip_and_pad_crop_move_pixels_exactly(crop: str, channels: int) -> None:
    config = AugmentConfig.model_validate({"crop": crop})
    one, batched = both(rough(41, 13, 17, channels), config, (13, 17))
    np.testing.assert_array_equal(one, batched)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", ["none", "inception", "resize_crop", "pad_crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_resized_crops_agree(
    crop: str, channels: int, interpolation: str, keep_aspect: bool
) -> None:
    config = AugmentConfig.model_validate({"crop": crop})
    pictures = rough(23, 29, 37, channels)
    one, batched = both(
        pictures, config, (19, 23), interpolation=interpolation, keep_aspect=keep_aspect
    )
    difference = np.abs(one - batched)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("jitter", "bound"), [(0.0, POLICY_BOUND), (0.3, JITTERED_BOUND)])
@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment", "three_augment"])
def test_policies_agree_on_smooth_images(
    policy: str, jitter: float, bound: int, channels: int
) -> None:
    config = AugmentConfig.model_validate(
        {
            "crop": "pad_crop",
            "policy": policy,
            "num_ops": 2,
            "magnitude": 9,
            "color_jitter": jitter,
        }
    )
    one, batched = both(smooth(97, 31, 37, channels), config, (31, 37))
    difference = np.abs(one - batched)
    assert difference.max() <= bound
    assert difference.mean() < 0.3


def test_paths_with_other_uniforms_differ() -> None:
    """Negative control of the tests above."""
    config = AugmentConfig(crop="pad_crop", policy="randaugment")
    pictures = smooth(31, 31, 37, 3)
    first = augment_batch(tensor(pictures), drawn(31), config, (31, 37))
    second = augment_batch(tensor(pictures), drawn(31, seed=1), config, (31, 37))
    assert (first != second).float().mean() > 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", [op for op in COLOR_OPS if op != "blur"])
def test_colours_equal_pillow_within_a_level(op: str, channels: int) -> None:
    values = {
        "solarize": [0.0, 1.0, 127.3, 255.0, 256.0],
        "posterize": [1.0, 2.0, 4.0, 7.0, 8.0],
    }.get(op, [0.0, 0.1, 0.73, 1.0, 1.9])
    pictures = np.concatenate(
        [
            rough(5, 29, 37, channels),
            smooth(5, 29, 37, channels),
            smooth(5, 29, 37, channels) // 3 + 50,
            np.full((5, 29, 37, channels), 200, np.uint8),
        ]
    )
    arguments = torch.tensor(values * 4)
    batched = array(COLOR_OPS[op](tensor(pictures), arguments)).astype(int)
    for pixels, value, result in zip(pictures, values * 4, batched, strict=True):
        expected = np.asarray(apply_color(picture(pixels), op, value)).reshape(29, 37, channels)
        difference = np.abs(expected - result)
        assert difference.max() <= (1 if op == "autocontrast" else 0)


def test_blur_is_close_to_pillow_and_keeps_flat_images() -> None:
    radius = torch.tensor([0.1, 0.7, 1.3, 2.0])
    for pictures, bound in ((smooth(4, 29, 37, 3), 2), (rough(4, 29, 37, 3), 3)):
        batched = array(COLOR_OPS["blur"](tensor(pictures), radius)).astype(int)
        for pixels, r, result in zip(pictures, radius.tolist(), batched, strict=True):
            expected = np.asarray(apply_color(picture(pixels), "blur", r))
            assert np.abs(expected - result).max() <= bound
    weights = blur_weights(radius, 37)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(4, 37))
    variance = (weights[3, 18] * (torch.arange(37) - 18) ** 2).sum()
    assert abs(float(variance) - 4.0) < 1e-3  # radius 2 is the standard deviation


def test_affine_sampling_equals_pillow_on_smooth_images() -> None:
    generator = np.random.default_rng(0)
    pictures = smooth(31, 31, 37, 3)
    maps = np.eye(3)[:2] + generator.uniform(-0.2, 0.2, (31, 2, 3)) * [1, 1, 20]
    batched = array(sample_affine(tensor(pictures), maps)).astype(int)
    for pixels, matrix, result in zip(pictures, maps, batched, strict=True):
        expected = Image.fromarray(pixels).transform(
            (37, 31),
            Image.Transform.AFFINE,
            matrix.ravel().tolist(),
            Image.Resampling.BILINEAR,
            fillcolor=(128, 128, 128),
        )
        assert np.abs(np.asarray(expected).astype(int) - result).max() <= 1


def test_whole_pixel_shifts_are_exact_and_filled() -> None:
    pictures = rough(2, 8, 16, 3)
    maps = np.array([[[1, 0, 3], [0, 1, 0]], [[1, 0, 0], [0, 1, -2]]], dtype=float)
    out = array(sample_affine(tensor(pictures), maps))
    np.testing.assert_array_equal(out[0, :, :13], pictures[0, :, 3:])
    assert (out[0, :, 13:] == 128).all()
    np.testing.assert_array_equal(out[1, 2:], pictures[1, :-2])
    assert (out[1, :2] == 128).all()
    gray = array(sample_affine(tensor(rough(1, 8, 16, 1)), maps[:1]))
    assert (gray[0, :, 13:] == 0).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_resize_boxes_equals_pillow(interpolation: str) -> None:
    generator = np.random.default_rng(0)
    pictures = rough(29, 31, 43, 3)
    sides = generator.integers(1, (32, 44), (29, 2))
    starts = generator.integers(0, np.array([32, 44]) - sides)
    boxes = np.concatenate([starts, sides], axis=1)
    batched = array(resize_boxes(tensor(pictures), boxes, (17, 23), interpolation)).astype(int)
    for pixels, (top, left, rows, cols), result in zip(
        pictures, boxes.tolist(), batched, strict=True
    ):
        expected = Image.fromarray(pixels).resize(
            (23, 17), FILTERS[interpolation], box=(left, top, left + cols, top + rows)
        )
        # Two levels: Pillow takes its passes in the cheaper order, ours is fixed; each rounds.
        assert np.abs(np.asarray(expected).astype(int) - result).max() <= 2


def test_large_images_are_resized_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, config = tensor(rough(11, 29, 37, 3)), AugmentConfig()
    whole = augment_batch(pictures, drawn(11), config, (19, 23))
    monkeypatch.setattr("vitrail.data.augment.batch_resample._MAX_WEIGHTS", 3 * (19 * 29 + 23 * 37))
    assert torch.equal(whole, augment_batch(pictures, drawn(11), config, (19, 23)))


def test_operations_return_to_their_own_images() -> None:
    """An image alone gives what it gives in the batch: sorting by operation mixes nothing up."""
    config = AugmentConfig(crop="pad_crop", policy="randaugment", num_ops=3, erasing=0.5)
    pictures, u = rough(37, 13, 17, 3), drawn(37)
    whole = augment_batch(tensor(pictures), u, config, (13, 17))
    for place in range(37):
        alone = slice(place, place + 1)
        one = augment_batch(tensor(pictures[alone]), u[alone], config, (13, 17))
        assert torch.equal(one[0], whole[place])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_plan_is_one_sampling_then_the_colours_in_order(channels: int) -> None:
    """Sorting and putting colours last changes no bit: one image, one step at a time."""
    config = AugmentConfig(policy="randaugment", num_ops=4, color_jitter=0.4)
    plan = draw_plan(drawn(97), config)
    pictures = tensor(smooth(97, 13, 17, channels))
    whole = apply_plan(pictures, plan)
    maps, moved = affine_maps(plan, (13, 17))
    for place in range(97):
        one = pictures[place : place + 1]
        if moved[place]:
            one = sample_affine(one, maps[place : place + 1])
        for op, value in zip(plan.ops[place], plan.values[place], strict=True):
            if OPS[op] in COLOR_OPS:
                one = COLOR_OPS[OPS[op]](one, torch.tensor([value], dtype=torch.float32))
        assert torch.equal(one[0], whole[place]), (plan.ops[place], plan.values[place])


@pytest.mark.parametrize("op", ["brightness", "color", "contrast", "sharpness"])
def test_strong_blends_are_clipped_not_wrapped(op: str) -> None:
    """The strongest factor of a policy, 1 + 0.9 * 3: what is beyond a byte stops at its ends."""
    pictures = rough(3, 13, 17, 3)
    batched = array(COLOR_OPS[op](tensor(pictures), torch.tensor([3.7, 0.1, 2.35])))
    for pixels, value, result in zip(pictures, [3.7, 0.1, 2.35], batched, strict=True):
        np.testing.assert_array_equal(np.asarray(apply_color(picture(pixels), op, value)), result)


def test_a_plan_without_operations_changes_nothing() -> None:
    images = tensor(rough(3, 13, 11, 3))
    assert torch.equal(
        apply_plan(images, AugmentDraws(np.zeros((3, 0), int), np.zeros((3, 0)))), images
    )


def test_the_input_is_not_changed() -> None:
    images = tensor(rough(17, 13, 11, 3))
    before = images.clone()
    config = AugmentConfig(crop="none", flip=0, policy="randaugment", erasing=1.0, color_jitter=0.4)
    augment_batch(images, drawn(17), config, (13, 11))
    apply_plan(images, AugmentDraws(np.full((17, 1), OP_ID["solarize"]), np.full((17, 1), 10.0)))
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_erasing_is_the_same_on_both_paths(channels: int) -> None:
    config = AugmentConfig(crop="none", flip=0, erasing=0.6)
    one, batched = both(rough(41, 23, 29, channels), config, (23, 29))
    np.testing.assert_array_equal(one, batched)
    assert (one != rough(41, 23, 29, channels)).any()


def test_to_channels_is_pillows_luma() -> None:
    pictures = rough(3, 13, 17, 3)
    gray = to_channels(tensor(pictures), 1)
    for pixels, result in zip(pictures, array(gray), strict=True):
        np.testing.assert_array_equal(gray_pixels(pixels), result)
    again = to_channels(gray, 3)
    assert torch.equal(again[:, 0], again[:, 2])
    assert again.shape == (3, 3, 13, 17)


def test_bicubic_weights_sum_to_one_and_are_local() -> None:
    weights = filter_weights(torch.tensor([3.0]), torch.tensor([11.0]), 7, 19, "bicubic")[0]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(7))
    support = 2 * 11 / 7
    centre = 3 + (torch.arange(7) + 0.5) * 11 / 7
    far = (torch.arange(19) + 0.5 - centre[:, None]).abs() > math.ceil(support)
    assert (weights[far] == 0).all()
