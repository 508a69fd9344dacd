"""Position embeddings on other grids: golden tables of eight libraries, torch in float64, laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.golden.case import read_case
from vitrail.checkpoints.adapt.posemb_resize import (
    RULES,
    resize_axis,
    resize_posemb,
    resize_relative,
)
from vitrail.errors import ModelError
from vitrail.models.vit.posemb import num_relative_rows, relative_index

TOLERANCE = 1e-5  # the references compute in float32; the largest difference seen is 6.1e-6
CASES = ("posemb_resample_google", "posemb_resample_torch")
# What an item's `rule` begins with, and the name of that rule here. torchvision's bilinear option
# is Google's rule.
NAMES = {
    "vision_transformer interpolate_posembed": "google",
    "scipy.ndimage.zoom order=1": "google",
    "jax.image.resize linear": "flexi",
    "timm resample_abs_pos_embed {'interpolation': 'bicubic'": "timm",
    "timm resample_abs_pos_embed {'interpolation': 'bilinear'": "timm_npz",
    "DINOv2 interpolate_pos_encoding, interpolate_offset=0.1": "dino",
    "DINOv2 interpolate_pos_encoding, interpolate_offset=0.0": "dino_registers",
    "transformers 4.57.6 ViTEmbeddings": "huggingface",
    "torchvision interpolate_embeddings, interpolation_mode=bicubic": "torchvision",
    "torchvision interpolate_embeddings, interpolation_mode=bilinear": "google",
    "facebookresearch/deit main.py": "deit",
}
GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 9))


def table(rows: int, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(1, rows, width, generator=torch.Generator().manual_seed(seed))


def name_of(item: dict[str, Any]) -> str:
    (name,) = {ours for start, ours in NAMES.items() if item["rule"].startswith(start)}
    return name


def golden_error(name: str, *, with_rule: str | None = None) -> dict[str, float]:
    """The largest difference of each rule over a golden case."""
    case = read_case(name)
    worst: dict[str, float] = {}
    for item in case.record["items"]:
        key, rule = item["key"], name_of(item)
        resized = resize_posemb(
            case.arrays[f"{key}_in"],
            tuple(item["old"]),
            tuple(item["new"]),
            item["prefix"],
            with_rule or rule,
        )
        error = float((resized - case.arrays[f"{key}_out"]).abs().max())
        worst[rule] = max(worst.get(rule, 0.0), error)
    return worst


@pytest.mark.parametrize("name", CASES)
def test_golden_tables_of_every_family(name: str) -> None:
    worst = golden_error(name)
    assert max(worst.values()) <= TOLERANCE, worst


def test_every_rule_has_a_golden_case() -> None:
    tested = {name_of(item) for name in CASES for item in read_case(name).record["items"]}
    assert tested == set(RULES)


def test_negative_control_the_rules_are_not_interchangeable() -> None:
    for name in CASES:
        for rule in RULES:
            others = golden_error(name, with_rule=rule)
            same = {rule, *(other for other in RULES if RULES[other][2:] == RULES[rule][2:])}
            same = {other for other in same if RULES[other].kernel == RULES[rule].kernel}
            assert all(others[other] > 1e-3 for other in others if other not in same), (
                rule,
                others,
            )


TORCH: dict[str, dict[str, Any]] = {
    "google": {"mode": "bilinear", "align_corners": True},
    "timm": {"mode": "bicubic", "antialias": True},
    "timm_npz": {"mode": "bilinear"},
    "deit": {"mode": "bicubic"},
    "torchvision": {"mode": "bicubic", "align_corners": True},
    "dino": {"mode": "bicubic"},
    "dino_registers": {"mode": "bicubic", "antialias": True},
    "flexi": {"mode": "bilinear", "antialias": True},
    "huggingface": {"mode": "bicubic"},
}


@settings(max_examples=60, deadline=None)
@given(old=GRIDS, new=GRIDS, rule=st.sampled_from(sorted(RULES)), num_prefix=st.integers(0, 2))
def test_every_rule_is_torchs_in_float64(
    old: tuple[int, int], new: tuple[int, int], rule: str, num_prefix: int
) -> None:
    """float32 rounds the result alone: the arithmetic is float64."""
    before = table(num_prefix + old[0] * old[1])
    resized = resize_posemb(before, old, new, num_prefix, rule)
    grid = before[:, num_prefix:].double().reshape(1, *old, -1).permute(0, 3, 1, 2)
    if rule == "dino":
        factors = [(after + 0.1) / side for after, side in zip(new, old, strict=True)]
        expected = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    else:
        expected = F.interpolate(grid, size=new, **TORCH[rule])
    expected = grid if old == new else expected
    assert resized.dtype == torch.float32
    assert torch.equal(resized[:, :num_prefix], before[:, :num_prefix])
    found = resized[:, num_prefix:].double()
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-7, atol=1e-6)


@settings(deadline=None)
@given(grid=GRIDS, rule=st.sampled_from(sorted(RULES)), num_prefix=st.integers(0, 2))
def test_the_same_grid_is_the_same_table_bit_for_bit(
    grid: tuple[int, int], rule: str, num_prefix: int
) -> None:
    before = table(num_prefix + grid[0] * grid[1])
    after = resize_posemb(before, grid, grid, num_prefix, rule)
    assert torch.equal(before, after)
    assert before.data_ptr() != after.data_ptr()


@settings(deadline=None)
@given(
    old=GRIDS,
    new=GRIDS,
    rule=st.sampled_from(sorted(RULES)),
    factor=st.floats(-4, 4, allow_subnormal=False),
)
def test_resizing_is_linear_and_keeps_constants(
    old: tuple[int, int], new: tuple[int, int], rule: str, factor: float
) -> None:
    a, b = table(old[0] * old[1], seed=1), table(old[0] * old[1], seed=2)
    sizes = (old, new, 0, rule)
    both = resize_posemb(a + factor * b, *sizes)
    parts = resize_posemb(a, *sizes) + factor * resize_posemb(b, *sizes)
    torch.testing.assert_close(both, parts, rtol=1e-5, atol=1e-5)
    ones = resize_posemb(torch.ones(1, old[0] * old[1], 2), *sizes)
    torch.testing.assert_close(ones, torch.ones_like(ones), rtol=0, atol=1e-6)


@settings(deadline=None)
@given(old=GRIDS, new=GRIDS, rule=st.sampled_from(sorted(RULES)))
def test_rows_and_columns_are_treated_alike(
    old: tuple[int, int], new: tuple[int, int], rule: str
) -> None:
    """Transposing the grid before or after is the same; a swapped axis would show."""

    def transposed(values: Tensor, grid: tuple[int, int]) -> Tensor:
        return values.reshape(1, *grid, -1).transpose(1, 2).flatten(1, 2)

    before = table(old[0] * old[1])
    one = transposed(resize_posemb(before, old, new, 0, rule), new)
    other = resize_posemb(transposed(before, old), old[::-1], new[::-1], 0, rule)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_ramp_by_hand() -> None:
    """0, 1, 2 to five samples: corners aligned 0, .5, 1, 1.5, 2; images aligned as drawn."""
    ramp = torch.arange(3.0).reshape(1, 3, 1)
    aligned = resize_posemb(ramp, (1, 3), (1, 5), 0, "google")
    assert aligned.flatten().tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    pictures = resize_posemb(ramp, (1, 3), (1, 5), 0, "timm_npz")
    torch.testing.assert_close(pictures.flatten(), torch.tensor([0.0, 0.4, 1.0, 1.6, 2.0]))
    assert resize_posemb(ramp, (1, 3), (1, 1), 0, "google").item() == 0.0  # as scipy: the corner
    assert resize_posemb(ramp, (1, 3), (1, 1), 0, "flexi").item() == 1.0


@settings(deadline=None)
@given(old=GRIDS, new=GRIDS, rule=st.sampled_from(sorted(RULES)))
def test_factorised_tables_are_the_table_of_their_sums(
    old: tuple[int, int], new: tuple[int, int], rule: str
) -> None:
    """y_i + x_j on the grid, resized, is resized y_i + resized x_j.

    But with DINO's offset, which moves an axis of equal size too where the other one changes.
    """
    assume(rule != "dino" or (old[0] != new[0] and old[1] != new[1]) or old == new)
    y, x = table(old[0], seed=3), table(old[1], seed=4)
    grid = (y.unsqueeze(2) + x.unsqueeze(1)).flatten(1, 2)
    resized_y, resized_x = resize_axis(y, new[0], rule), resize_axis(x, new[1], rule)
    expected = (resized_y.unsqueeze(2) + resized_x.unsqueeze(1)).flatten(1, 2)
    found = resize_posemb(grid, old, new, 0, rule)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_relative_offsets_keep_their_length_in_the_image(rule: str) -> None:
    """A table linear in the offset stays linear in the image: entry d becomes d * old / new.

    Torch's cubic kernel (a = -0.75) draws straight lines only roughly; resizing the table as a
    image, (2 old - 1) / (2 new - 1), would be off by 0.016.
    """
    old, new = (5, 7), (9, 13)
    y, x = np.mgrid[1 - old[0] : old[0], 1 - old[1] : old[1]].astype(np.float64)
    linear = torch.from_numpy(np.stack([y / old[0], x / old[1]], -1).reshape(-1, 2)).float()
    resized = resize_relative(linear, old, new, 0, rule).reshape(2 * new[0] - 1, 2 * new[1] - 1, 2)
    middle = resized[new[0] - 4 : new[0] + 3, new[1] - 4 : new[1] + 3]
    dy, dx = np.mgrid[-3:4, -3:4]
    shift = 0.1 if rule == "dino" else 0.0
    less = 1 if RULES[rule].is_aligned else 0
    sides = [(b - less, a - less + shift) for b, a in zip(old, new, strict=True)]
    parts = [
        d * before / after / whole
        for d, (before, after), whole in zip((dy, dx), sides, old, strict=True)
    ]
    is_rough = RULES[rule].kernel == "cubic" and not RULES[rule].is_antialiased
    atol = 0.01 if is_rough else 1e-6
    np.testing.assert_allclose(middle.numpy(), np.stack(parts, -1), atol=atol)


@settings(deadline=None)
@given(old=GRIDS, new=GRIDS, rule=st.sampled_from(sorted(RULES)), num_prefix=st.integers(0, 2))
def test_relative_tables_have_the_rows_of_the_new_grid(
    old: tuple[int, int], new: tuple[int, int], rule: str, num_prefix: int
) -> None:
    before = table(num_relative_rows(old, num_prefix))[0]
    after = resize_relative(before, old, new, num_prefix, rule)
    assert after.shape == (num_relative_rows(new, num_prefix), 5)
    assert int(relative_index(new, num_prefix).max()) == len(after) - 1
    if num_prefix:
        assert torch.equal(after[-3:], before[-3:])
    if old == new:
        assert torch.equal(after, before)
    mirrored = resize_relative(_mirrored(before, old), old, new, num_prefix, rule)
    torch.testing.assert_close(mirrored, _mirrored(after, new), rtol=1e-5, atol=1e-5)


def _mirrored(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Every offset with its opposite sign; the rows of prefix tokens stay."""
    count = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    return torch.cat([values[:count].flip(0), values[count:]])


def test_what_cannot_be_resized_is_refused_with_both_shapes() -> None:
    with pytest.raises(
        ModelError, match=r"\(1, 13, D\) of a grid 3x4 .*got \(1, 12, 5\)"
    ) as caught:
        resize_posemb(table(12), (3, 4), (5, 5), 1, "google")
    assert caught.value.code == "VIT-453"
    with pytest.raises(ModelError, match=r"\(35, head_dim\).*got \(36, 5\)") as caught:
        resize_relative(table(36)[0], (3, 4), (5, 5), 0, "google")
    assert caught.value.code == "VIT-453"
    with pytest.raises(ModelError, match="Did you mean torchvision") as caught:
        resize_posemb(table(12), (3, 4), (5, 5), 0, "torchvison")
    assert caught.value.code == "VIT-450"
