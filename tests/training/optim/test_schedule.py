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
from vitrail.training.optim.schedule import StepSchedule, check_schedule, lr_on

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cases" / "lr_schedules"
ITEMS = {
    item["key"]: item["arguments"]
    for item in json.loads((GOLDEN / "case.json").read_text(encoding="utf-8"))["items"]
}


def lr_at(step: int, total_steps: int, lr: float, config: ScheduleConfig) -> float:
    """The learning rate of `step` (counted from 1) in a run of `total_steps`; `lr` is the peak."""
    return lr_on(StepSchedule.of(total_steps), step, lr, config)


@pytest.mark.parametrize("key", list(ITEMS))
def test_equals_the_reference_implementations(key: str) -> None:
    """The case states no tolerance; its values were computed in float32 (measured: 9.3e-8)."""
    assert _worst(key, _config_of(ITEMS[key])) <= 2e-7


@pytest.mark.parametrize("key", list(ITEMS))
def test_another_schedule_does_not_equal_the_reference(key: str) -> None:
    config = _config_of(ITEMS[key])
    other = "linear" if config.name != "linear" else "cosine"
    assert _worst(key, config.model_copy(update={"name": other})) > 1e-3


def _worst(key: str, config: ScheduleConfig) -> float:
    """Largest difference from the reference, as a share of the peak."""
    arguments = ITEMS[key]
    with np.load(GOLDEN / "io.npz", allow_pickle=False) as arrays:
        steps, expected = arrays[f"{key}_steps"], arrays[f"{key}_lr"]
    assert len(steps) >= 49
    got = [lr_at(step, arguments["total_steps"], arguments["base"], config) for step in steps]
    # its cooldown goes below 0 after the end of the run, ours stays at 0
    return float(np.abs(np.array(got) - np.maximum(0.0, expected)).max() / arguments["base"])


def _config_of(arguments: dict[str, Any]) -> ScheduleConfig:
    name = arguments["decay_type"]
    given = {"end_lr": arguments.get("end", arguments.get("linear_end"))}
    given |= {"timescale": arguments.get("timescale"), "power": arguments.get("power")}
    given |= {"stair_at": arguments.get("steps"), "stair_factors": arguments.get("mults")}
    if name == "linear" and given["end_lr"] is None:
        given["end_lr"] = 1e-5
    config = ScheduleConfig(
        name=name,
        warmup=arguments["warmup_steps"],
        cooldown=arguments.get("cooldown_steps", 0) / arguments["total_steps"],
        **{key: value for key, value in given.items() if value is not None},
    )
    check_schedule(config, arguments["total_steps"])
    return config


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
        ("polynomial", {1: 0.1, 10: 1.0, 55: 0.125, 100: 0.0}),
        ("stair", {1: 0.1, 10: 1.0, 29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01, 100: 0.01}),
        ("rsqrt", {1: 0.1, 10: 1.0, 40: 1 / math.sqrt(2), 100: 0.5}),
    ],
)
@pytest.mark.parametrize("warmup", [10, 0.1])
def test_closed_forms(name: Any, expected: dict[int, float], warmup: float) -> None:
    own: dict[str, Any] = {"rsqrt": {"timescale": 30}, "polynomial": {"power": 3}}
    own["stair"] = {"stair_at": (0.3, 0.6), "stair_factors": (0.1, 0.01)}
    config = ScheduleConfig(name=name, warmup=warmup, **own.get(name, {}))
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
        (ScheduleConfig(name="stair"), "as many factors"),
        (ScheduleConfig(name="stair", stair_at=(5, 9), stair_factors=(0.1,)), "as many factors"),
        (ScheduleConfig(name="stair", stair_at=(9, 5), stair_factors=(0.1, 0.01)), "which rise"),
        (ScheduleConfig(name="stair", stair_at=(0.5, 9), stair_factors=(0.1, 0.01)), "all steps"),
        (ScheduleConfig(name="stair", stair_at=(0.5,), stair_factors=(2,)), "up to 1"),
        (ScheduleConfig(warmup=0.7, cooldown=0.4), "longer than the run"),
        (ScheduleConfig(warmup=500), "100 steps"),
    ],
)
def test_schedules_that_cannot_be_followed_are_refused(config: ScheduleConfig, word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        check_schedule(config, total_steps=100)
    assert error.value.code == "VIT-243"


def test_ordinary_schedules_are_accepted() -> None:
    check_schedule(ScheduleConfig(), 100)
    check_schedule(ScheduleConfig(name="polynomial", power=0.9, end_lr=1e-4), 100)
    hyper_rule = ScheduleConfig(name="stair", stair_at=(0.3, 0.6, 0.9), stair_factors=(0.1, 1, 0.5))
    check_schedule(hyper_rule, 100)
    check_schedule(ScheduleConfig(name="rsqrt", timescale=7, cooldown=0.1))


@pytest.mark.parametrize("text", ["0.3,0.6", "0.3", ""])
def test_stairs_as_typed_on_a_command_line(text: str) -> None:
    config = ScheduleConfig.model_validate({"name": "stair", "stair_at": text})
    assert ",".join(map(str, config.stair_at)) == text


@st.composite
def replanned(draw: st.DrawFn) -> StepSchedule:
    """A plan that was changed up to four times, at any step."""
    plan = StepSchedule.of(draw(st.integers(1, 2000)))
    for _ in range(draw(st.integers(0, 4))):
        last = plan.pieces[-1]
        step = draw(st.integers(last.from_step, last.total_steps - 1))
        plan = plan.replan(step, draw(st.integers(step + 1, step + 2000)))
    return plan


@given(
    replanned(),
    st.sampled_from(["cosine", "linear", "polynomial", "rsqrt", "constant", "stair"]),
    st.sampled_from([0, 0.05, 0.3, 17]),
)
def test_progress_never_falls_and_ends_at_one(plan: StepSchedule, name: Any, warmup: float) -> None:
    steps = range(plan.total_steps + 2)
    shares = [plan.progress(step) for step in steps]
    assert shares[0] == 0
    assert shares[-1] == shares[-2] == 1
    assert all(a <= b for a, b in zip(shares, shares[1:], strict=False))
    stairs: dict[str, Any] = {"stair_at": (0.2, 0.9), "stair_factors": (0.5, 0.1)}
    config = ScheduleConfig(name=name, warmup=warmup, **stairs if name == "stair" else {})
    rates = [lr_on(plan, step, 0.3, config) for step in steps]
    assert min(rates) >= 0
    assert max(rates) <= 0.3 * (1 + 1e-12)


@given(replanned(), st.data())
def test_replanning_changes_nothing_before_it(plan: StepSchedule, data: st.DataObject) -> None:
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
def test_step_at_is_the_inverse_of_progress(plan: StepSchedule, share: float) -> None:
    assert plan.progress(plan.step_at(share)) == pytest.approx(share, abs=1e-9)


@given(replanned())
def test_json_gives_the_same_plan(plan: StepSchedule) -> None:
    assert StepSchedule.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_one_piece_is_the_plain_formula() -> None:
    plan = StepSchedule.of(97)
    assert [plan.progress(step) for step in range(98)] == [step / 97 for step in range(98)]
    assert plan.total_steps == 97
    assert plan.replan(5, 97) is plan


@pytest.mark.parametrize(("step", "total"), [(5, 5), (9, 3), (-1, 10)])
def test_a_plan_cannot_end_in_the_past(step: int, total: int) -> None:
    with pytest.raises(ValueError, match="re-plan"):
        StepSchedule.of(100).replan(step, total)
    with pytest.raises(ValueError, match="at least 1"):
        StepSchedule.of(0)
