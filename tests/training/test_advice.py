"""Each warning comes when it should, and only then."""

from __future__ import annotations

import pytest

from vitrail.training.advice import advice
from vitrail.training.plan import Plan, plan_run


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_run([("test", {"data.path": "builtin:digits"})])


def said(plan: Plan, top1: float = 0.9, loss: float = 0.5, waited: float = 0.0) -> list[str]:
    simple = {"majority class": 0.1, "nearest neighbour": 0.8}
    return list(advice(plan, 10, top1, simple, loss, waited))


def test_a_good_run_is_left_alone(plan: Plan) -> None:
    assert said(plan) == []


def test_below_the_baseline(plan: Plan) -> None:
    (text,) = said(plan, top1=0.7)
    assert "nearest neighbour (0.800)" in text


def test_loss_of_a_guess(plan: Plan) -> None:
    (text,) = said(plan, loss=2.29)
    assert "ln(10) = 2.303" in text


def test_waiting_for_pictures(plan: Plan) -> None:
    (text,) = said(plan, waited=0.41)
    assert text.startswith("41% of the time")
