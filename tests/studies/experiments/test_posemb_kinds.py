"""vitrail/studies/experiments/posemb_kinds.py: every kind against none, and where it is added."""

from __future__ import annotations

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.models.names import resolve_model
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.posemb_kinds import KINDS, NONE, STUDY

SETUP = made_setup(STUDY)


def figures(cell: Cell) -> dict[str, float]:
    """All but none and 2-D are 10 points better; 2-D is as good as none give or take 5."""
    noise = SEED_NOISE[cell.seed]
    gain = {NONE: 0.0, "2-D": (0.05, -0.05, 0.0)[cell.seed]}.get(cell.arm, 0.1)
    return {"test/top1": 0.7 + gain + noise, "val/top1": 0.7}


def test_cells_are_those_of_table_8_and_the_fixed_table() -> None:
    cells = [cell for cell in check_cells(STUDY, SETUP) if cell.seed == 0]
    places = {(cell.arm, cell.axes["where"]) for cell in cells}
    everywhere = {"stem", "every layer", "every layer, shared"}
    assert places == {
        (NONE, "stem"),
        ("relative", "stem"),
        ("fixed 2-D", "stem"),
        *(("1-D", where) for where in everywhere),
        *(("2-D", where) for where in everywhere),
    }


def test_every_cell_is_another_architecture() -> None:
    configs = set()
    for cell in STUDY.cells(SETUP):
        fields = {
            key.removeprefix("model."): value
            for key, value in cell.settings.items()
            if key.startswith("model.") and key != "model.name"
        }
        name = str(cell.settings["model.name"])
        config = resolve_model(name, num_classes=3, image_size=SETUP.image_size, overrides=fields)
        configs.add(config.model_dump_json())
    assert len(configs) == 9


def test_the_verdict_keeps_apart_what_is_clear_and_what_is_not() -> None:
    verdict = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures)).verdict
    assert verdict.answer == (
        "Better than none, by 10.0 to 10.0 points: 1-D, relative, fixed 2-D. "
        "No evidence of a difference to none: 2-D."
    )
    assert "1-D is 10.0 points above none (10.0 to 10.0, 3 seeds)." in verdict.evidence


def test_without_the_control_nothing_is_claimed() -> None:
    cells = [cell for cell in STUDY.cells(SETUP) if cell.arm in KINDS]
    verdict = STUDY.outcome(SETUP, made_rows(cells, figures)).verdict
    assert verdict.answer == "No result: too few finished runs."
