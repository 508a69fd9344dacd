"""`vitrail compare`: from images to a recommendation that can be followed, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.odd_images import encoded, noise
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


@pytest.mark.promise("D7")
def test_images_that_cannot_be_decoded_stop_it_or_are_left_out_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As `vitrail train` does; every run of the comparison leaves the same ones out."""
    for label in ("a", "b"):
        Path("d", label).mkdir(parents=True)
        for number in range(30):
            pixels = noise(8, 8, seed=100 * ord(label) + number)
            Path("d", label, f"{number:02}.png").write_bytes(encoded(pixels, "PNG"))
    for name in ("a/00.png", "b/29.png", "b/11.png"):
        Path("d", name).write_bytes(b"no image")
    words = ["compare", "d", "--models", "vit_digits", "--image-size", "8", "--sizes", "16,42"]
    words += ["--seeds", "1", "--examples", "64", "--processes", "1"]
    assert main(words) == 3
    said = capsys.readouterr().err
    assert "error VIT-3" in said
    assert "--on-bad-file skip" in said
    assert main([*words, "--on-bad-file", "skip", "--json"]) == 0
    done = capsys.readouterr()
    left_out = "left out: 3 of 60 images cannot be decoded (the first is "
    assert f"data   {left_out}" in done.err
    record = json.loads(done.out)
    assert any(note.startswith(left_out) for note in record["notes"])
    assert record["finished"] == record["cells"] == 2
    folder = Path(record["folder"])
    counts = [row["train/pictures"] for row in record["rows"]]
    assert all(number <= size for number, size in zip(sorted(counts), (16, 42), strict=True))
    for row in record["rows"]:
        assert 'on_bad_file = "skip"' in (folder / row["run"] / "config.toml").read_text()
    assert "--on-bad-file skip" in (folder / "study.md").read_text()


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
