"""vitrail/studies/experiments/self_supervised.py: parents on all images, children on few."""

from __future__ import annotations

from tests.studies.made_setup import EXAMPLES, SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.self_supervised import (
    MASKED,
    PRETRAINED,
    SCRATCH,
    STUDY,
    SUPERVISED,
    TUNED,
    few,
)

SETUP = made_setup(STUDY)
FEW = (190, 750, 3_000)
TOPS = {  # by arm, at the numbers of labels
    MASKED: (0.60, 0.70, 0.80),
    SCRATCH: (0.50, 0.66, 0.80),
    SUPERVISED: (0.75, 0.80, 0.85),
}


def figures(cell: Cell) -> dict[str, float]:
    if cell.arm == MASKED and PRETRAINED in cell.axes:
        return {"val/patches/top1": 0.4, "val/patches/nll": 1.5}
    at = FEW.index(int(cell.axes["labels"])) if "labels" in cell.axes else 2
    wobble = SEED_NOISE[cell.seed] * {MASKED: 1.0, SCRATCH: -1.0, SUPERVISED: 0.5}[cell.arm]
    return {"test/top1": TOPS[cell.arm][at] + wobble, "val/top1": 0.9}


def test_two_parents_and_nine_children_a_seed() -> None:
    cells = check_cells(STUDY, SETUP)
    assert few(SETUP) == FEW
    assert len(cells) == 3 * (2 + 3 * 3)
    parents = [cell for cell in cells if PRETRAINED in cell.axes]
    assert [cell.arm for cell in parents[:2]] == [MASKED, SUPERVISED]
    for cell in parents:
        assert "data.train_pictures" not in cell.settings
        assert cell.settings["examples"] == EXAMPLES
    for cell in (one for one in cells if "labels" in one.axes):
        assert cell.settings["data.train_pictures"] == cell.axes["labels"]
        assert cell.settings["examples"] == EXAMPLES * TUNED
        expected = None if cell.arm == SCRATCH else (cell.arm, cell.seed)
        found = cell.start and (cell.start.arm, cell.start.seed)
        assert found == expected


def test_labels_are_used_in_fine_tuning_alone() -> None:
    cells = STUDY.cells(SETUP)
    objectives = {(cell.arm, PRETRAINED in cell.axes): cell.config().objective for cell in cells}
    assert objectives[MASKED, True] == "masked_patches"
    assert objectives[MASKED, False] == objectives[SUPERVISED, True] == "classify"
    tuned = next(cell for cell in cells if cell.arm == MASKED and "labels" in cell.axes)
    assert tuned.pace_cell().config().objective == "classify"
    parent = tuned.start
    assert parent is not None
    assert "optim.lr" not in parent.settings  # the paper's, by the width


def test_all_three_see_the_same_images_in_the_same_way() -> None:
    cells = [cell for cell in STUDY.cells(SETUP) if cell.axes.get("labels") == 190]
    shared = [
        {
            key: value
            for key, value in cell.settings.items()
            if not key.startswith(("model.", "optim."))
        }
        for cell in cells
    ]
    assert all(one == shared[0] for one in shared)
    architecture = {
        tuple((k, v) for k, v in cell.pace_cell().settings.items() if k.startswith("model."))
        for cell in cells
    }
    assert len(architecture) == 1


def test_the_papers_scale() -> None:
    cells = check_cells(STUDY, made_setup(STUDY, is_full=True))
    assert len(cells) == 3 * 5
    assert {cell.recipe for cell in cells} == {
        "paper.masked_patches",
        "paper.imagenet1k",
        "paper.finetune",
    }


def test_pre_training_is_compared_at_every_number_of_labels() -> None:
    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures))
    answer, evidence = outcome.verdict.answer, outcome.verdict.evidence
    assert f"With 190 labels, {MASKED} is 10.1 points above {SCRATCH}" in answer
    assert "With 3,000 labels, no evidence of a difference" in answer
    assert f"towards {SCRATCH}" in answer
    assert any(f"{MASKED} is 15.0 points below {SUPERVISED}" in said for said in evidence)
    assert any("40.0%" in said for said in evidence)
    assert {line.name for line in outcome.figures[0].series} == {MASKED, SCRATCH, SUPERVISED}
    assert all(list(line.x) == [float(size) for size in FEW] for line in outcome.figures[0].series)


def test_missing_rows_survive() -> None:
    rows = made_rows(STUDY.cells(SETUP), figures)
    parents = [row for row in rows if PRETRAINED in row.axes]
    for found in ([], parents, [row for row in rows if row.arm == SUPERVISED]):
        assert "too few" in STUDY.outcome(SETUP, found).verdict.answer
    assert "one seed" in STUDY.outcome(SETUP, rows[:11]).verdict.answer
