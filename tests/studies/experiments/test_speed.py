"""vitrail/studies/experiments/speed.py and timing.py: what is timed, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.studies.made_setup import EXAMPLES, check_cells, made_rows, made_setup
from vitrail.errors import EnvironmentFault
from vitrail.models.cost import activation_bytes, macs, parameters
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.job import Job, run_job
from vitrail.studies.engine.timing import (
    architecture_of,
    measure,
    measure_apart,
    peak_bytes,
    settled,
)
from vitrail.studies.experiments.families import BIT, VIT
from vitrail.studies.experiments.speed import BATCH, MEMORY, NAMED, PREDICT, REFERENCE, STUDY, TRAIN

SETUP = made_setup(STUDY, examples=EXAMPLES)
NOISE = (1.0, 1.02, 0.97)
TINY: dict[str, Any] = {
    "model.name": "vit_digits",
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.channels": 3,
    "model.num_classes": 5,
    "data.image_size": (8, 8),
    "batch_size": 6,
    "examples": 12,
    "device": "cpu",
    "threads": 1,
    "precision": "float32",
}


def cost(cell: Cell) -> dict[str, float]:
    """ViTs have twice the multiply-adds a second of all others."""
    pace = (2e10 if cell.arm == VIT else 1e10) * NOISE[cell.seed]
    each = 1e9 * float(cell.axes["gigamacs"])
    return {PREDICT: pace / each, TRAIN: pace / each / 3.0, MEMORY: 1e9, "batch_size": 4.0}


def values(cell: Cell) -> dict[str, float]:
    config = architecture_of(settled(cell.settings))
    return {
        "macs": 1e9 * float(cell.axes["gigamacs"]),
        "activation_bytes": activation_bytes(config, 1),
    }


def job_of(settings: dict[str, Any], *, is_pace: bool = False) -> Job:
    return Job(
        key="k",
        study="speed",
        arm=VIT,
        axes={"model": "tiny"},
        seed=1,
        recipe="small.scratch",
        settings=settings,
        folder="/nowhere",
        measures=("speed",),
        is_pace=is_pace,
    )


def test_named_models_at_224_px_and_the_small_families() -> None:
    cells = check_cells(STUDY, SETUP)
    assert len(cells) == 3 * (sum(map(len, NAMED.values())) + 4)
    assert all(cell.measures == ("speed",) for cell in cells)
    by_name = {str(cell.axes["model"]): cell for cell in cells}
    assert by_name[REFERENCE].settings["examples"] == EXAMPLES
    assert by_name["bit_r50x1"].axes["px"] == 224
    assert by_name[f"small {BIT}"].axes["px"] == 28
    assert by_name[REFERENCE].settings["batch_size"] == BATCH
    # The published multiply-adds, in billions: 3 channels and 1,000 classes whatever the data.
    assert by_name[REFERENCE].axes["gigamacs"] == 4.6
    assert by_name["bit_r50x1"].axes["gigamacs"] == 4.23
    spent = {
        cell.settings["examples"] * macs(architecture_of(settled(cell.settings))) for cell in cells
    }
    assert max(spent) / min(spent) < 1.01


def test_the_papers_scale() -> None:
    cells = check_cells(STUDY, made_setup(STUDY, is_full=True))
    assert {"vit_h14", "bit_r152x4", "r50_vit_l16"} <= {cell.axes["model"] for cell in cells}


def test_speed_is_compared_per_multiply_add() -> None:
    outcome = STUDY.outcome(SETUP, made_rows(STUDY.cells(SETUP), values, cost))
    assert outcome.verdict.answer.startswith(
        "vit_s16 against bit_r50x1, per multiply-add: prediction is 2 times (2 to 2, 3 repeats) as "
        "fast, a training step 2 times"
    )
    assert "takes 1 times (1 to 1, 3 repeats: no evidence of a difference) the memory" in (
        outcome.verdict.answer
    )
    assert "grows with the batch is 0." in outcome.verdict.answer
    speed, training = outcome.figures
    assert (speed.log_x, speed.log_y, training.key) == (True, True, "training-speed")
    line = next(one for one in speed.series if one.name == VIT)
    assert list(line.x) == sorted(line.x)
    assert len(line.x) == len(NAMED[VIT]) + 1
    (table,) = outcome.tables.values()
    assert len(table) == 1 + len(STUDY.cells(SETUP)) // 3


def test_missing_rows_survive() -> None:
    rows = made_rows(STUDY.cells(SETUP), values, cost)
    assert "Too few" in STUDY.outcome(SETUP, []).verdict.answer
    assert "Too few" in STUDY.outcome(SETUP, [row for row in rows if row.arm == VIT]).verdict.answer
    one = [row for row in rows if row.seed == 0]
    assert "one repeat" in STUDY.outcome(SETUP, one).verdict.answer
    untimed = [replace(row, cost={}, values={}) for row in rows]
    assert "Too few" in STUDY.outcome(SETUP, untimed).verdict.answer


def test_a_timed_cell_is_a_row_without_a_run() -> None:
    row = run_job(job_of(TINY), lambda share: None)
    assert row is not None
    config = architecture_of(settled(TINY))
    assert config.channels == 3
    assert row["values"] == {
        "macs": macs(config),
        "parameters": parameters(config),
        "activation_bytes": activation_bytes(config, 1),
    }
    assert row["run"] == ""
    assert row["cost"]["steps"] == 2
    assert row["cost"][PREDICT] > row["cost"][TRAIN] > 0
    assert 0 < row["cost"]["predict/bytes"] <= row["cost"][MEMORY] < 1e9


def test_the_pace_of_timing_is_that_of_both_kinds_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def figures(settings: dict[str, Any]) -> dict[str, float]:
        asked.append(settings)
        steps = float(settings["examples"] // settings["batch_size"])
        return {PREDICT: 40.0, TRAIN: 10.0, MEMORY: 7.0, "steps": steps}

    monkeypatch.setattr("vitrail.studies.engine.job.measure_apart", figures)
    found = run_job(job_of(TINY, is_pace=True), lambda share: None)
    assert found is not None
    assert found["secs_per_example"] == pytest.approx(1 / 40 + 1 / 10)
    assert (found["open_secs"], found["judged"], found["peak_bytes"]) == (0.0, 0, 7.0)
    assert asked[0]["examples"] == 3 * TINY["batch_size"]


@pytest.mark.slow
def test_memory_grows_with_the_batch() -> None:
    """What a step keeps is in the peak: 64 images more, at least three quarters of the formula's
    bytes more.
    """
    wide = {
        **TINY,
        "model.width": 96,
        "model.depth": 6,
        "model.num_heads": 3,
        "model.mlp_dim": 384,
        "data.image_size": (32, 32),
    }
    few, many = (
        measure_apart({**wide, "batch_size": size, "examples": size})[MEMORY] for size in (8, 72)
    )
    config = architecture_of(settled(wide))
    assert many - few > 0.75 * (activation_bytes(config, 72) - activation_bytes(config, 8))


def test_a_process_that_fails_is_said() -> None:
    with pytest.raises(EnvironmentFault, match="VIT-510.*vit_unheard"):
        measure_apart({**TINY, "model.name": "vit_unheard"})


def test_measuring_here_shows_what_a_step_computes() -> None:
    """The step is a training step: the same function counts images, not batches."""
    threads = torch.get_num_threads()
    found = measure(settled({**TINY, "examples": 18}))
    torch.set_num_threads(threads)
    assert found["steps"] == 3
    assert found["batch_size"] == 6
    assert math.isfinite(found[PREDICT])
    assert peak_bytes(torch.device("cpu")) > 1e7
