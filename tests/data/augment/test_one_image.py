"""Crops, policies and the Pillow path: closed forms, laws and Pillow itself as the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.crops import (
    ERASE_SCALE,
    erase_boxes,
    inception_box,
    inception_boxes,
    mirrored,
    window_frame,
    window_offsets,
)
from vitrail.data.augment.one_image import apply_plan, augment_image, noise, picture, write_planes
from vitrail.data.augment.policies import (
    GEOMETRIC,
    NUM_STANDARD,
    OP_ID,
    OPS,
    RANDAUGMENT,
    TRIVIALAUGMENT,
    AugmentDraws,
    Range,
    affine_maps,
    argument,
    draw_plan,
)

PLAIN = AugmentConfig(crop="none", flip=0)


NOISE = [155, 216, 228, 8]


def drawn(num: int, seed: int = 0) -> random_slots.Uniforms:
    indices = np.arange(num, dtype=np.int64)
    return random_slots.draw(seed, np.zeros_like(indices), indices, np.zeros_like(indices))


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_slots_do_not_overlap() -> None:
    starts = {
        "FLIP": 1,
        "CROP_TOP": 1,
        "CROP_LEFT": 1,
        "OP": random_slots.MAX_OPS,
        "LEVEL": random_slots.MAX_OPS,
        "SIGN": random_slots.MAX_OPS,
        "JITTER_ORDER": 1,
        "JITTER": 3,
        "ERASE": 1,
        "ERASE_TOP": 1,
        "ERASE_LEFT": 1,
        "ERASE_NOISE": 1,
        "CROP_AREA": random_slots.NUM_TRIES,
        "CROP_RATIO": random_slots.NUM_TRIES,
        "ERASE_AREA": random_slots.NUM_TRIES,
        "ERASE_RATIO": random_slots.NUM_TRIES,
    }
    used = [getattr(random_slots, name) + k for name, num in starts.items() for k in range(num)]
    assert sorted(used) == list(range(random_slots.NUM_SLOTS))


@pytest.mark.parametrize("crop", ["none", "inception", "resize_crop", "pad_crop"])
@pytest.mark.parametrize("policy", ["none", "randaugment", "trivialaugment", "three_augment"])
@pytest.mark.parametrize("extra", [0.0, 0.5])
def test_slots_that_are_not_needed_decide_nothing(crop: str, policy: str, extra: float) -> None:
    config = AugmentConfig.model_validate(
        {
            "crop": crop,
            "erasing": extra,
            "policy": policy,
            "num_ops": 5,
            "color_jitter": extra,
        }
    )
    u, needed = drawn(5), random_slots.needed(config)
    few = np.full_like(u, np.nan)
    few[:, needed] = u[:, needed]
    for row, part in zip(u, few, strict=True):
        whole, same = (augment_image(photo(29, 31), one, config, (13, 17)) for one in (row, part))
        np.testing.assert_array_equal(np.asarray(whole), np.asarray(same))
    zeros = np.zeros(5, np.int64)
    again = random_slots.draw(0, zeros, np.arange(5), zeros, needed)
    np.testing.assert_array_equal(again[:, needed], u[:, needed])
    num_blocks = len({slot // 4 for slot in needed})
    assert np.isnan(again).any() == (num_blocks < -(-random_slots.NUM_SLOTS // 4))


@given(height=st.integers(1, 331), width=st.integers(1, 331), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_inception_boxes_lie_in_the_image(height: int, width: int, seed: int) -> None:
    boxes = inception_boxes(drawn(31, seed), (height, width), AugmentConfig())
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()


@given(height=st.integers(1, 331), width=st.integers(1, 331), least=st.floats(0.01, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_box_of_one_image_is_that_of_the_batch(height: int, width: int, least: float) -> None:
    u, config = drawn(7, height), AugmentConfig(crop_scale=(least, 1.0))
    boxes = inception_boxes(u, (height, width), config).tolist()
    assert [list(inception_box(row, (height, width), config)) for row in u] == boxes


def test_padded_pixels_are_the_same_image() -> None:
    pixels = photo(31, 37)
    padded = np.concatenate([pixels, photo(31, 37, 1, seed=1)], axis=2)
    assert picture(padded).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture(padded)), pixels)


def test_inception_boxes_have_the_drawn_area_and_ratio() -> None:
    height, width = 503, 401
    boxes = inception_boxes(drawn(4001), (height, width), AugmentConfig(crop_scale=(0.1, 0.6)))
    share = boxes[:, 2] * boxes[:, 3] / (height * width)
    ratio = boxes[:, 3] / boxes[:, 2]
    assert 0.09 < share.min() < 0.12
    assert 0.55 < share.max() < 0.61
    assert abs(share.mean() - 0.35) < 0.02
    assert 0.74 < ratio.min() < 0.77
    assert 1.30 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.02  # log-uniform about 1


def test_inception_falls_back_to_the_centre_where_no_box_fits() -> None:
    config = AugmentConfig(crop_scale=(1.0, 1.0))
    boxes = inception_boxes(drawn(5), (100, 1000), config)
    assert boxes.tolist() == [[0, 433, 100, 133]] * 5  # width round(100 * 4 / 3)
    assert inception_boxes(drawn(1), (1000, 100), config).tolist() == [[433, 0, 133, 100]]


@given(offset=st.integers(-40, 40), n=st.integers(1, 13))
@settings(deadline=None)
def test_mirrored_places_are_those_of_numpy_reflect(offset: int, n: int) -> None:
    padded = np.pad(np.arange(n), (60, 60), mode="reflect")
    expected = padded[60 + offset : 60 + offset + 7]
    assert mirrored(np.array([offset]), 7, n)[0].tolist() == expected.tolist()


def test_pad_crop_is_a_window_of_the_reflected_image() -> None:
    pixels = photo(13, 17)
    u = drawn(1)[0]
    out = np.asarray(augment_image(pixels, u, AugmentConfig(crop="pad_crop", flip=0), (13, 17)))
    top, left = window_offsets(u[None], (13, 17), (13, 17), 4)[0] + 4
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(out, padded[top : top + 13, left : left + 17])


def test_window_offsets_reach_both_ends() -> None:
    offsets = window_offsets(drawn(997), (13, 17), (13, 17), 4)
    assert offsets.min() == -4
    assert offsets.max() == 4
    assert len(np.unique(offsets[:, 0])) == 9


@pytest.mark.parametrize(
    ("crop", "keep_aspect", "resized", "pad"),
    [
        ("resize_crop", False, (448, 448), 0),
        ("resize_crop", True, (448, 597), 0),
        ("pad_crop", False, (384, 384), 4),
        ("pad_crop", True, (384, 512), 4),
    ],
)
def test_window_frames(crop: str, keep_aspect: bool, resized: tuple[int, int], pad: int) -> None:
    config = AugmentConfig.model_validate({"crop": crop})
    frame = window_frame((300, 400), (384, 384), config, keep_aspect=keep_aspect)
    assert frame == (resized, pad)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_inception_crop_is_pillows_resize_with_a_box(interpolation: str) -> None:
    config = AugmentConfig(flip=0.5)
    for seed in range(23):
        pixels, u = photo(101, 149, seed=seed), drawn(1, seed)[0]
        top, left, rows, cols = inception_boxes(u[None], (101, 149), config)[0].tolist()
        box = (left, top, left + cols, top + rows)
        method = Image.Resampling[interpolation.upper()]
        expected = Image.fromarray(pixels).resize((47, 59), method, box=box)
        if u[random_slots.FLIP] < 0.5:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out = augment_image(pixels, u, config, (59, 47), interpolation=interpolation)
        np.testing.assert_array_equal(np.asarray(out), np.asarray(expected))


def test_write_planes_is_a_transposed_copy() -> None:
    for channels in (1, 3):
        pixels = photo(11, 7, channels)
        out = np.empty((channels, 11, 7), np.uint8)
        write_planes(picture(pixels), out)
        np.testing.assert_array_equal(out, pixels.transpose(2, 0, 1))


def test_randaugment_draws_all_operations_equally() -> None:
    plan = draw_plan(drawn(7001), AugmentConfig(policy="randaugment", num_ops=2))
    counts = np.bincount(plan.ops.ravel(), minlength=len(OPS))
    expected = 2 * 7001 / NUM_STANDARD
    assert np.abs(counts[:NUM_STANDARD] - expected).max() < 5 * expected**0.5
    assert counts[NUM_STANDARD:].sum() == 0


def test_magnitude_zero_changes_only_autocontrast_and_equalize() -> None:
    config = AugmentConfig(crop="none", flip=0, policy="randaugment", num_ops=1, magnitude=0)
    pixels, num_changed = photo(31, 37) // 2 + 40, 0
    u = drawn(101)
    plan = draw_plan(u, config)
    for row, op in zip(u, plan.ops[:, 0], strict=True):
        same = np.array_equal(np.asarray(augment_image(pixels, row, config, (31, 37))), pixels)
        assert same != (OPS[op] in ("autocontrast", "equalize"))
        num_changed += not same
    assert num_changed > 3


def argument_of(
    op: str, table: dict[str, Range], share: random_slots.Uniforms, negative: np.ndarray
) -> random_slots.Uniforms:
    return argument(np.array([OP_ID[op]]), table, share, negative)


def test_the_full_range_is_that_of_the_table() -> None:
    full, no, yes = np.array([1.0]), np.array([False]), np.array([True])
    values = {op: float(argument_of(op, RANDAUGMENT, full, no)[0]) for op in RANDAUGMENT}
    assert values["rotate"] == 30
    assert values["color"] == pytest.approx(1.9)
    assert values["posterize"] == 4
    assert values["solarize"] == 0
    assert argument_of("brightness", RANDAUGMENT, full, yes)[0] == pytest.approx(0.1)
    assert argument_of("solarize", RANDAUGMENT, full, yes)[0] == 0  # has no sign
    assert argument_of("rotate", TRIVIALAUGMENT, full, yes)[0] == -135


def test_magnitude_ten_is_the_full_range_and_more_goes_beyond() -> None:
    """As TensorFlow, timm and big_vision count; torchvision's 30 would be this 10."""
    for magnitude, degrees, bits, threshold, factors in (
        (9.0, 27.0, 4, 25.6, (0.19, 1.81)),
        (10.0, 30.0, 4, 0.0, (0.1, 1.9)),
        (15.0, 45.0, 2, 0.0, (0.1, 2.35)),
        (30.0, 90.0, 1, 0.0, (0.1, 3.7)),
    ):
        config = AugmentConfig(policy="randaugment", num_ops=1, magnitude=magnitude)
        plan = draw_plan(drawn(1009), config)
        found = {op: np.unique(plan.values[plan.ops == OP_ID[op]]) for op in RANDAUGMENT}
        np.testing.assert_allclose(found["rotate"], [-degrees, degrees])
        np.testing.assert_allclose(found["brightness"], factors)
        np.testing.assert_allclose(found["solarize"], [threshold], atol=1e-9)
        assert found["posterize"].tolist() == [bits]


@given(share=st.floats(0, 3))
@settings(deadline=None)
def test_arguments_stay_where_their_operation_ends(share: float) -> None:
    for table in (RANDAUGMENT, TRIVIALAUGMENT):
        for negative in (False, True):
            drawn_here = np.array([share]), np.array([negative])
            bits = argument_of("posterize", table, *drawn_here)[0]
            assert bits == int(bits)
            assert 1 <= bits <= 8
            assert 0 <= argument_of("solarize", table, *drawn_here)[0] <= 256
            assert argument_of("contrast", table, *drawn_here)[0] > 0


def test_trivialaugment_draws_one_operation_and_its_magnitude() -> None:
    plan = draw_plan(drawn(5003), AugmentConfig(policy="trivialaugment"))
    assert plan.ops.shape == (5003, 1)
    degrees = plan.values[plan.ops == OP_ID["rotate"]]
    assert set(np.unique(np.abs(degrees) / 4.5).round(6)) <= set(range(31))
    assert degrees.min() < -100 < 100 < degrees.max()


def test_three_augment_draws_gray_solarize_blur_equally() -> None:
    plan = draw_plan(drawn(3001), AugmentConfig(policy="three_augment", color_jitter=0.3))
    assert plan.ops.shape == (3001, 4)
    for op in ("grayscale", "solarize", "blur"):
        assert abs((plan.ops[:, 0] == OP_ID[op]).mean() - 1 / 3) < 5 * (2 / 9 / 3001) ** 0.5
    radius = plan.values[:, 0][plan.ops[:, 0] == OP_ID["blur"]]
    assert 0.1 <= radius.min() < 0.15
    assert 1.9 < radius.max() <= 2.0
    assert (plan.values[:, 0][plan.ops[:, 0] == OP_ID["solarize"]] == 128).all()


def test_color_jitter_uses_each_operation_once_in_every_order() -> None:
    plan = draw_plan(drawn(601), AugmentConfig(color_jitter=0.3))
    names = np.sort(plan.ops, axis=1)
    expected = sorted(OP_ID[op] for op in ("brightness", "contrast", "color"))
    assert (names == expected).all()
    assert len({tuple(row) for row in plan.ops.tolist()}) == 6
    assert 0.7 <= plan.values.min() < 0.71
    assert 1.29 < plan.values.max() <= 1.3


def plan_of(*ops: tuple[str, float]) -> AugmentDraws:
    return AugmentDraws(
        np.array([[OP_ID[op] for op, _ in ops]]), np.array([[value for _, value in ops]])
    )


def test_affine_maps_in_closed_form() -> None:
    maps, moved = affine_maps(plan_of(("translate_x", 0.25)), (8, 12))
    assert moved.all()
    np.testing.assert_allclose(maps[0], [[1, 0, 3], [0, 1, 0]])
    maps, _ = affine_maps(plan_of(("shear_y", 0.2), ("translate_y", -0.5)), (8, 12))
    np.testing.assert_allclose(
        maps[0], np.array([[1, 0, 0], [0.2, 1, -4]])
    )  # the shift is applied last
    maps, _ = affine_maps(plan_of(("rotate", 90.0)), (8, 8))
    np.testing.assert_allclose(maps[0] @ np.array([1.0, 2.0, 1.0]), [6, 1], atol=1e-12)
    assert not affine_maps(plan_of(("rotate", 0.0), ("color", 1.5)), (8, 8))[1].any()


@pytest.mark.parametrize("degrees", [-30.0, 11.0])
def test_rotation_is_pillows(degrees: float) -> None:
    image = Image.fromarray(photo(31, 37)).resize((37, 31), Image.Resampling.BILINEAR)
    maps, _ = affine_maps(plan_of(("rotate", degrees)), (31, 37))
    ours = image.transform(
        image.size, Image.Transform.AFFINE, maps[0].ravel().tolist(), Image.Resampling.BILINEAR
    )
    theirs = image.rotate(degrees, Image.Resampling.BILINEAR)
    difference = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
    assert (difference > 1).mean() < 0.01  # Pillow rounds its matrix to 15 digits


def test_composed_shifts_equal_shifts_one_after_the_other() -> None:
    """Two whole-pixel shifts lose nothing when composed; one after the other they lose edges."""
    maps, _ = affine_maps(plan_of(("translate_x", 3 / 12), ("translate_x", -3 / 12)), (8, 12))
    np.testing.assert_allclose(maps[0], np.eye(3)[:2])


def test_gray_images_pass_every_operation() -> None:
    pixels = photo(11, 13, 1)
    for op in OPS:
        value = {"posterize": 5.0, "solarize": 100.0, "rotate": 20.0}.get(op, 0.5)
        out = np.asarray(apply_plan(picture(pixels), plan_of((op, value))))
        assert out.shape == (11, 13)
        if op in ("color", "grayscale", "identity"):
            np.testing.assert_array_equal(out, pixels[:, :, 0])
        elif op in GEOMETRIC:
            assert (out != pixels[:, :, 0]).any()


def test_erasing_changes_exactly_its_box() -> None:
    config = AugmentConfig(crop="none", flip=0, erasing=1.0)
    pixels = np.zeros((53, 61, 3), np.uint8)
    for row in drawn(29):
        top, left, rows, cols = erase_boxes(row[None], (53, 61), config)[0].tolist()
        assert rows * cols > 0
        out = np.asarray(augment_image(pixels, row, config, (53, 61))).astype(int)
        inside = out[top : top + rows, left : left + cols]
        assert (inside > 0).mean() > 0.9
        assert out.sum() == inside.sum()


def test_erasing_happens_as_often_and_as_large_as_asked() -> None:
    boxes = erase_boxes(drawn(4001), (101, 103), AugmentConfig(erasing=0.25))
    area = boxes[:, 2] * boxes[:, 3] / (101 * 103)
    assert abs((area > 0).mean() - 0.25) < 5 * (0.1875 / 4001) ** 0.5
    low, high = ERASE_SCALE
    assert area[area > 0].min() > low * 0.9
    assert area.max() < high * 1.05


def test_noise_is_uniform_and_as_released() -> None:
    counts = np.bincount(noise(), minlength=256)
    assert np.abs(counts - 4096).max() < 5.5 * math.sqrt(4096)
    assert noise()[:4].tolist() == NOISE
