"""A planted arm at chance level and a planted crippled arm are told; a fair comparison stands."""

from __future__ import annotations

import pytest

from tests.studies.made_rows import made_row
from tests.studies.small_study import digits
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.compare_models import STUDY as COMPARE
from vitrail.studies.experiments.data_size import STUDY as DATA_SIZE
from vitrail.studies.guard import arms, guarded, outside
from vitrail.studies.results.result import Outcome, Verdict

ANSWER = "Take A: it is 3 points above B."
SIMPLE = {"majority class": 0.12, "5 nearest neighbours": 0.41}
MADE = Outcome(Verdict(ANSWER, "claim", "source", ["evidence"], ["limit"]), [], {}, {})


def rows_of(n: int = 400, **tops: float) -> list[Row]:
    """Three seeds of each arm at two sizes, the larger one better."""
    return [
        made_row(arm, seed, {"pictures": size}, {"val/top1": top - lost, "val/n": n})
        for arm, top in tops.items()
        for size, lost in ((100, 0.05), (1000, 0.0))
        for seed in (0, 1, 2)
    ]


def said(rows: list[Row], simple: dict[str, float] | None = None) -> str:
    found = guarded(MADE, rows, "val/top1", 10, SIMPLE if simple is None else simple)
    assert found.verdict.evidence == MADE.verdict.evidence
    return found.verdict.answer


@pytest.mark.promise("E3")
def test_a_fair_comparison_stands() -> None:
    assert said(rows_of(A=0.61, B=0.58)) == ANSWER


@pytest.mark.promise("E3")
@pytest.mark.parametrize("tops", [{"A": 0.13, "B": 0.11}, {"A": 0.14, "B": 0.06, "C": 0.12}])
def test_nothing_is_said_at_the_level_of_guessing(tops: dict[str, float]) -> None:
    words = said(rows_of(n=180, **tops))
    assert words.startswith("Nothing can be said: no arm is clearly above the level of guessing")
    assert "A with 0.1" in words
    assert "--budget" in words
    assert ANSWER not in words


@pytest.mark.promise("E3")
def test_the_majority_class_is_a_guess_too() -> None:
    assert "guessing (0.600)" in said(rows_of(A=0.62, B=0.61), {"majority class": 0.6})


@pytest.mark.promise("E3")
def test_a_crippled_arm_is_no_opponent() -> None:
    words = said(rows_of(A=0.61, B=0.12))
    assert words.startswith("Nothing can be said of a difference: only A with 0.610")
    assert "no fair opponent for B" in words
    three = said(rows_of(A=0.61, B=0.12, C=0.55))
    assert three == f"Nothing can be said of B, at the level of guessing (0.120). {ANSWER}"


@pytest.mark.promise("E3")
def test_what_learns_nothing_must_be_beaten() -> None:
    words = said(rows_of(A=0.43, B=0.35))
    assert words.startswith("Nothing can be said of these models: the best is A with 0.430")
    assert "5 nearest neighbours (0.410)" in words
    assert said(rows_of(n=40_000, A=0.43, B=0.35)) == ANSWER  # enough images to tell


def test_arms_count_with_their_best_setting_and_other_data_do_not() -> None:
    rows = rows_of(A=0.5)
    rows += [made_row("A", 0, {"pictures": 9, "then": "fine-tuned"}, {"val/top1": 0.9, "val/n": 9})]
    rows += [made_row("B", 0, {"pictures": 9}, {"val/top1": float("nan"), "val/n": 9})]
    rows += [made_row("C", 0, {"px": 32}, {"speed": 4.0})]
    (one,) = arms(rows, "val/top1")
    assert (one.name, one.n) == ("A", 400)
    assert one.top1 == pytest.approx(0.5)
    assert guarded(MADE, [rows[-1]], "val/top1", 10, SIMPLE) is MADE


def test_the_outside_baselines_are_of_the_images_that_the_verdict_rests_on() -> None:
    assert (COMPARE.judged_by, DATA_SIZE.judged_by) == ("val/top1", "test/top1")
    whole, few = outside(COMPARE, digits()), outside(COMPARE, digits(sizes=(20, 50)))
    assert max(whole.values()) > 0.95
    assert max(few.values()) < max(whole.values())
    assert set(whole) > {"majority class"}
