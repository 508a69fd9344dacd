"""vitrail/studies/experiments/attention_distance.py: distance by layer, and what more images
change.
"""

from __future__ import annotations

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.attention_distance import DEPTH, STUDY
from vitrail.studies.experiments.families import HYBRID, VIT

SETUP = made_setup(STUDY, sizes=(100, 400, 1437))


def figures(cell: Cell) -> dict[str, float]:
    """Distance grows by a pixel a layer; the nearest head comes nearer with more images."""
    noise, near = SEED_NOISE[cell.seed], 100 / float(cell.axes["pictures"])
    found = {"attention/uniform": 12.0}
    for layer in range(DEPTH):
        found[f"attention/mean_{layer:02d}"] = 5.0 + layer + noise
        found[f"attention/nearest_{layer:02d}"] = 3.0 + near + noise + (cell.arm == HYBRID)
        found[f"attention/farthest_{layer:02d}"] = 9.0 + noise
    return found


def test_cells_are_the_vit_at_every_size_and_the_hybrid_at_the_largest() -> None:
    cells = [cell for cell in check_cells(STUDY, SETUP) if cell.seed == 0]
    assert [(cell.arm, cell.axes["pictures"]) for cell in cells] == [
        (VIT, 100),
        (VIT, 400),
        (VIT, 1437),
        (HYBRID, 1437),
    ]
    assert all(cell.measures == ("attention",) for cell in cells)


def test_the_papers_scale_is_its_large_models() -> None:
    cells = check_cells(STUDY, made_setup(STUDY, is_full=True))
    assert {cell.settings["model.name"] for cell in cells} == {"vit_l16", "r50_vit_l16"}


def test_the_verdict_tells_growth_by_depth_and_heads_of_the_first_layer() -> None:
    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures))
    assert outcome.verdict.answer == (
        "ViT, 1,437 images: the last layer is 5.0 px above the first (5.0 to 5.0, 3 seeds)."
    )
    said = " ".join(outcome.verdict.evidence)
    local = "First layer, 1,437 images: the most local head is 8.9 px below uniform attention"
    assert local in said
    assert "First layer, nearest head: 1,437 images is 0.9 px below 100" in said
    assert "Most local head of the first layer: Hybrid is 1.0 px above ViT" in said
    assert outcome.facts["uniform_px"][VIT] == 12.0
    first = outcome.figures[0].series[0]
    assert list(first.x) == list(range(DEPTH))


def test_a_training_too_short_for_attention_is_told() -> None:
    def uniform(cell: Cell) -> dict[str, float]:
        wobble = (0.5, -0.4, 0.1)[cell.seed]
        return {key: 12.0 + (wobble if "uniform" not in key else 0) for key in figures(cell)}

    answer = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), uniform)).verdict.answer
    assert "too short for attention to have a shape" in answer


def test_no_rows_no_claim() -> None:
    assert "too few" in STUDY.outcome(SETUP, []).verdict.answer
