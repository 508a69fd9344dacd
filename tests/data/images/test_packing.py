"""Sizes within a budget of patches, and packing, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.images.packing import EMPTY, packed, size_within, unpacked
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import DataError, UsageError


def largest_grid(size: tuple[int, int], patch: int, most: int) -> tuple[int, int]:
    """By trying every scale up to 100 at which a side gains a patch: the best in the budget."""
    best = (1, 1)
    for axis in (0, 1):
        for count in range(1, most + 1):
            scale = count * patch / size[axis]
            grid = tuple(max(1, math.ceil(side * scale / patch - 1e-9)) for side in size)
            if scale <= 100 and grid[0] * grid[1] <= most and sum(grid) > sum(best):
                best = (grid[0], grid[1])
    return best


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (31, 997), (997, 31), (61, 61), (13, 7)])
@pytest.mark.parametrize(("patch", "most"), [(16, 256), (7, 47), (16, 729)])
def test_the_largest_grid_within_the_budget(size: tuple[int, int], patch: int, most: int) -> None:
    height, width = size_within(size, (patch, patch), most)
    assert (height // patch, width // patch) == largest_grid(size, patch, most)


def test_sizes_of_the_siglip2_processor() -> None:
    """480 x 640 px are 30 x 40 patches of 16 px. By hand: at a scale of 0.45 they are 13.5 x 18,
    so 14 x 18 = 252 within 256; anything above is 14 x 19 = 266.
    """
    assert size_within((480, 640), (16, 16), 256) == (14 * 16, 18 * 16)


@given(
    st.integers(1, 700), st.integers(1, 700), st.sampled_from([5, 16]), st.sampled_from([11, 97])
)
def test_no_side_is_stretched_by_more_than_a_patch(h: int, w: int, patch: int, most: int) -> None:
    height, width = size_within((h, w), (patch, patch), most)
    assert height % patch == width % patch == 0
    assert (height // patch) * (width // patch) <= most
    scale = max((height - patch) / h, (width - patch) / w, 0)  # what both sides reach
    assert height >= h * scale - 1e-6
    assert width >= w * scale - 1e-6
    assert height <= max(patch, h * min(height / h, width / w) + patch)
    assert width <= max(patch, w * min(height / h, width / w) + patch)


def test_packed_rows_hold_place_and_pixels() -> None:
    rng = np.random.default_rng(5)
    image = rng.random((3, 2 * 5, 3 * 7), np.float32)  # 2 x 3 patches of 5 x 7 px
    rows = packed(image, (5, 7), 11)
    assert rows.shape == (11, 2 + 3 * 5 * 7)
    assert rows[:6, :2].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert (rows[6:, :2] == EMPTY).all()
    assert not rows[6:, 2:].any()
    assert (rows[5, 2:].reshape(3, 5, 7) == image[:, 5:10, 14:21]).all()
    assert (unpacked(rows, (5, 7)) == image).all()


def variable(**changes: object) -> Preprocess:
    values = {"height": 20, "width": 20, "resize": (20, 20), "interpolation": "bilinear"}
    return Preprocess.model_validate(values | {"max_patches": 23, "patch_size": (5, 5)} | changes)


def test_preprocessing_keeps_the_aspect_ratio() -> None:
    """A disc stays a disc: 60 x 180 px become 90 x 270, not a square."""
    y, x = np.mgrid[:60, :180]
    disc = ((y - 30) ** 2 + (x - 90) ** 2 < 20**2).astype(np.uint8)[:, :, None] * 255
    one = variable(max_patches=18 * 54)
    shown = one.planes(disc)[0]
    high, wide = (int((shown.max(axis=axis) > 0).sum()) for axis in (1, 0))
    assert shown.shape == one.shown_size(60, 180) == (90, 270)
    assert abs(high - 60) <= 2
    assert high == wide


def test_the_record_goes_round() -> None:
    one = variable()
    assert Preprocess.from_json(one.to_json()) == one
    fixed = Preprocess(height=7, width=5, resize=(7, 5))
    assert "max_patches" not in fixed.to_json()


@pytest.mark.parametrize(
    "changes",
    [{"patch_size": None}, {"max_patches": None}, {"crop": "center"}, {"resizer": "tensorflow"}],
)
def test_a_record_that_says_half_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"patch_size|max_patches"):
        Preprocess.from_json(variable().model_dump(mode="json") | changes)


def test_what_needs_one_size_says_so() -> None:
    with pytest.raises(UsageError, match="variable resolution") as caught:
        variable().require_one_size("an export")
    assert caught.value.code == "VIT-287"
    Preprocess(height=7, width=5, resize=(7, 5)).require_one_size("an export")
