"""vitrail/studies/experiments/shape.py: one dimension at a time."""

from __future__ import annotations

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.families import macs
from vitrail.studies.experiments.shape import BASE, DIMENSIONS, STUDY, shapes

SETUP = made_setup(STUDY)
GAINS = {"depth": 0.05, "width": 0.01, "mlp": 0.0, "patch": 0.03, "all": 0.06}


def figures(cell: Cell) -> dict[str, float]:
    factor = float(cell.axes["factor"])
    gain = 0.0 if cell.arm == BASE else GAINS[cell.arm] * (1 if factor > 1 else -1)
    wobble = (0.02, -0.02, 0.0)[cell.seed] if cell.arm == "mlp" else 0.0
    return {"test/top1": 0.7 + gain + wobble + SEED_NOISE[cell.seed], "parameters": 1e6}


def test_each_model_differs_from_the_base_in_what_it_is_named_for() -> None:
    found = {(arm, factor): model for arm, factor, model in shapes(SETUP)}
    base = found[BASE, 1.0]
    changed = {
        key: {name for name in model if model[name] != base[name]} for key, model in found.items()
    }
    assert changed["depth", 2.0] == {"model.depth"}
    assert changed["mlp", 0.5] == {"model.mlp_dim"}
    assert changed["width", 2.0] == {"model.width", "model.num_heads"}
    assert changed["patch", 2.0] == {"model.name"}
    assert changed["all", 2.0] == {
        "model.depth",
        "model.width",
        "model.num_heads",
        "model.mlp_dim",
    }
    assert {arm for arm, _, _ in shapes(SETUP)} == {BASE, *DIMENSIONS}


def test_more_of_a_dimension_costs_more() -> None:
    cost = {(arm, factor): macs(model, SETUP) for arm, factor, model in shapes(SETUP)}
    for name in DIMENSIONS:
        assert cost[name, 0.5] < cost[BASE, 1.0] < cost[name, 2.0], name


def test_cells() -> None:
    assert len(check_cells(STUDY, SETUP)) == len(SETUP.seeds) * len(shapes(SETUP))


def test_gains_are_in_order_and_noise_is_named() -> None:
    answer = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), figures)).verdict.answer
    order = "all +6.0, depth +5.0, patch +3.0, width +1.0, mlp +0.0"
    assert answer == (
        f"Points gained by doubling a dimension at this scale: {order}. "
        "Within the noise of seeds: mlp."
    )


def test_the_paper_scale_has_the_paper_base() -> None:
    full = made_setup(STUDY, is_full=True)
    base = next(model for arm, _, model in shapes(full) if arm == BASE)
    named = {key.removeprefix("model."): value for key, value in base.items()}
    assert named == {
        "name": "vit_ti32",
        "depth": 8,
        "width": 1024,
        "mlp_dim": 2048,
        "num_heads": 16,
    }
