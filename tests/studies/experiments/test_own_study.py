"""A study of a file: its cells, its verdict, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.made_setup import SEED_NOISE, check_cells, made_rows, made_setup
from vitrail.errors import UsageError
from vitrail.studies.engine.cell import Cell
from vitrail.studies.experiments.own_study import own_study

FILE = """
title = "Does it help?"
reference = "plain"

[base]
model.name = "resnet_ti"

[arms.plain]

[arms.smooth]
loss.label_smoothing = 0.2

[arms.narrow]
model.widths = [8, 16, 24]
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_the_arms_with_all_seeds(tmp_path: Path) -> None:
    study = own_study(written(tmp_path, FILE))
    cells = check_cells(study, made_setup(study))
    assert [cell.arm for cell in cells[:3]] == ["plain", "smooth", "narrow"]
    assert len(cells) == 9
    assert cells[1].settings["loss.label_smoothing"] == 0.2
    assert {cell.settings["model.name"] for cell in cells} == {"resnet_ti"}
    assert (study.name, study.file, study.judged_by) == ("mine", "mine.toml", "test/top1")


def test_a_file_without_a_model_compares_with_the_small_vit(tmp_path: Path) -> None:
    study = own_study(written(tmp_path, "[arms.a]\n[arms.b]\nloss.label_smoothing = 0.1\n"))
    names = {cell.settings["model.name"] for cell in study.cells(made_setup(study))}
    assert names == {"vit_ti4"}


def test_the_verdict_is_over_pairs_of_seeds(tmp_path: Path) -> None:
    study = own_study(written(tmp_path, FILE))
    setup = made_setup(study)
    level = {"plain": 0.7, "smooth": 0.75, "narrow": 0.7}

    def values(cell: Cell) -> dict[str, float]:
        noise = SEED_NOISE[cell.seed] * (1 if cell.arm != "narrow" else -1)
        return {"test/top1": level[cell.arm] + noise, "test/n": 2000.0, "macs": 5e6}

    rows = made_rows(study.cells(setup), values)
    found = study.outcome(setup, rows)
    assert found.verdict.answer == (
        "Better than plain: smooth. No evidence of a difference to plain: narrow."
    )
    assert "Smooth is 5.0 points above plain (5.0 to 5.0, 3 seeds)." in found.verdict.evidence
    assert [line[0] for line in found.tables["Top-1 (test/top1)"]] == [
        "arm",
        "plain",
        "smooth",
        "narrow",
    ]
    few = study.outcome(setup, [row for row in rows if row.arm == "plain"])
    assert few.verdict.answer.startswith("No result")
    two = [row for row in rows if row.arm != "narrow"]
    assert study.outcome(setup, two).verdict.answer.startswith("Smooth is 5.0 points above plain")


def test_another_file_is_another_question(tmp_path: Path) -> None:
    one = own_study(written(tmp_path, FILE))
    same = own_study(written(tmp_path, FILE + "# a remark\n"))
    other = own_study(written(tmp_path, FILE.replace("0.2", "0.3")))
    assert one.choices == same.choices != other.choices


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("arms = 3", "VIT-286", "arms"),
        ("[arms.a]", "VIT-286", "at least 2"),
        ("[arms.a]\n[arms.b]", "VIT-286", "a and b have the same settings"),
        ("[arms.a]\n[arms.b]\nepochs = 3", "VIT-286", "epochs is decided by the command"),
        ("[arms.a]\n[arms.b]\ndata.path = 'x'", "VIT-286", "data.path is decided"),
        ("[arms.a]\n[arms.b]\nema = 0.5\n[other]", "VIT-286", "other: extra"),
        ("value = 'train/loss'\n[arms.a]\n[arms.b]\nema = 0.5", "VIT-286", "value"),
        ("reference = 'c'\n[arms.a]\n[arms.b]\nema = 0.5", "VIT-286", "no arm c"),
        ("[arms.a]\n[arms.b]\noptim.rl = 0.5", "VIT-211", "Did you mean optim.lr"),
        ("[arms.a]\n[arms.b]\nema = 'much'", "VIT-212", "ema"),
        ("[arms.a\n", "VIT-215", "TOML"),
        ('[arms."a\\n"]\n[arms.b]\nema = 0.5', "VIT-286", "printable"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, code: str, words: str) -> None:
    with pytest.raises(UsageError, match=code) as error:
        own_study(written(tmp_path, text))
    assert words in str(error.value)


def test_a_name_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="VIT-286"):
        own_study(written(tmp_path, FILE, "...toml"))
    with pytest.raises(UsageError, match="VIT-215"):
        own_study(tmp_path / "missing.toml")
