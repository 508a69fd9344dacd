"""vitrail/studies/experiments/compare_models.py: chosen on validation, promised an interval,
checked once.
"""

from __future__ import annotations

import math

import pytest

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.compare_models import (
    STUDY,
    PretrainedModel,
    arms,
    choose,
    expected,
)
from vitrail.studies.experiments.families import BIT, HYBRID, RESNET, VIT, macs

SIZES = (1_500, 3_000, 6_000, 12_000)
SETUP = made_setup(STUDY, sizes=SIZES, choices={"models": (), "starts": ()})


def figures(cell: Cell) -> dict[str, float]:
    """error = a n^-b; test alone would choose the ViT."""
    n = float(cell.axes["pictures"])
    few = {RESNET: 2.0, BIT: 3.0, HYBRID: 2.4}
    error = 18.0 * n**-0.5 if cell.arm == VIT else few[cell.arm] * n**-0.3
    own = {VIT: 0.001, HYBRID: -0.001}.get(cell.arm, 0.0) * (cell.seed - 1)
    val = 1 - error + SEED_NOISE[cell.seed] + own
    return {
        "val/top1": val,
        "val/n": 500,
        "test/top1": 0.99 if cell.arm == VIT else val - 0.01,
        "test/n": 700,
        "parameters": 1e6,
        "macs": 1e7,
    }


def test_cells_have_equal_compute() -> None:
    cells = check_cells(STUDY, SETUP)
    assert len(cells) == len(SETUP.seeds) * len(SIZES) * 4
    spent = {cell.arm: cell.settings["examples"] * macs(cell.settings, SETUP) for cell in cells}
    assert max(spent.values()) / min(spent.values()) == pytest.approx(1, abs=1e-3)


def test_named_models_and_given_weights_are_arms() -> None:
    start = PretrainedModel("mine", "runs/mine", "ab" * 32, 10**7)
    setup = made_setup(STUDY, sizes=SIZES, choices={"models": ("vit_ti4",), "starts": (start,)})
    assert list(arms(setup)) == ["vit_ti4", "from mine"]
    tuned = [cell for cell in STUDY.cells(setup) if cell.arm == "from mine"][0]
    assert tuned.settings["start.sha256"] == "ab" * 32
    assert tuned.recipe == "transfer.adamw"


def test_validation_chooses_and_the_test_is_looked_at_for_the_chosen_one_only() -> None:
    rows = made_rows(STUDY.cells(SETUP), figures)
    choice = choose(SETUP, rows)
    assert choice is not None
    assert choice.arm == RESNET
    assert choice.rivals == ()
    outcome = STUDY.outcome(SETUP, rows)
    assert outcome.verdict.answer.startswith("Recommended: ResNet;")
    assert "inside the expected range" in outcome.verdict.answer
    assert "0.990" not in str(outcome.verdict) + str(outcome.tables)
    said = " ".join(outcome.verdict.evidence)
    assert "Doubling the dataset to 24,000 images: about +2.2" in said
    assert "ViT overtakes ResNet at about" in said


def test_a_model_that_cannot_be_told_apart_is_named() -> None:
    def close(cell: Cell) -> dict[str, float]:
        found = figures(cell)
        if cell.arm == HYBRID:
            wobble = (0.02, -0.02, 0.0)[cell.seed]
            found |= {"val/top1": figures(replaced(cell))["val/top1"] - 0.004 + wobble}
        return found

    choice = choose(SETUP, made_rows(STUDY.cells(SETUP), close))
    assert choice is not None
    assert choice.rivals == (HYBRID,)


def replaced(cell: Cell) -> Cell:
    return Cell(RESNET, cell.axes, cell.settings, cell.seed)


def test_a_broken_promise_is_said() -> None:
    def worse(cell: Cell) -> dict[str, float]:
        return {**figures(cell), "test/top1": 0.3}

    answer = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), worse)).verdict.answer
    assert "OUTSIDE the expected range" in answer


def test_expected_interval_by_hand() -> None:
    cells = [c for c in STUDY.cells(SETUP) if c.arm == BIT and c.axes["pictures"] == 12_000]
    shares = [0.70, 0.72, 0.74]
    rows = made_rows(cells, lambda c: {"val/top1": shares[c.seed], "val/n": 500, "test/n": 700})
    low, high = expected(rows, 700)
    half = 1.959964 * math.sqrt(0.72 * 0.28 / 500 + 0.72 * 0.28 / 700 + 0.02**2 * (1 + 1 / 3))
    assert (low, high) == pytest.approx((0.72 - half, 0.72 + half), abs=1e-6)


def test_nothing_is_recommended_before_a_model_has_all_its_runs() -> None:
    rows = made_rows([c for c in STUDY.cells(SETUP) if c.seed < 2], figures)
    assert choose(SETUP, rows) is None
    answer = STUDY.outcome(SETUP, rows).verdict.answer
    assert answer == "No recommendation: too few finished runs."
