"""Position tables: values by hand, and the laws they must obey."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.posemb import (
    RelativeBias,
    num_relative_rows,
    relative_index,
    rope_2d,
    rotate,
    sincos_2d,
)

grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


def test_sincos_by_hand() -> None:
    """Grid 2 x 3, width 8: omega is 1 and 1/10000; columns [sin x, cos x, sin y, cos y]."""
    table = sincos_2d((2, 3), 8)
    assert table.shape == (6, 8)
    assert table[0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    s, c = math.sin, math.cos
    x, y = 2, 1  # the last patch
    expected = [s(x), s(x / 1e4), c(x), c(x / 1e4), s(y), s(y / 1e4), c(y), c(y / 1e4)]
    assert table[5].tolist() == pytest.approx(expected, abs=1e-15)


def rotary(grid: tuple[int, int], head_dim: int, **fields: Any) -> ViTConfig:
    sizes: dict[str, Any] = {"patch_size": (2, 3), "width": head_dim, "depth": 1, "num_heads": 1}
    image_size = (2 * grid[0], 3 * grid[1])
    return ViTConfig(image_size=image_size, mlp_dim=3, posemb="rope_2d", **sizes, **fields)


def test_rope_by_hand() -> None:
    """Grid 1 x 2, head_dim 4: y is the centre, angle 0; x is at -1/2 and 1/2, angle pi x."""
    cos, sin = rope_2d(rotary((1, 2), 4))
    assert sin[:, 0].tolist() == [0, 0]  # columns [y, x, y, x]
    assert sin[:, 1].tolist() == pytest.approx([math.sin(-math.pi), math.sin(math.pi)])
    assert cos[:, 1].tolist() == pytest.approx([-1, -1])
    assert np.array_equal(cos[:, :2], cos[:, 2:])
    _, sines = rope_2d(rotary((4, 1), 8))
    expected = 2 * math.pi * 0.25 / 10  # second row is at -1/4, second period is 100^(1/2)
    assert sines[2, 1] == pytest.approx(math.sin(expected))


def test_rope_by_index_by_hand() -> None:
    """Grid 2 x 3, head_dim 8, base 16: periods 1 and 4. The last patch is row 1 and column 2; from
    1 on they are 2 and 3; stretched to 5 x 2 the row is 2 / 2 * 5 and the column 3 / 3 * 2.
    """
    index: dict[str, Any] = {"rope": "index", "rope_base": 16.0}
    for more, (y, x) in (
        ({}, (1.0, 2.0)),
        ({"rope_start": 1.0}, (2.0, 3.0)),
        ({"rope_start": 1.0, "rope_grid": (5, 2)}, (5.0, 2.0)),
    ):
        cos, sin = rope_2d(rotary((2, 3), 8, **index, **more))[:, -1]
        angles = [y, y / 4, x, x / 4] * 2
        assert sin.tolist() == pytest.approx([math.sin(angle) for angle in angles], abs=1e-15)
        assert cos.tolist() == pytest.approx([math.cos(angle) for angle in angles], abs=1e-15)


@settings(deadline=None)  # the first configuration takes longest
@given(grids, st.integers(0, 3), st.integers(0, 2**31))
def test_rotation_keeps_lengths_and_prefix(grid: tuple[int, int], prefix: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = prefix + grid[0] * grid[1]
    x = torch.randn(2, count, 3, 8, generator=generator, dtype=torch.float64)
    turned = rotate(x, torch.from_numpy(rope_2d(rotary(grid, 8))))
    assert torch.equal(turned[:, :prefix], x[:, :prefix])
    assert (turned.norm(dim=-1) - x.norm(dim=-1)).abs().max() <= 1e-13


def test_rotated_products_depend_on_the_offset_only() -> None:
    """What makes the embedding relative: q_i . k_j is the same for equal offsets."""
    h, w = 3, 5
    rope = torch.from_numpy(rope_2d(rotary((h, w), 16)))
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    queries, keys = (
        rotate(one.expand(1, h * w, 1, 16), rope)[0, :, 0].reshape(h, w, 16) for one in (q, k)
    )
    for dy, dx in ((1, 2), (0, 1), (2, 0)):
        products = [
            (queries[y, x] @ keys[y + dy, x + dx]).item()
            for y in range(h - dy)
            for x in range(w - dx)
        ]
        assert products == pytest.approx([products[0]] * len(products), abs=1e-12)


@given(grids, st.integers(0, 3))
def test_relative_index_law(grid: tuple[int, int], prefix: int) -> None:
    """Equal offsets share a row, others do not, and every row is used."""
    index = relative_index(grid, prefix)
    h, w = grid
    rows: dict[tuple[object, ...], int] = {}
    for i in range(prefix + h * w):
        for j in range(prefix + h * w):
            key: tuple[object, ...] = ("prefix", i < prefix, j < prefix)
            if i >= prefix and j >= prefix:
                (yi, xi), (yj, xj) = divmod(i - prefix, w), divmod(j - prefix, w)
                key = (yi - yj, xi - xj)
            assert rows.setdefault(key, index[i, j]) == index[i, j]
    assert sorted(rows.values()) == list(range(num_relative_rows(grid, prefix)))


def test_relative_bias_by_hand() -> None:
    """Grid 1 x 2: three offsets (-1, 0, 1); bias[i, j] = q_i . key[offset] / sqrt(head_dim)."""
    bias = RelativeBias((1, 2), 0, 4).double()
    bias.keys.data = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    query = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 2]], dtype=torch.float64)[None, None]
    # q_0 picks column 0 and q_1 twice column 3; offsets p_q - p_k index the rows.
    expected = torch.tensor([[4.0, 0.0], [22.0, 14.0]]) / 2
    assert torch.equal(bias(query)[0, 0], expected.double())
