"""vitrail/studies/experiments/resolution.py: sizes, equal computing, and what is said of test
sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from tests.studies.made_setup import (
    EXAMPLES,
    PHOTOGRAPHS,
    SEED_NOISE,
    check_cells,
    made_rows,
    made_setup,
)
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.grids import SIDES, nearest_side, sides_around
from vitrail.studies.experiments.families import macs
from vitrail.studies.experiments.resolution import STUDY, TUNED, sides
from vitrail.studies.setup import Setup

SETUP = made_setup(STUDY)
FIRST, HIGHER, LONGER = sides(SETUP).arms
OWN = {FIRST: 0.8, HIGHER: 0.86, LONGER: 0.83}
SHOWN = {FIRST: {20: 0.8, 28: 0.7}, HIGHER: {20: 0.75, 28: 0.86}, LONGER: {20: 0.83, 28: 0.72}}


def figures(cell: Cell, own: Mapping[str, float] = OWN) -> dict[str, float]:
    wobble = SEED_NOISE[cell.seed] * (1 if cell.arm == HIGHER else 1.2)
    found = {f"sizes/top1@{px}": top + wobble for px, top in SHOWN[cell.arm].items()}
    return {"test/top1": own[cell.arm] + wobble, "sizes/n": 4000, **found}


@pytest.mark.parametrize(
    ("setup", "patch", "low", "high"),
    [
        (SETUP, 4, (20, 20), (28, 28)),
        (made_setup(STUDY, choices={"image_size": 28}), 4, (20, 20), (28, 28)),
        (made_setup(STUDY, choices={"image_size": 20}), 2, (20, 20), (32, 32)),
        (made_setup(STUDY, facts=PHOTOGRAPHS), 8, (64, 64), (96, 96)),
        (made_setup(STUDY, facts=PHOTOGRAPHS, choices={"image_size": 48}), 7, None, None),
        (made_setup(STUDY, is_full=True), 16, (224, 224), (384, 384)),
    ],
)
def test_the_two_sizes(
    setup: Setup, patch: int, low: tuple[int, int] | None, high: tuple[int, int] | None
) -> None:
    found = sides(setup)
    if low is None:
        assert found.low == (48, 48)
        assert found.high[0] > 48
        assert found.high[0] % found.patch == found.low[0] % found.patch == 0
        return
    assert (found.patch, found.low, found.high) == (patch, low, high)


def test_a_training_and_two_continuations_that_cost_the_same() -> None:
    cells = check_cells(STUDY, SETUP)
    assert [cell.arm for cell in cells[:3]] == [FIRST, HIGHER, LONGER]
    first, higher, longer = cells[:3]
    assert higher.start == longer.start == first
    assert first.settings["examples"] == EXAMPLES
    assert longer.settings["examples"] == EXAMPLES * TUNED
    cost = [macs(cell.pace_cell().settings, SETUP) for cell in (higher, longer)]
    spent = [
        cell.settings["examples"] * each for cell, each in zip((higher, longer), cost, strict=True)
    ]
    assert math.isclose(*spent, rel_tol=1e-3)
    assert first.settings["model.posemb"] == "learned"
    assert higher.settings["data.image_size"] == (28, 28)
    assert longer.settings["data.image_size"] == first.settings["data.image_size"] == (20, 20)
    for cell in (higher, longer):
        assert cell.config().start.head == "by_name"
        assert "start.head" not in cell.pace_cell().settings  # there nothing is started from
        assert cell.measures == ("sizes",)


def test_the_papers_scale() -> None:
    cells = check_cells(STUDY, made_setup(STUDY, is_full=True))
    assert cells[0].settings["model.name"] == "vit_b16"
    assert [cell.recipe for cell in cells[:2]] == ["paper.imagenet1k", "paper.finetune"]


def test_both_continuations_are_compared_at_their_own_size() -> None:
    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures))
    answer = outcome.verdict.answer
    assert "going on at 28 px is 3.0 points above going on at 20 px" in answer
    assert "not fine-tuned, ViT shown 28 px is 10.0 points below ViT shown 20 px" in answer
    assert any(
        "Shown 28 px, the fine-tuned model is 16.0 points above" in said
        for said in outcome.verdict.evidence
    )
    assert [list(line.x) for line in outcome.figures[0].series] == [[20.0, 28.0]] * 3


def test_no_winner_where_the_interval_has_zero() -> None:
    rows = made_rows(STUDY.cells(SETUP), lambda cell: figures(cell, {**OWN, HIGHER: OWN[LONGER]}))
    assert "no evidence of a difference between going on" in (
        STUDY.outcome(SETUP, rows).verdict.answer
    )


def test_missing_rows_survive() -> None:
    rows = made_rows(STUDY.cells(SETUP), figures)
    assert "too few" in STUDY.outcome(SETUP, []).verdict.answer
    said = STUDY.outcome(SETUP, [row for row in rows if row.arm == FIRST]).verdict
    assert "not fine-tuned" in said.answer
    assert "going on" not in said.answer
    lost = [row for row in rows if row.arm != FIRST and row.seed == 0]
    assert "one seed" in STUDY.outcome(SETUP, lost).verdict.answer


def test_models_of_one_patch_size_meet_at_the_same_sides() -> None:
    assert sides_around(5) == [3, 4, 5, 6, 7, 8, 10]
    assert sides_around(7) == [4, 5, 6, 7, 8, 10, 12, 14]
    assert 9 in sides_around(9)  # its own, whatever the others are
    assert [nearest_side(wanted) for wanted in (4.67, 10.5, 12.0, 21.0, 0.3)] == [5, 10, 12, 20, 2]
    assert list(SIDES) == sorted(SIDES)
