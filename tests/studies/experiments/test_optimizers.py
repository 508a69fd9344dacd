"""vitrail/studies/experiments/optimizers.py: each arm's own sweep, its best rate by validation."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.optimizers import ADAM, FULL_RATES, RATES, SGD, STUDY

SETUP = made_setup(STUDY)
BEST = {ADAM: 3e-3, SGD: 0.1}


def figures(cell: Cell, gap: float = 0.02, best: Mapping[str, float] = BEST) -> dict[str, float]:
    """Validation is best at `best`; test, were it to choose, at the first rate of the sweep."""
    rate = cell.axes["rate"]
    top = (0.8 + (gap if cell.arm == ADAM else 0)) + SEED_NOISE[cell.seed]
    if rate == best[cell.arm]:
        return {"val/top1": top, "test/top1": top}
    return {"val/top1": 0.5, "test/top1": 0.99 if rate == RATES[cell.arm][0] else 0.4}


def verdict_of(rows: list[Row]) -> str:
    return STUDY.outcome(SETUP, rows).verdict.answer


def test_cells_are_two_sweeps_of_one_model() -> None:
    cells = check_cells(STUDY, SETUP)
    assert len(cells) == 3 * 2 * 4
    models = {
        tuple(sorted((k, v) for k, v in cell.settings.items() if k.startswith("model.")))
        for cell in cells
    }
    assert len(models) == 1
    for arm, name in ((ADAM, "adamw"), (SGD, "sgd")):
        mine = [cell for cell in cells if cell.arm == arm and cell.seed == 0]
        assert [cell.settings["optim.lr"] for cell in mine] == list(RATES[arm])
        assert {cell.config().optim.name for cell in mine} == {name}
        assert all(cell.axes == {"rate": cell.settings["optim.lr"]} for cell in mine)


def test_asked_rates_are_those_of_both_arms() -> None:
    cells = check_cells(STUDY, made_setup(STUDY, choices={"rates": (0.01, 0.02)}))
    assert {(cell.arm, cell.axes["rate"]) for cell in cells} == {
        (arm, rate) for arm in (ADAM, SGD) for rate in (0.01, 0.02)
    }


def test_the_papers_scale_has_both_its_models() -> None:
    cells = check_cells(STUDY, made_setup(STUDY, is_full=True))
    assert {cell.settings["model.name"] for cell in cells} == {"bit_r50x1", "bit_r152x2"}
    assert {cell.axes["rate"] for cell in cells if cell.arm == ADAM} == set(FULL_RATES[ADAM])


def test_validation_chooses_and_test_images_are_compared() -> None:
    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures))
    assert outcome.facts["rates"] == BEST
    assert outcome.verdict.answer == (
        "Each at its own best rate, Adam is 2.0 points above SGD (2.0 to 2.0, 3 seeds)."
    )
    assert [one.name for one in outcome.figures[0].series] == [ADAM, SGD]
    assert outcome.figures[0].log_x


def test_no_winner_where_the_interval_has_zero() -> None:
    def noisy(cell: Cell) -> dict[str, float]:
        found = figures(cell, gap=0.0)
        shift = (0.02, -0.02, 0.001)[cell.seed] if cell.arm == ADAM else 0.0
        return {key: value + shift for key, value in found.items()}

    assert "no evidence of a difference" in verdict_of(made_rows(STUDY.cells(SETUP), noisy))


@pytest.mark.parametrize(("rate", "end"), [(RATES[SGD][0], "lowest"), (RATES[SGD][-1], "highest")])
def test_a_best_rate_at_the_end_of_its_sweep_is_said(rate: float, end: str) -> None:
    rows = made_rows(
        STUDY.cells(SETUP), lambda cell: figures(cell, best={ADAM: BEST[ADAM], SGD: rate})
    )
    said = verdict_of(rows)
    assert f"The best rate of SGD is the {end} of its sweep" in said
    assert "best rate of Adam is" not in said


def test_a_rate_that_failed_with_some_seeds_is_not_chosen() -> None:
    def failing(cell: Cell) -> dict[str, float]:
        lost = cell.arm == SGD and cell.axes["rate"] == 1.0
        if lost and cell.seed > 0:
            return {}
        return {"val/top1": 0.99, "test/top1": 0.99} if lost else figures(cell)

    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), failing))
    assert outcome.facts["rates"] == BEST
    assert "SGD at 1: the loss was not finite in 2 runs." in outcome.verdict.answer


def test_missing_rows_survive() -> None:
    rows = made_rows(STUDY.cells(SETUP), figures)
    assert "too few" in verdict_of([])
    assert "too few" in verdict_of([row for row in rows if row.arm == ADAM])
    assert "one seed" in verdict_of([row for row in rows if row.seed == 0])
