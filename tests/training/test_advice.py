"""Each warning comes when it should, and only then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vitrail.training.advice import Evidence, advice
from vitrail.training.plan.plan_run import Plan, plan_run


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_run([("test", {"data.path": "builtin:digits"})])


GOOD = Evidence(
    steps=200,
    num_outputs=10,
    top1=0.9,
    interval=(0.85, 0.94),
    baselines={"majority class": 0.1, "nearest neighbour": 0.8},
    train_loss=0.5,
    waited=0.0,
)
BAD: dict[str, dict[str, Any]] = {
    "below the baseline": {"top1": 0.7, "interval": (0.65, 0.75)},
    "loss of a guess": {"train_loss": 2.29},
    "waiting": {"waited": 0.41},
}


def said(plan: Plan, **changes: Any) -> list[str]:
    return list(advice(plan, replace(GOOD, **changes)))


def test_a_good_run_is_left_alone(plan: Plan) -> None:
    assert said(plan) == []


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("below the baseline", "nearest neighbour (0.800)"),
        ("loss of a guess", "(ln 10 = 2.303)"),
        ("waiting", "limits the speed (41.0 % of the time)"),
    ],
)
def test_what_is_wrong_is_said(plan: Plan, case: str, words: str) -> None:
    (text,) = said(plan, **BAD[case])
    assert words in text


@pytest.mark.parametrize("case", BAD)
def test_nothing_is_advised_after_a_few_steps(plan: Plan, case: str) -> None:
    assert said(plan, steps=19, **BAD[case]) == []
    assert len(said(plan, steps=20, **BAD[case])) == 1


def test_a_difference_inside_the_interval_is_none(plan: Plan) -> None:
    assert said(plan, top1=0.79, interval=(0.73, 0.84)) == []


def test_the_way_out_fits_the_data(plan: Plan) -> None:
    assert "--workers" not in said(plan, waited=0.5)[0]  # nothing is decoded
    files = replace(plan, splits=replace(plan.splits, kind="files"))
    assert "--workers" in said(files, waited=0.5)[0]
