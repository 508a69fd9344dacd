"""vitrail/studies/setup.py and families.py: what a study is run on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.studies.made_setup import PHOTOGRAPHS, made_setup
from vitrail.cli.display.study_progress import plan_lines
from vitrail.errors import DataError, UsageError
from vitrail.models.names import resolve_model
from vitrail.studies.experiments.data_size import STUDY
from vitrail.studies.experiments.families import families, macs
from vitrail.studies.run import StudyRequest
from vitrail.studies.setup import absolute, nested_sizes, open_setup, rounded, share_sizes


def test_sizes_are_equally_far_apart_in_ratio_and_end_with_all() -> None:
    sizes = nested_sizes(55_000, 10)
    assert sizes == (64, 610, 5_800, 55_000)
    assert nested_sizes(1_437, 10) == (64, 180, 510, 1_437)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="too few") as caught:
        nested_sizes(90, 10)
    assert caught.value.code == "VIT-290"


def test_shares_leave_out_what_is_too_few() -> None:
    assert share_sizes(2_890, 10, (0.125, 0.25, 0.5, 1.0)) == (360, 720, 1_400, 2_890)
    assert share_sizes(100, 20, (0.125, 0.25, 0.5, 1.0)) == (50, 100)


@pytest.mark.parametrize(
    ("value", "expected"), [(859.4, 860), (99, 99), (7.2, 7), (13_750, 14_000)]
)
def test_rounded_to_two_digits(value: float, expected: int) -> None:
    assert rounded(value) == expected


@pytest.mark.parametrize(
    ("kind", "size", "seen"),
    [
        ("arrays", (28, 28), (28, 28)),
        ("arrays", (8, 11), (8, 11)),
        ("files", (32, 32), (32, 32)),
        ("files", (45, 300), (40, 40)),
        ("files", (240, 300), (64, 64)),
        ("files", (5, 9), (8, 8)),
    ],
)
def test_models_see_the_images_own_size_up_to_64(
    kind: str, size: tuple[int, int], seen: tuple[int, int]
) -> None:
    facts = replace(PHOTOGRAPHS, kind=kind, size=size, is_photos=kind == "files")
    assert made_setup(STUDY, facts=facts).image_size == seen


@pytest.mark.parametrize("kind", ["arrays", "photographs"])
def test_the_families_can_be_built_for_images_of_every_kind(kind: str) -> None:
    setup = made_setup(STUDY)
    if kind == "photographs":
        setup = made_setup(STUDY, facts=PHOTOGRAPHS)
        assert setup.image_size == (64, 64)
    costs = {arm: macs(model, setup) for arm, model in families(setup).items()}
    assert len(costs) == 4
    assert max(costs.values()) < 8 * min(costs.values())


def test_the_papers_scale_is_the_papers_models() -> None:
    setup = made_setup(STUDY, is_full=True)
    names = [model["model.name"] for model in families(setup).values()]
    assert names == ["vit_b32", "bit_r50x1", "r50_vit_b32"]
    for name in names:
        resolve_model(name, num_classes=1000)
    assert setup.image_size == (224, 224)


def test_images_without_a_held_out_test_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in ("a", "b"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.full((9, 7, 3), 40 * number, np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    with pytest.raises(DataError) as caught:
        open_setup(str(tmp_path / "photos"), examples=0)
    assert caught.value.code == "VIT-323"


def test_what_a_model_costs_follows_the_channels_of_the_images() -> None:
    gray = made_setup(STUDY)
    coloured = replace(gray, facts=replace(gray.facts, channels=3))
    for settings in families(gray).values():
        assert macs(settings, gray) < macs(settings, coloured)


def test_the_fingerprint_follows_the_images_not_the_path() -> None:
    one, again = (open_setup("builtin:digits", examples=0) for _ in range(2))
    assert one.fingerprint == again.fingerprint
    assert one.num_train == 1_437
    assert one.is_drawn


@pytest.mark.promise("D7")
def test_what_of_the_data_is_left_out_is_said_with_the_plan(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(20):
            Image.new("L", (8, 8), number).save(tmp_path / label / f"{number}.png")
    Image.new("L", (8, 8)).save(tmp_path / "loose.png")
    setup = open_setup(str(tmp_path), examples=0)
    assert setup.notes == ("left out: 1 image next to the class folders (loose.png)",)
    planned = SimpleNamespace(setup=setup, cells=[], training_share=1.0)
    lines = plan_lines(planned, StudyRequest(None, 1, 1, "vitrail study"))  # type: ignore[arg-type]
    assert f"data   {setup.notes[0]}" in lines


def test_a_path_that_is_no_text_means_the_same_to_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("x\udcff") == f"escaped:{tmp_path}/x\\xff" == absolute("escaped:x\\xff")
    assert absolute("builtin:digits") == "builtin:digits"
