"""The report: one file that is safe to open and to send, with the figures it was made from."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.checked_page import Checked
from tests.report.made_run import HOSTILE, made_audit, made_inside, made_run
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.evaluation.record import Evaluation
from vitrail.models.create import create_model
from vitrail.report import verdict
from vitrail.report.class_errors import most_confused
from vitrail.report.explanations import ModelExplanations
from vitrail.report.frame import render, shown
from vitrail.report.model_inside import inside_section
from vitrail.report.run_images import NoImages, Pixels, Sample, Thumbnail
from vitrail.report.run_page import shape_of
from vitrail.report.run_record import PredictionRow, read_run
from vitrail.report.run_report import write_report
from vitrail.report.verdict import duration, percent

CLASSES = ["cat", "dog", "fox", "owl"]


class FakeImages:
    """Noise for every image but one."""

    why_not = ""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def find(self, split: str, source: str) -> Pixels | None:
        self.asked.append((split, source))
        if len(self.asked) == 3:
            return None
        return np.random.default_rng(len(self.asked)).integers(
            0, 256, (211, 307, 3), dtype=np.uint8
        )

    def some(self, split: str, count: int) -> list[Pixels]:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (23, 31, 3), dtype=np.uint8) for _ in range(3)]

    def samples(self) -> list[Sample]:
        small = np.zeros((8, 7, 1), np.uint8)
        return [Sample(HOSTILE[0], small, [small, small, small])]


def made_report(folder: Path, classes: list[str], **how: Any) -> tuple[str, str]:
    write_report(made_run(folder, classes, **how), FakeImages())
    return (folder / "report.html").read_text(encoding="utf-8"), (folder / "report.md").read_text(
        encoding="utf-8"
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("report") / "photos-1"
    return folder, *made_report(folder, CLASSES)


def test_it_is_one_file_that_asks_for_nothing(report: tuple[Path, str, str]) -> None:
    _, page, _ = report
    checked = Checked(page)
    assert len(page.encode()) < 5_000_000
    for tag, attributes in checked.tags:
        assert tag not in ("link", "iframe", "object", "embed", "form", "base", "use", "image")
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            assert key not in ("style", "srcset", "action", "formaction", "xlink:href")
            if key in ("src", "href"):
                assert value is not None
                assert value.startswith("data:image/") if key == "src" else value.startswith("#")
    assert "://" not in re.sub(r'src="data:[^"]*"', "", page)
    assert "@import" not in page
    assert "url(" not in page


def test_the_policy_allows_exactly_what_is_there(report: tuple[Path, str, str]) -> None:
    _, page, _ = report
    policy = next(a["content"] for t, a in Checked(page).tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(contents) == 1
        digest = base64.b64encode(hashlib.sha256(contents[0].encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy


def test_every_section_is_there_and_linked(report: tuple[Path, str, str]) -> None:
    _, page, _ = report
    keys = re.findall(r'<section id="(\w+)"', page)
    assert keys == [
        "run",
        "curves",
        "classes",
        "confusion",
        "calibration",
        "mistakes",
        "samples",
        "environment",
    ]
    assert re.findall(r'<a href="#(\w+)"', page) == keys


def test_the_machine_is_described_for_people(report: tuple[Path, str, str]) -> None:
    """Bytes in GiB, yes and no in words."""
    _, page, _ = report
    machine = page[page.index('<section id="environment"') :]
    assert "<td>memory</td><td>3.0 GiB</td>" in machine
    assert "<td>mps</td><td>no</td>" in machine


def test_the_figures_are_those_of_metrics_json(report: tuple[Path, str, str]) -> None:
    folder, page, markdown = report
    metrics = json.loads((folder / "eval/test/metrics.json").read_text())
    words = " ".join(Checked(page).words)
    assert percent(metrics["top1"]) in words
    for key in ("top1", "nll", "brier", "ece", "f1_macro", "balanced_accuracy"):
        assert f"{metrics[key]:.4f}" in words
        assert f"{metrics[key]:.4f}" in markdown
    for name, one in metrics["classes"].items():
        assert f"{one['f1']:.3f}" in words
        row = [name, str(one["n"]), *(f"{one[key]:.3f}" for key in ("precision", "recall", "f1"))]
        assert f"| {' | '.join(row)} |" in markdown
    for value in (
        "vitrail train 'photos <b>' --epochs 12",
        "12 min 34 s",
        "some <i>CPU</i>",
        "0123456789ab",
    ):
        assert value in words
    assert "nearest neighbour (of 99 training images)" in words


def test_images_are_those_of_the_worst_mistakes(tmp_path: Path) -> None:
    pictures = FakeImages()
    folder = made_run(tmp_path / "r", CLASSES)
    write_report(folder, pictures)
    record = read_run(folder)
    rows = record.splits[0].rows
    wrong = sorted((row for row in rows if row.label != row.predicted), key=lambda row: -row.loss)
    assert pictures.asked[:18] == [("test", row.source) for row in wrong[:18]]
    unsure = sorted(rows, key=lambda row: row.p_predicted)
    assert [source for _, source in pictures.asked[18:]] == [row.source for row in unsure[:12]]
    page = (folder / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 29
    assert page.count("image not available") == 1
    assert page.count('class="tiny"') == 4


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page, markdown = made_report(tmp_path / "<img src=x onerror=alert(2)>", HOSTILE, n=60)
    checked = Checked(page)
    known = (
        "html head meta title style body header h1 h2 h3 p small svg line rect text circle polyline"
        " nav a main section dl div dt dd table thead tbody tr th td bdi figure figcaption span"
        " details summary pre ul li i b br img footer script"
    )
    assert {tag for tag, _ in checked.tags} <= set(known.split())
    assert page.count("<script>") == 1
    assert not re.search("[\u202a-\u202e\x07]", page)
    words = " ".join(checked.words)
    for name in HOSTILE:
        assert shown(name) in words
    assert "<script>" not in markdown
    assert "<img" not in markdown
    assert "\\|b" in markdown


def test_names_are_isolated_from_the_direction_of_the_text() -> None:
    assert shown("a\u202eb\x00\udcff") == "a\\u202eb\\x00\\xff"
    page = render("data_head.html", {"data": "\u202e<&\"'>", "verdict": "", "how": ""})
    assert "<h1><bdi>\\u202e&lt;&amp;&#34;&#39;&gt;</bdi></h1>" in page
    assert (
        html.unescape(render("repeat.html", {"command": "\u05d0<"}))
        == '<pre tabindex="0">\u05d0<</pre>'
    )


@pytest.mark.parametrize("num_classes", [1, 2, 13, 31])
def test_any_number_of_classes(tmp_path: Path, num_classes: int) -> None:
    page, _ = made_report(tmp_path / "r", [f"c{i:03d}" for i in range(num_classes)], n=97)
    Checked(page)
    cells = page.count('class="cell soft"')
    assert cells == min(num_classes, 30) ** 2
    if num_classes == 31:
        assert "the 30 most confused of 31 classes" in page


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "r", CLASSES)
    for name in (
        "data.json",
        "metrics.jsonl",
        "config.toml",
        "eval/test/calibration.json",
        "eval/test/confusion.csv",
    ):
        (folder / name).unlink()
    write_report(folder)
    page = (folder / "report.html").read_text()
    Checked(page)
    assert re.findall(r'<section id="(\w+)"', page) == ["run", "classes", "mistakes", "environment"]
    assert "No images are shown" in page
    shutil.rmtree(folder / "eval")
    (folder / "run.json").write_text('{"status": "running"}')
    write_report(folder)
    assert "Not evaluated yet" in (folder / "report.html").read_text()
    assert "**Not evaluated yet.** The run is running." in (folder / "report.md").read_text()


def test_data_that_moved_give_a_report_without_images(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "r", CLASSES)
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert "No images are shown" in page
    assert "absent/photos" in page
    assert "<img" not in page


def test_damaged_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        write_report(tmp_path)
    assert caught.value.code == "VIT-407"
    folder = made_run(tmp_path / "r", CLASSES)
    for name, content in (
        ("run.json", "{"),
        ("data.json", "[]"),
        ("eval/val/confusion.csv", "a,b\n1,2\n"),
        ("eval/test/predictions.csv", "source,label\nx,y\n"),
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(content)
        with pytest.raises(ModelError) as caught:
            write_report(folder, NoImages(""))
        assert caught.value.code == "VIT-406"
        (folder / name).write_text(before)


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_run(tmp_path / "r", CLASSES)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_report(folder, NoImages(""))
    assert not list(folder.glob(".tmp-*"))


# Words and figures


def row(label: str, predicted: str, p: float, loss: float = 1.0) -> PredictionRow:
    return PredictionRow("f", label, predicted, 0.1, p, loss)


def test_the_verdict_says_only_what_n_images_can_tell(tmp_path: Path) -> None:
    record = read_run(made_run(tmp_path / "r", CLASSES))
    split = record.splits[0]
    low, high = split.interval
    for best, words in (
        (low - 0.01, "Better than"),
        ((low + high) / 2, "Not clearly different"),
        (high + 0.01, "Worse"),
    ):
        baselines = {"a": best, "b": 0.0}
        changed = type(record)(**{**vars(record), "run": {**record.run, "baselines": baselines}})
        assert verdict.beside_baselines(changed, split).startswith(words)
    assert split.name == "test"
    assert record.splits[1].name == "val"


def test_a_rise_of_validation_loss_is_remarked(tmp_path: Path) -> None:
    record = read_run(made_run(tmp_path / "r", CLASSES))
    curves = [
        {"step": i, "epoch": float(i), "val/loss": v}
        for i, v in enumerate([2.0, 1.0, 0.9, 1.0, 1.1, 1.2, 1.3])
    ]
    changed = type(record)(**{**vars(record), "curves": curves, "run": {}})
    assert "rose from 0.900 (epoch 2) to 1.300" in verdict.remarks(changed, record.splits[0])[0]


def test_mirrored_views_are_remarked(tmp_path: Path) -> None:
    record = read_run(made_run(tmp_path / "r", CLASSES))
    split = record.splits[0]
    assert not any("mirror" in one for one in verdict.remarks(record, split))
    flipped = replace(split, metrics={**split.metrics, "tta": "flip"})
    assert "--tta flip" in verdict.remarks(record, flipped)[0]


def test_accuracy_by_coverage() -> None:
    rows = [row("a", "a", 0.9), row("a", "b", 0.5), row("a", "a", 0.5), row("a", "b", 0.3)]
    assert verdict.accuracy_by_coverage(rows) == [
        (0.25, 1.0),
        (0.75, 2 / 3),
        (1.0, 0.5),
        (1.0, 0.5),
    ]


def test_doubtful_and_worst() -> None:
    rows = [
        row("a", "a", 0.9, 9),
        row("a", "b", 0.5, 2),
        row("a", "b", 0.7, 3),
        row("a|b", "b", 0.2, 4),
    ]
    assert verdict.worst_mistakes(rows, 5) == [rows[2], rows[1]]
    assert verdict.most_doubtful(rows, 2) == [rows[3], rows[1]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3.21, "3.2 s"),
        (59.4, "59 s"),
        (754.2, "12 min 34 s"),
        (7500, "2 h 05 min"),
        (None, "unknown"),
        (-1, "unknown"),
    ],
)
def test_durations(seconds: object, words: str) -> None:
    assert duration(seconds) == words


def test_confused_pairs_and_classes() -> None:
    cells = {("a", "a"): 99, ("a", "b"): 3, ("b", "a"): 5, ("c", "a"): 1}
    assert verdict.pairs(cells, 2) == [("b", "a", 5), ("a", "b", 3)]
    names = [f"n{i:02d}" for i in range(40)]
    busy = {("n39", "n07"): 9, **{(name, name): 5 for name in names}, ("n01", "n02"): 1}
    chosen = most_confused(busy, names)
    assert len(chosen) == 30
    assert {"n39", "n07", "n01", "n02"} <= set(chosen)
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("shape", [(8, 8, 1), (48, 31, 3), (500, 333, 3), (333, 500, 1)])
def test_thumbnails_are_small_images(shape: tuple[int, int, int]) -> None:
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    kind, data = Thumbnail(pixels).uri.split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    if max(shape) <= 48:
        assert kind == "data:image/png"
        assert np.array_equal(np.asarray(image).reshape(shape), pixels)
    else:
        assert kind == "data:image/jpeg"
        assert max(image.size) == 144
        assert len(data) < 30_000


def test_several_labels_an_image(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "r", CLASSES)
    shutil.rmtree(folder / "eval")
    rng = np.random.default_rng(0)
    p = rng.random((53, 4)).astype(np.float32)
    labels = (rng.random((53, 4)) < 0.4).astype(np.float32)
    Evaluation(tuple(CLASSES), p, labels, rng.random(53)).write(folder / "eval" / "val")
    write_report(folder, FakeImages())
    page = (folder / "report.html").read_text()
    Checked(page)
    assert 'id="confusion"' not in page
    assert ">mAP<" in page
    assert "validation accuracy" in page


def test_a_network_in_words() -> None:
    assert shape_of({"depth": 4, "width": 48}) == "4 layers, width 48"
    assert shape_of({"depths": [3, 4, 6, 3], "width_factor": 2.0}) == (
        "3+4+6+3 units, width factor 2.0"
    )


def test_findings_and_the_inside_of_the_model(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "r", HOSTILE, n=97)
    (folder / "audit.json").write_text(json.dumps(made_audit(HOSTILE)), encoding="utf-8")
    pictures = FakeImages()
    write_report(folder, pictures, made_inside(HOSTILE))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 5_000_000
    checked = Checked(page)
    keys = re.findall(r'<section id="(\w+)"', page)
    assert keys[5:10] == ["mistakes", "labels", "leakage", "inside", "samples"]
    words = " ".join(checked.words)
    assert (
        "12 of 300 labels; probabilities from a model, which agrees with 90.0 % of the labels"
        in words
    )
    assert "test: label check inconclusive: too few" in words
    assert "5 of 97 test images are also among the training images: 59.00 % right" in words
    assert "only 200 of 300 train images were looked at" in words
    assert "what supports the prediction (relevance)" in words
    assert (
        "5 of 97 test images are also in train" in words.split("To repeat it")[0]
    )  # worth knowing
    assert "First 11 components of the patch filters" in words
    assert "Distance in the plane explains" in words
    assert page.count("<circle") >= 2 * 3 * 3  # a dot a head, twice
    assert page.count("not explained") == 0
    for name in HOSTILE:
        assert shown(name) in words
    assert page.count("<script>") == 1


def test_explanations_end_with_their_time() -> None:
    inside = made_inside(CLASSES)
    pixels = np.zeros((19, 23, 3), np.uint8)
    drawn = inside.overlay(pixels, "dog")
    assert drawn is not None
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    assert inside.overlay(pixels, "no such class") is None
    spent = ModelExplanations(inside.model, inside.preprocess, CLASSES, max_secs=0.0)
    assert spent.overlay(pixels, "dog") is None


@pytest.mark.parametrize("model", ["bit", "resnet"])
def test_models_without_attention_or_positions(model: str, tmp_path: Path) -> None:
    bit = create_model(
        "bit_r50x1", width_factor=0.5, depths=(1, 1), num_classes=4, image_size=(32, 32)
    )
    resnet = create_model("resnet_ti", num_classes=4)
    preprocess = made_inside(CLASSES).preprocess
    preprocess = preprocess.model_copy(update={"height": 32, "resize": (32, 32)})
    inside = ModelExplanations(bit if model == "bit" else resnet, preprocess, CLASSES)
    assert inside.overlay(np.zeros((19, 23, 3), np.uint8), CLASSES[0]) is not None
    assert inside.method == "gradcam"
    assert inside.reach([np.zeros((9, 9, 3), np.uint8)]) is None
    page = "".join(one.body for one in inside_section(inside, FakeImages(), "test"))
    assert "components of the patch filters" in page
    assert "attention" not in page
    (none,) = inside_section(made_inside(CLASSES, posemb="none"), FakeImages(), "test")
    plain = none.body
    assert "Similarity of position" not in plain
    assert "Mean attention distance" in plain


def test_half_of_an_evaluation_is_no_split(tmp_path: Path) -> None:
    """What a kill left behind, or another process is about to give its name."""
    folder = made_run(tmp_path / "r", CLASSES)
    before = [split.name for split in read_run(folder).splits]
    shutil.copytree(folder / "eval" / before[0], folder / "eval" / ".tmp-7-0a1b2c3d4e5f")
    assert [split.name for split in read_run(folder).splits] == before
