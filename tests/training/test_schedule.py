"""The rate of a step against the reference values, closed forms, and the laws of a plan that
changes its length.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.config import ScheduleConfig
from vitrail.errors import UsageError
from vitrail.training.schedule import Plan, check_schedule, lr_at, lr_on

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "lr_schedules"
NOT_OFFERED = ("polynomial", "stair")


@pytest.mark.parametrize(
    "key",
    [
        "vision_transformer_0",
        "vision_transformer_1",
        "vision_transformer_2",
        "big_vision_0",
        "big_vision_1",
        "big_vision_3",
    ],
)
def test_equals_the_reference_implementations(key: str) -> None:
    if not GOLDEN.is_dir():
        pytest.skip("the reference values are not at hand")
    items = json.loads((GOLDEN / "case.json").read_text(encoding="utf-8"))["items"]
    arguments = next(item["arguments"] for item in items if item["key"] == key)
    config, total = _config_of(arguments), arguments["total_steps"]
    with np.load(GOLDEN / "io.npz", allow_pickle=False) as arrays:
        steps, expected = arrays[f"{key}_steps"], arrays[f"{key}_lr"]
    for step, value in zip(steps.tolist(), expected.tolist(), strict=True):
        got = lr_at(step, total, arguments["base"], config)
        # float32 there; its cooldown goes below 0 after the end of the run
        assert got == pytest.approx(max(0.0, value), rel=1e-6, abs=2e-7 * arguments["base"]), step


def _config_of(arguments: dict[str, Any]) -> ScheduleConfig:
    name = arguments["decay_type"]
    warmup = arguments["warmup_steps"]
    return ScheduleConfig(
        name=name,
        warmup=warmup,
        end_lr=arguments.get("linear_end", 1e-5 if name == "linear" else 0.0),
        timescale=arguments.get("timescale", 10_000),
        cooldown=arguments.get("cooldown_steps", 0) / arguments["total_steps"],
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cosine",
            {
                1: 0.1,
                5: 0.5,
                10: 1.0,
                55: 0.5,
                100: 0.0,
                32: 0.5 * (1 + math.cos(math.pi * 22 / 90)),
            },
        ),
        ("linear", {1: 0.1, 10: 1.0, 55: 0.5, 100: 0.0, 19: 0.9}),
        ("constant", {1: 0.1, 10: 1.0, 11: 1.0, 100: 1.0}),
        ("rsqrt", {1: 0.1, 10: 1.0, 40: 1 / math.sqrt(2), 100: 0.5}),
    ],
)
@pytest.mark.parametrize("warmup", [10, 0.1])
def test_closed_forms(name: Any, expected: dict[int, float], warmup: float) -> None:
    config = ScheduleConfig(name=name, warmup=warmup, timescale=30 if name == "rsqrt" else 10_000)
    for step, value in expected.items():
        assert lr_at(step, 100, 1.0, config) == pytest.approx(value, abs=1e-12), step


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_end_is_absolute_and_cooldown_reaches_zero(name: Any) -> None:
    assert lr_at(100, 100, 0.3, ScheduleConfig(name=name, end_lr=1e-5)) == pytest.approx(
        1e-5, rel=1e-9
    )
    cooled = ScheduleConfig(name="constant", warmup=0, cooldown=0.2)
    assert [lr_at(step, 50, 0.3, cooled) for step in (40, 45, 50)] == pytest.approx(
        [0.3, 0.15, 0.0], abs=1e-15
    )


def test_warmup_as_long_as_the_run_only_warms_up() -> None:
    config = ScheduleConfig(warmup=100)
    assert [lr_at(step, 50, 1.0, config) for step in (1, 50)] == pytest.approx([0.01, 0.5])


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (ScheduleConfig(name="rsqrt", end_lr=1e-5), "end_lr"),
        (ScheduleConfig(timescale=7), "timescale"),
        (ScheduleConfig(warmup=0.7, cooldown=0.4), "longer than the run"),
        (ScheduleConfig(warmup=500), "100 steps"),
    ],
)
def test_settings_without_effect_or_room_are_refused(config: ScheduleConfig, word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        check_schedule(config, total_steps=100)
    assert error.value.code == "VIT-243"


def test_ordinary_schedules_are_accepted() -> None:
    check_schedule(ScheduleConfig(), 100)
    check_schedule(ScheduleConfig(name="rsqrt", timescale=7, cooldown=0.1))


@st.composite
def replanned(draw: st.DrawFn) -> Plan:
    """A plan that was changed up to four times, at any step."""
    plan = Plan.of(draw(st.integers(1, 2000)))
    for _ in range(draw(st.integers(0, 4))):
        last = plan.pieces[-1]
        step = draw(st.integers(last.from_step, last.total_steps - 1))
        plan = plan.replan(step, draw(st.integers(step + 1, step + 2000)))
    return plan


@given(
    replanned(),
    st.sampled_from(["cosine", "linear", "rsqrt", "constant"]),
    st.sampled_from([0, 0.05, 0.3, 17]),
)
def test_progress_never_falls_and_ends_at_one(plan: Plan, name: Any, warmup: float) -> None:
    steps = range(plan.total_steps + 2)
    shares = [plan.progress(step) for step in steps]
    assert shares[0] == 0
    assert shares[-1] == shares[-2] == 1
    assert all(a <= b for a, b in zip(shares, shares[1:], strict=False))
    config = ScheduleConfig(name=name, warmup=warmup)
    rates = [lr_on(plan, step, 0.3, config) for step in steps]
    assert min(rates) >= 0
    assert max(rates) <= 0.3 * (1 + 1e-12)


@given(replanned(), st.data())
def test_replanning_changes_nothing_before_it(plan: Plan, data: st.DataObject) -> None:
    last = plan.pieces[-1]
    now = data.draw(st.integers(last.from_step, last.total_steps - 1))
    later = plan.replan(now, data.draw(st.integers(now + 1, now + 500)))
    config = ScheduleConfig(warmup=data.draw(st.sampled_from([0, 0.1, 23])), cooldown=0.1)
    for step in {0, now // 3, now // 2, now}:
        assert later.progress(step) == plan.progress(step)
        if config.warmup == 0 or now >= plan.step_at(0.1):
            assert lr_on(later, step, 1.0, config) == pytest.approx(
                lr_on(plan, step, 1.0, config), abs=1e-9
            )


@given(replanned(), st.floats(0, 1))
def test_step_at_is_the_inverse_of_progress(plan: Plan, share: float) -> None:
    assert plan.progress(plan.step_at(share)) == pytest.approx(share, abs=1e-9)


@given(replanned())
def test_json_gives_the_same_plan(plan: Plan) -> None:
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_one_piece_is_the_plain_formula() -> None:
    plan = Plan.of(97)
    assert [plan.progress(step) for step in range(98)] == [step / 97 for step in range(98)]
    assert plan.total_steps == 97
    assert plan.replan(5, 97) is plan


@pytest.mark.parametrize(("step", "total"), [(5, 5), (9, 3), (-1, 10)])
def test_a_plan_cannot_end_in_the_past(step: int, total: int) -> None:
    with pytest.raises(ValueError, match="re-plan"):
        Plan.of(100).replan(step, total)
    with pytest.raises(ValueError, match="at least 1"):
        Plan.of(0)
