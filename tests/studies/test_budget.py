"""What a budget buys: nearly all of it, never more, and a way out where it is too little."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.studies.small_study import cell, paces_of
from vitrail.errors import UsageError
from vitrail.setting_values import parse_secs
from vitrail.studies.budget import (
    FINISH_SECS,
    KEPT_BACK,
    LEAST_STEPS,
    Pace,
    cell_secs,
    examples_for,
    makespan,
    paces_from,
    rounded_down,
    training_share,
)
from vitrail.studies.engine.cell import Cell, needed

PACE = Pace(open_secs=0.5, secs_per_example=0.001, secs_per_judged=0.0005, judged=540)


def cells_at(examples: int) -> list[Cell]:
    """Two parents, and a child of each that trains half as long."""
    parents = [cell(seed=seed, examples=max(1, examples)) for seed in range(2)]
    return [cell(seed=one.seed, start=one, examples=max(1, examples // 2)) for one in parents]


PACES = paces_of(cells_at(1), PACE)


def lasts(examples: int, processes: int) -> float:
    cells = needed(cells_at(examples))
    return makespan((cell_secs(one, PACES) for one in cells), processes)


def test_seconds_of_a_cell() -> None:
    assert PACE.seconds(1000) == pytest.approx(0.5 + 1.0 + 0.27 + FINISH_SECS)


def test_paces_are_kept_as_plain_data() -> None:
    record = {"open_secs": 1.0, "secs_per_example": 2.0, "secs_per_judged": 3.0, "judged": 4}
    assert paces_from({"a": {**record, "peak_bytes": 5.0}}) == {"a": Pace(1.0, 2.0, 3.0, 4, 5.0)}


@pytest.mark.parametrize(
    ("seconds", "processes", "expected"),
    [
        ([], 3, 0.0),
        ([2.0], 3, 2.0),
        ([1.0, 2.0, 3.0], 1, 6.0),
        ([3.0, 3.0, 2.0, 2.0, 2.0], 2, 7.0),  # 3+2+2 and 3+2: in the order given
        ([1.0, 1.0, 4.0], 2, 5.0),
    ],
)
def test_makespan_by_hand(seconds: list[float], processes: int, expected: float) -> None:
    assert makespan(seconds, processes) == expected


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=12),
    st.integers(1, 5),
    st.floats(1, 3),
)
def test_laws_of_makespan(seconds: list[float], processes: int, factor: float) -> None:
    found = makespan(seconds, processes)
    least = max(*seconds, 0, sum(seconds) / processes)
    assert least * (1 - 1e-9) <= found <= sum(seconds) / processes + max(seconds) * (1 + 1e-9)
    assert makespan([one * factor for one in seconds], processes) >= found * (1 - 1e-9)


@pytest.mark.parametrize(("budget", "processes"), list(product([40, 300, 7200], [1, 2, 3])))
def test_a_budget_is_used_and_not_exceeded(budget: float, processes: int) -> None:
    found = examples_for(cells_at, PACES, budget, processes)
    assert lasts(found, processes) <= budget * (1 - KEPT_BACK)
    # 64 images or half a percent from the search, one percent from rounding
    assert lasts(round(found * 1.02) + 64, processes) > budget * (1 - KEPT_BACK)


def test_what_was_spent_is_not_there() -> None:
    assert examples_for(cells_at, PACES, 100, 2, 40) == examples_for(cells_at, PACES, 60, 2)


@settings(max_examples=5, deadline=None)
@given(st.floats(30, 20_000), st.floats(1, 3), st.integers(1, 4))
def test_a_larger_budget_buys_no_less(budget: float, factor: float, processes: int) -> None:
    less = examples_for(cells_at, PACES, budget, processes)
    assert less <= examples_for(cells_at, PACES, budget * factor, processes)
    assert less <= examples_for(cells_at, PACES, budget, processes + 1)


@pytest.mark.parametrize(("budget", "spent"), [(1.0, 0.0), (1.0, 30.0), (100.0, 95.0)])
def test_a_budget_that_is_too_short(budget: float, spent: float) -> None:
    with pytest.raises(UsageError, match=r"4 cells; they need \d+ s") as caught:
        examples_for(cells_at, PACES, budget, 1, spent)
    assert caught.value.code == "VIT-291"
    assert f"a budget of {budget:.0f} s" in caught.value.message
    way_out = re.search(r"--budget (\w+)", caught.value.hint)
    assert way_out is not None
    enough = parse_secs(way_out[1])
    assert isinstance(enough, float)
    assert examples_for(cells_at, PACES, enough, 1, spent) >= LEAST_STEPS * 64


@given(st.integers(0, 10**9))
def test_three_digits(value: int) -> None:
    found = rounded_down(value)
    assert value * 0.99 <= found <= value
    assert len(str(found).rstrip("0")) <= 3


def test_the_share_of_training() -> None:
    """A second of 2.77 for the parents, half a second of 2.27 for the children."""
    share = training_share(needed(cells_at(1000)), PACES)
    assert share == pytest.approx((1 + 0.5) / (2.77 + 2.27))
    assert training_share(needed(cells_at(1_000_000)), PACES) > 0.99
