"""vitrail/studies/experiments/data_size.py: who is ahead with few images and with many."""

from __future__ import annotations

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.data_size import STUDY
from vitrail.studies.experiments.families import BIT, HYBRID, RESNET, VIT, macs

SIZES = (100, 1_000, 10_000)
SETUP = made_setup(STUDY, sizes=SIZES)


def as_in_the_paper(cell: Cell) -> dict[str, float]:
    """The ViT gains 10 points a size, the ResNets 2, the hybrid 6."""
    step, start = {VIT: (0.1, 0.5), RESNET: (0.02, 0.6), BIT: (0.02, 0.58), HYBRID: (0.06, 0.55)}[
        cell.arm
    ]
    at = SIZES.index(int(cell.axes["pictures"]))
    return {"test/top1": start + at * step + SEED_NOISE[cell.seed]}


def flat(cell: Cell) -> dict[str, float]:
    return {
        "test/top1": {VIT: 0.7, RESNET: 0.6, BIT: 0.5, HYBRID: 0.65}[cell.arm]
        + SEED_NOISE[cell.seed]
    }


def test_cells_have_equal_compute_or_equal_epochs() -> None:
    cells = check_cells(STUDY, SETUP)
    assert len(cells) == 3 * 3 * 4
    spent = [cell.settings["examples"] * macs(cell.settings, SETUP) for cell in cells]
    assert max(spent) / min(spent) < 1.001
    epochs = made_setup(STUDY, sizes=SIZES, choices={"equal": "epochs"})
    passes = {cell.settings["examples"] / cell.axes["pictures"] for cell in STUDY.cells(epochs)}
    assert max(passes) / min(passes) < 1.01


def test_subsets_are_the_same_for_all_families_of_a_seed() -> None:
    for cell in STUDY.cells(SETUP):
        assert cell.settings["data.train_pictures"] == cell.axes["pictures"]


def test_the_verdict_tells_both_ends_and_the_trend() -> None:
    verdict = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), as_in_the_paper)).verdict
    assert verdict.answer == (
        "With 100 training images, ViT is 10.0 points below ResNet (10.0 to 10.0, 3 seeds). "
        "With 10,000 training images, ViT is 6.0 points above ResNet (6.0 to 6.0, 3 seeds). "
        "From one end to the other the gap moves by 16.0 points towards ViT (16.0 to 16.0)."
    )
    assert any("8.0 points below BiT-ResNet" in said for said in verdict.evidence)
    gain = "ViT: most images is 20.0 points above fewest (20.0 to 20.0, 3 seeds)."
    assert gain in verdict.evidence


def test_a_budget_too_short_to_see_data_is_told() -> None:
    verdict = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), flat)).verdict
    assert "no family gains from more images here" in verdict.answer


def test_transfer_adds_few_shots_and_fine_tuning() -> None:
    setup = made_setup(STUDY, sizes=SIZES, transfer="/other")
    cells = STUDY.cells(setup)
    tuned = [cell for cell in cells if cell.axes.get("then") == "fine-tuned"]
    assert len(tuned) == len(cells) // 2
    for cell in tuned:
        assert cell.start is not None
        assert cell.start.measures == ("few-shot",)
        assert cell.settings["data.path"] == "/other"


def test_missing_rows_survive() -> None:
    rows = made_rows(STUDY.cells(SETUP)[:1], as_in_the_paper)
    assert STUDY.outcome(SETUP, []).verdict.answer.startswith("No result: too few")
    assert STUDY.outcome(SETUP, rows).verdict.answer.startswith("No result: too few")
