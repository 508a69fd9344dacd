"""`vitrail compare`: from images to a recommendation that can be followed, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitrail.cli.main import main

TINY = [
    "--models",
    "vit_digits,bit_r26x0.5",
    "--sizes",
    "100,300,1437",
    "--seeds",
    "1",
    "--examples",
    "320",
    "--processes",
    "1",
]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_comparison_ends_in_a_recommendation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "builtin:digits", *TINY, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    folder = Path(record["folder"])
    assert folder == Path("compare/digits")
    assert record["finished"] == record["cells"] == 6
    # 320 examples teach little: what learns nothing knows the digits better.
    assert record["verdict"]["answer"].startswith("Nothing can be said of these models: the best ")
    assert record["facts"]["choice"]["model"]
    for name in (
        "study.html",
        "study.md",
        "table.csv",
        "table.parquet",
        "verdict.json",
        "learning-curves.png",
        "learning-curves.svg",
        "chosen.toml",
    ):
        assert (folder / name).stat().st_size > 0, name
    choice = record["facts"]["choice"]
    low, high = choice["expected"]
    assert 0 <= low < choice["val/top1"] < high <= 1
    assert (folder / choice["run"] / "model" / "model.safetensors").is_file()
    assert (
        main(
            [
                "train",
                "builtin:digits",
                "--config",
                f"{folder}/chosen.toml",
                "--time-limit",
                "1h",
                "--print-config",
            ]
        )
        == 0
    )
    assert f'name = "{choice["model"]}"' in capsys.readouterr().out

    assert main(["compare", "builtin:digits", *TINY]) == 0  # nothing is computed again
    said = capsys.readouterr().out
    assert "6, 6 of them finished before" in said
    assert f"vitrail report {folder / choice['run']}" in said


@pytest.mark.slow
def test_given_weights_stand_beside_models_from_scratch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ["--model", "vit_digits", "--steps", "20", "--threads", "1"]
    assert main(["train", "builtin:digits", "--name", "given", "-q", *short]) == 0
    words = ["--models", "vit_digits", "--from", "runs/given", "--sizes", "100,1437"]
    words += ["--seeds", "1", "--examples", "320", "--processes", "1", "--accumulate", "2"]
    capsys.readouterr()
    assert main(["compare", "builtin:digits", *words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {row["arm"] for row in record["rows"]} == {"vit_digits", "from given"}
    assert record["finished"] == record["cells"] == 4
    for row in record["rows"]:
        settings = (Path(record["folder"]) / row["run"] / "config.toml").read_text()
        assert ('model = "runs/given"' in settings) == (row["arm"] == "from given")
        assert "accumulate = 2" in settings
    again = (Path(record["folder"]) / "study.md").read_text()
    assert "--accumulate 2 --models vit_digits --from runs/given" in again


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["--models", "vit_x"], "VIT-221", 2),
        (["--from", "nowhere"], "VIT-430", 4),
        (["--sizes", "1,b"], "VIT-202", 2),
        (["--sizes", "100,99999"], "VIT-219", 2),
        (["--seeds", "0"], "VIT-202", 2),
        (["--examples", "0"], "VIT-202", 2),
        (["--processes", "0"], "VIT-202", 2),
        (["--image-size", "0"], "VIT-202", 2),
        (["--accumulate", "0"], "VIT-202", 2),
        (["--budget", "soon"], "VIT-202", 2),
        (["--budget", "60"], "VIT-212", 2),
        (["--rates", "1"], "VIT-211", 2),
    ],
)
def test_mistakes(
    words: list[str], code: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "builtin:digits", *words]) == exit_code
    said = capsys.readouterr().err
    assert f"error {code}" in said
    assert "Traceback" not in said
