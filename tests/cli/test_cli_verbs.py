"""Every verb once, for people and with --json: one document, no escape codes, the files it says."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from tests.cli.cli_command import Done, run
from tests.cli.mistakes_place import TRAIN, save_images
from vitrail.batch_prediction.records import write_table
from vitrail.batch_prediction.table_order import check_table
from vitrail.errors import EnvironmentFault
from vitrail.settings.toml_file import read_toml
from vitrail.spelling import unescaped
from vitrail.training.lr_sweep import LrFind


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with photos/ of two classes and a run runs/me."""
    folder, before = tmp_path_factory.mktemp("verbs"), Path.cwd()
    os.chdir(folder)
    for seed, label in enumerate(("cat", "dog")):
        save_images(folder / "photos" / label, [f"{n}.png" for n in range(11)], seed)
    done = run("train", "photos", *TRAIN, "--steps", "3", "--name", "me", "--json")
    assert done.code == 0, done.err
    (folder / "train.jsonl").write_text(done.out)
    yield folder
    os.chdir(before)


def good(*argv: object) -> Done:
    """A command that must go well and print no escape code."""
    done = run(*argv)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    return done


def test_train_streams_json_lines_and_ends_with_the_result(place: Path) -> None:
    events = [json.loads(line) for line in (place / "train.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "plan"
    assert "evaluation" in [event["event"] for event in events]
    assert events[-1]["event"] == "result"
    assert events[-1]["run_dir"] == "runs/me"
    assert 0 <= events[-1]["test"]["top1"] <= 1


@pytest.mark.usefixtures("place")
def test_eval_prints_and_writes_the_same_numbers() -> None:
    record = good("eval", "runs/me", "--json").document
    names = ["n", "top1", "top1_interval", "top5", "nll", "brier", "ece", "f1_macro"]
    names += ["balanced_accuracy", "classes", "images_per_s"]
    assert list(record)[: len(names)] == names
    more = ["temperature", "ece_by_chance", "intervals", "class_intervals", "selective"]
    assert list(record)[len(names) :] == [*more, "pictures", "tta", "judged"]
    written = json.loads(Path("runs/me/eval/test/metrics.json").read_text())  # by the run itself
    assert set(record) - set(written) == {"pictures", "tta"}
    assert {**written, "images_per_s": 0} == {
        **{key: record[key] for key in written},
        "images_per_s": 0,
    }
    text = good("eval", "runs/me").out
    assert f"top-1  {record['top1']:.4f}" in text
    assert "worst classes" in text


@pytest.mark.usefixtures("place")
def test_eval_of_a_model_folder_on_other_data_writes_where_told() -> None:
    done = good("eval", "runs/me/model", "photos", "--split", "train", "--out", "out/train")
    assert "wrote out/train" in done.out
    names = {path.name for path in Path("out/train").iterdir()}
    assert names == {"metrics.json", "predictions.csv", "confusion.csv", "calibration.json"}


@pytest.mark.usefixtures("place")
def test_eval_of_a_run_uses_its_own_split() -> None:
    good("eval", "runs/me", "--out", "out/own")
    with Path("out/own/predictions.csv").open() as file:
        shown = {row["source"] for row in csv.DictReader(file)}
    with Path("runs/me/eval/test/predictions.csv").open() as file:
        assert {row["source"] for row in csv.DictReader(file)} == shown


@pytest.mark.usefixtures("place")
def test_predict_for_people_json_and_tables() -> None:
    Path("photos/cat/bad.txt").write_text("no image")
    argv = [
        "predict",
        "runs/me",
        "photos/cat/0.png",
        "photos/dog",
        "photos/cat/bad.txt",
        "--top",
        "2",
    ]
    done = good(*argv, "--json")
    records = done.document
    assert len(records) == 13
    assert [list(record) for record in records] == [
        ["source", "label", "score", "top", "error"]
    ] * 13
    assert records[0]["source"] == "photos/cat/0.png"
    assert {item["label"] for item in records[0]["top"]} == {"cat", "dog"}
    assert sum(item["score"] for item in records[0]["top"]) == pytest.approx(1, abs=1e-6)
    assert records[-1]["label"] is None
    assert "1 of 13" in done.err
    assert good(*argv).out.splitlines()[0].startswith("photos/cat/0.png  ")
    good(*argv, "--out", "p.csv")
    good(*argv, "--out", "p.jsonl")
    good(*argv, "--out", "p.parquet")
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["source", "label", "score", "error", "label_2", "score_2"]
    assert rows[0]["label"] == records[0]["label"]
    assert rows[-1]["error"] == records[-1]["error"]
    assert [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()] == records
    columns = parquet.read_table("p.parquet").to_pydict()
    assert list(columns) == list(rows[0])
    assert columns["score"] == [record["score"] for record in records]
    assert columns["error"] == [record["error"] for record in records]


def test_parquet_without_its_library_says_so_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentFault, match="pyarrow") as caught:
        check_table(Path("p.parquet"))
    assert caught.value.code == "VIT-520"
    assert "pip install 'pyarrow" in caught.value.hint
    assert "CSV" in caught.value.hint


@pytest.mark.usefixtures("place")
def test_names_that_are_no_text_and_names_with_escape_codes() -> None:
    folder = Path("odd")
    save_images(folder, ["a.png"])
    (folder / "a.png").rename(folder / os.fsdecode(b"\xff\x1b[31m.png"))
    assert "\\x1b[31m.png" in good("predict", "runs/me", "odd").out
    assert (
        good("predict", "runs/me", "odd", "--out", "odd.csv", "--json").document[0]["error"] is None
    )
    text = Path("odd.csv").read_text(encoding="utf-8")  # as every table of ours
    assert "\nescaped:odd/\\xff\\x1b[31m.png," in text


def test_csv_quotes_names(tmp_path: Path) -> None:
    top = [{"label": 'a,"b"', "score": 0.5}]
    record = {"source": "x\ny.png", "label": 'a,"b"', "score": 0.5, "top": top, "error": None}
    write_table(tmp_path / "p.csv", [record], 1)
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines(keepends=True)))
    assert rows[1] == ["x\\x0ay.png", 'a,"b"', "0.5", ""]


@pytest.mark.usefixtures("place")
def test_report_names_its_files() -> None:
    files = good("report", "runs/me", "--json").document["files"]
    assert files == ["runs/me/report.html", "runs/me/report.md"]
    assert all(Path(name).is_file() for name in files)
    assert good("report", "runs/me").out.split() == files


def test_models_needs_no_torch_and_agrees_with_the_paper() -> None:
    records = {record["name"]: record for record in good("models", "--json").document}
    assert {name: round(records[name]["parameters"] / 1e6) for name in ("vit_b16", "vit_l16")} == {
        "vit_b16": 87,
        "vit_l16": 304,
    }
    one = good("models", "ViT-B/16", "--image-size", "384x192", "--classes", 10, "--json").document
    assert (one["image_size"], one["grid"], one["tokens"]) == ([384, 192], [24, 12], 289)
    assert "86,567,656" in good("models", "vit_b16").out
    assert "vit_gigantic14" in good("models").out
    resnet = good("models", "ResNet-S", "--json").document
    assert (resnet["family"], resnet["image_size"], resnet["grid"]) == ("resnet", [32, 32], [8, 8])
    assert "8 layers, units of the stages 1+1" in good("models", "resnet_s").out
    assert {"resnet_ti", "resnet_s", "resnet_m", "resnet_b"} <= records.keys()


def test_doctor_says_what_fits_and_no_names() -> None:
    import getpass
    import socket

    done = good("doctor", "--json")
    record = done.document
    assert {
        "vitrail",
        "python",
        "system",
        "cpus",
        "memory_bytes",
        "extras",
        "torch",
        "train",
    } <= set(record)
    assert all(item["batch"] >= 0 and item["images_per_s"] > 0 for item in record["train"])
    batches = [item["batch"] for item in record["train"]]
    assert batches == sorted(batches, reverse=True)
    values = set(json.dumps(record).replace('"', " ").replace(",", " ").split())
    assert not values & {socket.gethostname(), getpass.getuser()}
    assert "no problems found" in good("doctor").out or "problem" in good("doctor").out


def test_doctor_without_torch_still_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    done = run("doctor", "--json")
    assert done.code == 5
    assert done.document["torch"] is None
    assert "pip install torch" in done.document["problems"][-1]


@pytest.mark.usefixtures("place")
def test_data_check_writes_a_page_and_a_list() -> None:
    record = good("data", "check", "photos", "--out", "report", "--json").document
    names = ("data_report.html", "bad_files.csv", "duplicates.csv")
    assert record["files"] == [f"report/{name}" for name in names]
    assert record["splits"] == {"train": 16, "val": 3, "test": 3}
    assert Path("report/bad_files.csv").read_text().splitlines()[0] == "path,reason"
    assert "<h1><bdi>photos</bdi></h1>" in Path("report/data_report.html").read_text()
    assert "cat" in good("data", "check", "photos").out


@pytest.mark.usefixtures("place")
def test_data_split_writes_a_table_that_can_be_trained_on() -> None:
    record = good("data", "split", "photos", "--seed", 3, "--json").document
    assert record["file"] == "photos/split.csv"
    with Path("photos/split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 22
    for split, count in record["counts"].items():
        assert sum(row["split"] == split for row in rows) == count
    again = good("data", "check", "photos/split.csv", "--json").document
    assert again["splits"] == record["counts"]
    assert "put it there" in good("data", "split", "photos", "elsewhere.csv").out
    assert "no data set" in good("data", "split", "builtin:digits", "digits.csv").out
    Path("photos/split.csv").unlink()


@pytest.mark.usefixtures("place")
def test_data_show_writes_sheets() -> None:
    record = good("data", "show", "photos", "--count", 5, "--json").document
    assert [item["label"] for item in record["pictures"]] == ["cat", "dog", "cat", "dog", "cat"]
    with Image.open("pictures.png") as sheet:
        assert sheet.size == (5 * 118 + 6, 134 + 6)
    argv = [
        "data",
        "show",
        "photos",
        "--count",
        3,
        "--augment",
        "randaugment",
        "--image-size",
        "32",
    ]
    good(*argv, "--out", "a.png")
    good(*argv, "--out", "b.png")
    good(*argv, "--out", "c.png", "--seed", 1)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes() != Path("c.png").read_bytes()


@pytest.mark.usefixtures("place")
def test_data_get_writes_files_that_are_the_digits() -> None:
    from vitrail.data.sources.open_data import open_data

    record = good("data", "get", "digits", "--json").document
    assert record["counts"] == {"train": 1437, "val": 180, "test": 180}
    files, arrays = open_data("digits"), open_data("builtin:digits")
    assert files.classes == arrays.classes
    assert files.test is not None
    assert arrays.test is not None
    assert sorted(files.test.labels) == sorted(arrays.test.labels)
    pixels, label = arrays.test.read(0)
    with Image.open(f"digits/test/{arrays.classes[int(label)]}/0000.png") as picture:
        assert picture.tobytes() == bytes(pixels.tobytes())  # type: ignore[union-attr]


@pytest.mark.usefixtures("place")
def test_lr_find_writes_numbers_and_a_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def lr_find(layers: Any, *, reporter: Any) -> Any:
        asked["layers"] = layers
        return LrFind(
            lrs=[1e-5, 1e-3, 1e-1],
            losses=[2.3, 1.1, float("nan")],
            suggestion=1e-3,
            default=1e-3,
            sentence="no rate is clearly better",
        )

    monkeypatch.setattr("vitrail.api.learning_rate.search", lr_find)
    record = good("lr-find", "photos", "--batch-size", 4, "--json").document
    assert record["suggestion"] == 1e-3
    assert asked["layers"][-1][1] == {"batch_size": "4", "data.path": "photos"}
    assert json.loads(Path("lr-find/lr_find.json").read_text())["losses"] == [2.3, 1.1, None]
    import xml.etree.ElementTree as ElementTree

    assert ElementTree.parse("lr-find/lr_find.svg").getroot().tag.endswith("svg")
    done = good("lr-find", "photos", "--out", "again")
    assert done.out.splitlines()[:2] == ["suggestion  --lr 1.0e-03", "no rate is clearly better"]


@pytest.mark.promise("D7")
def test_predict_and_explain_take_the_images_that_train_takes(place: Path) -> None:
    """And name what they leave out; a name never forges a line, a pipe never hangs."""
    folder = place / "odd-names"
    names = [
        "a.png",
        "x\nforged.png  dog 1.0000.png",
        "y\x1b[31m\u202e.png",
        "x\udcff.png",
        "IMG_1",
    ]
    save_images(folder / "sub", ["a.png"], 5)
    image = (folder / "sub" / "a.png").read_bytes()
    for name in names[1:]:
        (folder / "sub" / name).write_bytes(image)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "a.png").write_bytes(image)
    (folder / "notes.txt").write_text("no image")
    (folder / "linked").symlink_to("sub")
    (folder / "broken.png").symlink_to("/nowhere/x.png")
    (folder / "out.png").symlink_to(place / "photos" / "cat" / "0.png")
    os.mkfifo(folder / "pipe.png")
    done = good("predict", "runs/me", "odd-names", "--out", "names.csv")
    lines = done.out.splitlines()
    assert len(lines) == 8
    assert not [line for line in lines if not line.startswith(("odd-names/", "escaped:odd-names/"))]
    named = {line.split("  ")[0]: line for line in lines}
    assert "is a broken link" in named["odd-names/broken.png"]
    assert "links out of the folder are not followed" in named["odd-names/out.png"]
    assert "pipe" in named["odd-names/pipe.png"]
    assert "odd-names/sub/IMG_1" in named
    assert (
        "left out: 1 file that is not an image (1 .txt); 1 hidden name (.ipynb_checkpoints); "
        "1 link to a folder, not followed (linked)"
    ) in done.err
    with open("names.csv", encoding="utf-8", newline="") as stream:
        assert len(stream.read().splitlines()) == 9
    explained = good("explain", "runs/me", "odd-names", "--method", "gradcam", "--out", "odd-maps")
    assert all(name in explained.out for name in ("broken.png", "out.png", "pipe.png"))
    assert "left out: 1 file" in explained.err
    assert len(list((place / "odd-maps").glob("*.png"))) == 5


@pytest.mark.usefixtures("place")
def test_a_missing_name_or_an_empty_folder_among_others(place: Path) -> None:
    (place / "bare").mkdir()
    done = good("predict", "runs/me", "bare", "photos/cat/0.png")
    assert len(done.out.splitlines()) == 1
    assert "bare holds no images" in done.err
    assert run("predict", "runs/me", "bare").code == 3


@pytest.mark.usefixtures("place")
@pytest.mark.promise("D7")
@pytest.mark.parametrize(
    "command",
    [
        "train loose {short} --dry-run",
        "data show loose --out sheet.png",
        "data check loose",
        "data split loose loose.csv",
        "eval runs/me loose",
        "probe runs/me loose --out p.json",
        "explain runs/me --figures --data loose --out figures",
    ],
)
def test_every_verb_says_what_of_the_data_is_left_out(place: Path, command: str) -> None:
    if not (place / "loose").exists():
        for seed, label in enumerate(("cat", "dog")):
            save_images(place / "loose" / label, [f"{n}.png" for n in range(15)], seed)
        save_images(place / "loose", ["loose.png"], 3)
    words = command.format(short=" ".join([*TRAIN, "--steps 2"])).split()
    done = run(*words)
    assert done.code == 0, done.err
    assert "1 image next to the class folders (loose.png)" in done.out + done.err


@pytest.mark.usefixtures("place")
def test_show_says_that_fewer_augmented_images_are_shown() -> None:
    done = good("data", "show", "photos", "--augment", "recipe", "--count", "40", "--out", "40.png")
    assert "--augment shows at most 12 images" in done.err
    assert "12 images of train" in done.out
    done = good("data", "show", "photos", "--augment", "recipe", "--out", "12.png")
    assert "--augment" not in done.err


def test_data_under_a_name_that_is_no_text(place: Path) -> None:
    """Every record of the run has it in one form, by which eval and report find the images."""
    name = "data\udcff\n1"
    for seed, label in enumerate(("cat", "dog")):
        save_images(place / name / label, [f"{n}.png" for n in range(15)], seed)
    where = ["--out", "out\udcff", "--name", "odd"]
    done = good("train", name, *TRAIN, "--steps", "2", *where)
    assert "data\\xff\\x0a1" in done.out
    run_dir, form = place / "out\udcff" / "odd", "escaped:data\\xff\\x0a1"
    recorded = json.loads((run_dir / "data.json").read_text())
    assert recorded["path"] == form
    assert unescaped(recorded["absolute"]) == str(place / name)
    assert read_toml(run_dir / "config.toml")["data.path"] == form
    for file in run_dir.glob("*.json"):
        json_text = json.dumps(json.loads(file.read_text(encoding="utf-8")), ensure_ascii=False)
        assert json_text.encode("utf-8"), file
    good("eval", run_dir)
    good("report", run_dir)
    assert "No images are shown" not in (run_dir / "report.html").read_text()
    good("data", "check", form)
    start = ["--from", "out\udcff/odd", "--steps", "2", "--workers", "0", "--name", "again"]
    good("train", name, *start)
    assert read_toml(place / "runs/again/config.toml")["start.model"] == "escaped:out\\xff/odd"
    assert "escaped:" in good("predict", "out\udcff/odd", place / name / "cat" / "0.png").out
