"""vitrail/studies/experiments/head.py: a sweep for each head, its best rate by validation."""

from __future__ import annotations

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.head import ARMS, RATES, STUDY

SETUP = made_setup(STUDY)
BEST = {"CLS": 1e-2, "GAP": 5e-3, "MAP": 1e-2}


def figures(cell: Cell) -> dict[str, float]:
    """Validation prefers BEST; at the rate of CLS, GAP is far worse; test alone prefers 2e-2."""
    rate, noise = cell.axes["lr"], SEED_NOISE[cell.seed]
    if rate == BEST[cell.arm]:
        return {"val/top1": 0.8 + noise, "test/top1": 0.8 + noise}
    return {"val/top1": 0.6 + noise, "test/top1": (0.95 if rate == 2e-2 else 0.6) + noise}


def test_cells_are_a_sweep_of_each_head() -> None:
    cells = check_cells(STUDY, SETUP)
    assert len(cells) == len(SETUP.seeds) * len(ARMS) * len(RATES)
    assert {cell.arm: cell.settings["model.pool"] for cell in cells} == ARMS
    for cell in cells:
        assert cell.settings["optim.lr"] == cell.axes["lr"]


def test_arms_meet_at_their_own_best_rate() -> None:
    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures))
    assert outcome.facts["rates"] == BEST
    assert "no evidence of a difference between CLS and GAP" in outcome.verdict.answer
    said = " ".join(outcome.verdict.evidence)
    assert "With the rate of CLS for both, CLS is 20.0 points above GAP" in said
    assert "With the rate of GAP for both, CLS is 20.0 points below GAP" in said


def test_a_best_rate_at_an_end_is_told() -> None:
    def edge(cell: Cell) -> dict[str, float]:
        best = cell.axes["lr"] == max(RATES)
        return {"val/top1": 0.9 if best else 0.5, "test/top1": 0.9 + SEED_NOISE[cell.seed]}

    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), edge))
    assert any("an end of the sweep" in one for one in outcome.verdict.evidence)


def test_no_rows_no_claim() -> None:
    assert STUDY.outcome(SETUP, []).verdict.answer == "No result: too few finished runs."
