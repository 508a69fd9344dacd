"""How cells are trained at both scales: Tables 3 and 4 of the paper (arXiv 2010.11929)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studies.made_setup import FACTS, made_setup
from tests.studies.small_study import digits, new_store
from vitrail.studies.compute_study import Study, job_of
from vitrail.studies.engine.cell import Cell, needed
from vitrail.studies.engine.job import run_job
from vitrail.studies.experiments import self_supervised
from vitrail.studies.experiments.compute import FULL
from vitrail.studies.experiments.data_size import STUDY as DATA_SIZE
from vitrail.studies.experiments.families import macs
from vitrail.studies.experiments.registry import STUDIES
from vitrail.studies.experiments.trainings import from_scratch, full_recipe
from vitrail.studies.setup import Setup, share_sizes
from vitrail.training.optim.schedule import check_schedule

NUM_TRAIN = {
    "paper.imagenet1k": 1_281_167,
    "paper.imagenet21k": 14_197_122,
    "paper.jft": 303_000_000,
}
# Table 3: rate, weight decay, dropout, schedule, clipping.
LINES: dict[str, tuple[float, float, float, str, float]] = {
    "paper.imagenet1k": (3e-3, 0.3, 0.1, "cosine", 1.0),
    "paper.imagenet21k": (1e-3, 0.03, 0.1, "linear", 0.0),
    "paper.jft": (8e-4, 0.1, 0.0, "linear", 0.0),
}
# Table 3, JFT-300M.
JFT = {
    "vit_l32": 6e-4,
    "vit_l16": 4e-4,
    "vit_h14": 3e-4,
    "bit_r50x2": 1e-3,
    "bit_r101x1": 8e-4,
    "bit_r152x2": 6e-4,
    "r50_vit_b16": 8e-4,
    "r50_vit_l32": 2e-4,
    "r50_vit_l16": 4e-4,
}
TRAINED = {name: study for name, study in STUDIES.items() if not study.is_alone}


def full(study: Study, num_train: int, **changes: Any) -> Setup:
    """The paper's scale, on as many images, seven times through them."""
    found = made_setup(
        study,
        is_full=True,
        facts=replace(FACTS, num_train=num_train),
        seeds=(0,),
        examples=7 * num_train,
        **changes,
    )
    if not study.has_sizes:
        return found
    return replace(found, sizes=share_sizes(num_train, found.num_classes, (0.03, 1.0)))


@pytest.mark.parametrize("recipe", LINES)
def test_the_part_of_table_3_for_as_many_images(recipe: str) -> None:
    assert full_recipe(NUM_TRAIN[recipe]) == recipe
    setup = full(DATA_SIZE, NUM_TRAIN[recipe])
    config = from_scratch(setup, "ViT", {}, {"model.name": "vit_b16"}, 9e8, 0).config()
    found = (
        config.optim.lr,
        config.optim.weight_decay,
        config.model.overrides["dropout"],
        config.schedule.name,
        config.optim.clip,
    )
    assert found == LINES[recipe]
    assert (config.batch_size, config.data.image_size) == (4096, (224, 224))
    assert (config.optim.name, config.optim.betas) == ("adamw", (0.9, 0.999))
    assert config.schedule.warmup == 10_000
    assert config.data.workers == "auto"


def test_the_rates_of_jft_are_those_of_the_model() -> None:
    setup = full(DATA_SIZE, NUM_TRAIN["paper.jft"])
    names = {name for trainings in FULL.values() for name, _ in trainings}
    assert set(JFT) < names
    for name, rate in JFT.items():
        one = from_scratch(setup, "", {}, {"model.name": name}, setup.examples, 0)
        assert one.config().optim.lr == rate, name
    asked = from_scratch(setup, "", {}, {"model.name": "vit_l32", "optim.lr": 0.5}, 9e8, 0)
    assert asked.config().optim.lr == 0.5


def test_the_warm_up_fits_a_short_run() -> None:
    """10,000 steps would be more than all of it."""
    setup = full(DATA_SIZE, NUM_TRAIN["paper.imagenet1k"])
    one = from_scratch(setup, "ViT", {}, {"model.name": "vit_b16"}, 40 * 4096, 0)
    assert one.config().schedule.warmup == 0.1
    check_schedule(one.config().schedule, 40)


@pytest.mark.parametrize("num_train", NUM_TRAIN.values())
@pytest.mark.parametrize("name", TRAINED)
def test_every_study_has_the_papers_scale(name: str, num_train: int) -> None:
    study = TRAINED[name]
    more = {"transfer": "/else"} if "transfer" in study.choices else {}
    setup = full(study, num_train, **more)
    cells = needed(study.cells(setup))
    for cell in cells:
        assert cell.recipe.startswith("paper."), cell.title
        config = cell.config()
        is_tuned = cell.start is not None
        assert (cell.recipe == "paper.finetune") == is_tuned
        size = 224 if not is_tuned or cell.axes.get("trained_px") == 224 else 384
        assert (config.batch_size, config.data.image_size) == (
            (512 if is_tuned else 4096),
            (size, size),
        ), cell.title
        assert macs(cell.pace_cell().settings, setup) > 1e9
        assert int(cell.settings.get("data.train_pictures", num_train)) <= num_train
        if is_tuned:  # Table 4: 20,000 steps after 7 epochs of JFT; fewer after fewer
            steps = cell.settings["examples"] / 512 * (303e6 / num_train)
            assert 0.3 * 20_000 < steps < 1.01 * 20_000, cell.title


def test_parts_of_a_batch_are_another_question_for_a_cell() -> None:
    one, parts = (made_setup(DATA_SIZE, accumulate=number) for number in (1, 4))
    keys = [[cell.key("f") for cell in DATA_SIZE.cells(setup)] for setup in (one, parts)]
    assert not set(keys[0]) & set(keys[1])
    assert {cell.config().optim.accumulate for cell in DATA_SIZE.cells(parts)} == {4}


def test_cells_of_the_papers_scale_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything as there but the size of model, image and batch."""
    monkeypatch.setattr("vitrail.studies.setup.BATCH", 34)
    monkeypatch.setattr("vitrail.studies.experiments.trainings.FINETUNE_BATCH", 17)
    monkeypatch.setattr(self_supervised, "FULL_LABELS", 100)
    setup = digits(
        is_full=True,
        accumulate=17,
        examples=7 * 34,
        seeds=(0,),
        sizes=(100, 1437),
        choices={"image_size": 32},
    )
    tiny = {"model.width": 16, "model.depth": 1, "model.num_heads": 2, "model.mlp_dim": 23}

    def shrunk(cell: Cell) -> Cell:
        if cell.start is None:
            return replace(cell, settings={**cell.settings, **tiny})
        few = {**cell.settings, "examples": 34}
        return replace(cell, settings=few, start=shrunk(cell.start))

    store = new_store(tmp_path / "s")
    cells = [shrunk(cell) for cell in needed(self_supervised.STUDY.cells(setup))]
    for cell in cells:
        job = job_of(cell, "self-supervised", setup, store)
        row = run_job(job, lambda share: None)
        assert row is not None, cell.title
        judged = "val/patches/top1" if "masked" in cell.recipe else "test/top1"
        assert 0 <= row["values"][judged] <= 1, cell.title
    assert len(cells) == 5
