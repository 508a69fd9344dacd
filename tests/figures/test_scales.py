from __future__ import annotations

import pytest

from vitrail.figures.scales import Scale, labels_of, log_ticks, short, spread, ticks, ticks_at


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (500, "500"),
        (1000, "1k"),
        (1500, "1.5k"),
        (2e7, "20M"),
        (3e12, "3T"),
        (3e-4, "3e-4"),
        (1.5e-3, "1.5e-3"),
        (0.01, "0.01"),
        (-2000, "-2k"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_labels_have_as_many_digits_each() -> None:
    assert labels_of([0.7, 0.75, 0.8]) == ["0.70", "0.75", "0.80"]
    assert labels_of([500, 1000]) == ["500", "1k"]
    assert labels_of([0.5, 1], is_log=True) == ["0.5", "1"]


def test_a_scale_keeps_what_lies_outside_at_its_edge() -> None:
    linear, log = Scale(0, 10, 100, 0), Scale(1, 100, 0, 100, is_log=True)
    assert [linear(one) for one in (0, 5, 10, 1e9, -3)] == [100, 50, 0, 0, 100]
    assert [log(one) for one in (1, 10, 100, 1e9)] == [0, 50, 100, 100]
    assert Scale(3, 3, 0, 9)(3) == 0


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(1.83, 2.31, 4) == [2.0, 2.2]
    assert ticks(0, 30_000, 6) == [0, 5000, 10_000, 15_000, 20_000, 25_000, 30_000]
    assert ticks(5, 5, 3) == [5]
    assert ticks_at(0, 10, [1, 4, 9]) == [1, 4, 9]
    assert ticks_at(0, 10, [1, 1.1, 9]) == [0, 2, 4, 6, 8, 10]


def test_ticks_of_a_logarithmic_axis() -> None:
    assert log_ticks(400, 5000, [500, 1000, 4000]) == [500, 1000, 4000]
    assert log_ticks(400, 17000, [500, 1000, 2000], 16000) == [500, 1000, 2000, 4000, 8000, 16000]
    assert log_ticks(340, 6100, [360, 1400, 2890], 5780) == [360, 1400, 2890, 5780]  # its own end
    assert log_ticks(340, 3100, [360, 1400, 2890], 2890) == [360, 1400, 2890]
    assert log_ticks(0.9, 2e6, [1, 1.01, 1e6]) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    assert log_ticks(0.04, 0.3, []) == [0.05, 0.1, 0.2] or len(log_ticks(0.04, 0.3, [])) >= 3
    assert all(0.31 <= tick <= 0.36 for tick in log_ticks(0.31, 0.36, []))


def test_axes_have_room_at_both_sides() -> None:
    assert spread([0, 10], 0.05) == (-0.5, 10.5)
    assert spread([2, 8], 0.0) == (2, 8)
    low, high = spread([1, 100], 0.5, is_log=True)
    assert (low, high) == pytest.approx((0.1, 1000))
    assert spread([7, 7], 0.05) == pytest.approx((6.3, 7.7))
    assert spread([], 0.1)[0] < spread([], 0.1)[1]
