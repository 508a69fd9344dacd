"""Classifiers: predictions and evaluation."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.model_folder.classifiers import (
    CLASSES,
    PREPROCESS,
    classifier_of,
    pictures,
    png,
    some_model,
)
from vitrail.classifier import Classifier, load
from vitrail.data.images.image_file import read_bytes
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading import prepared
from vitrail.data.sources.open_data import open_whole
from vitrail.errors import ModelError, UsageError
from vitrail.model_folder.description import Meta
from vitrail.models.create import create_model


@pytest.fixture
def classifier() -> Classifier:
    return classifier_of()


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "model")
    return tmp_path / "model"


def test_prediction_is_the_softmax_of_the_model(classifier: Classifier) -> None:
    (pixels,) = pictures(1)
    with torch.no_grad():
        logits = classifier.model(PREPROCESS(pixels)[None]).double()[0] / 1.5
    expected = logits.softmax(0).numpy()
    (prediction,) = classifier.predict([pixels], top=5)
    order = np.argsort(-expected)
    assert [label for label, _ in prediction.top] == [CLASSES[i] for i in order]
    assert [score for _, score in prediction.top] == pytest.approx(expected[order], abs=1e-6)
    assert (prediction.label, prediction.score) == (
        prediction.top[0].label,
        prediction.top[0].score,
    )


def test_every_kind_of_input_gives_the_same(classifier: Classifier, tmp_path: Path) -> None:
    (pixels,) = pictures(1)
    path = tmp_path / "a b \u00e4.png"
    path.write_bytes(png(pixels))
    inputs: list[Any] = [pixels, path, str(path), png(pixels), Image.fromarray(pixels)]
    found = classifier.predict(inputs, top=1)
    assert [one.source for one in found] == ["input-0", str(path), str(path), "input-3", "input-4"]
    assert {one.label for one in found} == {found[0].label}
    assert {one.score for one in found} == {found[0].score}
    for alone in (pixels, path, str(path), png(pixels), Image.fromarray(pixels)):
        assert classifier.predict(alone)[0].score == pytest.approx(found[0].score, abs=1e-6)


def test_a_bad_image_spoils_only_itself(classifier: Classifier, tmp_path: Path) -> None:
    good = pictures(5)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    bad: list[Any] = [
        tmp_path / "bad.jpg",
        tmp_path / "empty.png",
        tmp_path / "absent.png",
        tmp_path,
        b"<html>",
        np.zeros((3, 3), np.float32),
        np.zeros((0, 3, 3), np.uint8),
        7,
        None,
        "a\0b",
    ]
    mixed = [*bad[:5], *good, *bad[5:]]
    found = classifier.predict(mixed, batch_size=4)
    assert len(found) == len(mixed)
    for one in [*found[:5], *found[10:]]:
        assert one.error
        assert (one.label, one.score, one.top) == (None, None, [])
    alone = classifier.predict(good)
    for one, other in zip(found[5:10], alone, strict=True):
        assert one.error is None
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-6)


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.integers(1, 9), seed=st.integers(0, 99))
def test_batch_mates_do_not_matter(classifier: Classifier, size: int, seed: int) -> None:
    inputs = pictures(7, seed)
    together = classifier.predict(inputs, batch_size=7)
    other = classifier.predict(inputs[::-1], batch_size=size)[::-1]
    for one, two in zip(together, other, strict=True):
        assert dict(map(tuple, one.top)) == pytest.approx(dict(map(tuple, two.top)), abs=1e-6)


def test_top_is_limited_and_ties_keep_the_order(classifier: Classifier) -> None:
    for value in classifier.model.parameters():
        value.data.zero_()
    (prediction,) = classifier.predict(pictures(1), top=99)
    assert [label for label, _ in prediction.top] == CLASSES
    assert len(classifier.predict(pictures(1), top=2)[0].top) == 2
    with pytest.raises(UsageError, match="at least 1"):
        classifier.predict(pictures(1), top=0)


def test_without_names_the_label_is_the_number() -> None:
    found = Classifier(some_model(), PREPROCESS).predict(pictures(1))
    assert {label for label, _ in found[0].top} == set("01234")


def test_several_labels_are_scored_one_by_one() -> None:
    classifier = Classifier(some_model(), PREPROCESS, CLASSES, meta=Meta(scores="sigmoid"))
    with torch.no_grad():
        logits = classifier.model(PREPROCESS(pictures(1)[0])[None])[0]
    scores = {label: score for label, score in classifier.predict(pictures(1))[0].top}
    assert [scores[name] for name in CLASSES] == pytest.approx(logits.sigmoid().tolist(), abs=1e-6)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_answer_that_is_not_finite_names_no_class(
    classifier: Classifier, scores: Any, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image whose numbers overflow; the others of its batch are answered."""
    good, bad = pictures(2)
    bad[:] = 255
    kind = type(classifier.runtime)
    plain = kind.logits

    def logits(runtime: Any, images: Any) -> Any:
        found = plain(runtime, images).clone()
        found[-1, 0] = value
        return found

    classifier.meta = dataclasses.replace(classifier.meta, scores=scores)
    monkeypatch.setattr(kind, "logits", logits)
    first, second = classifier.predict([good, bad])
    assert first.error is None
    assert first.score is not None
    assert (second.label, second.score, second.top) == (None, None, [])
    assert "VIT-442" in str(second.error)


def test_nothing_in_nothing_out(classifier: Classifier) -> None:
    assert classifier.predict([]) == []


def test_predictions_stream_without_reading_everything(classifier: Classifier) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield pictures(1)[0]

    stream = classifier.stream(endless(), batch_size=3)
    assert next(stream).label
    assert taken <= 6
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() < 20


def test_evaluate_on_data() -> None:
    model = create_model("vit_digits", num_classes=10, channels=1)
    preprocess = Preprocess(height=8, width=8, resize=(8, 8), mean=(0.5,), std=(0.5,))
    classes = [str(i) for i in range(10)]
    whole = open_whole("builtin:digits").train  # no split of a stranger's data is drawn
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    result = Classifier(model, preprocess, classes).evaluate("builtin:digits", split="test")
    assert result.judged is not None
    assert (result.judged["how"], result.judged["trained_on"]) == ("all", None)
    predictions = Classifier(model, preprocess, classes).predict(
        [whole.read(i)[0] for i in range(len(whole))]
    )
    assert [one.label for one in predictions] == [classes[i] for i in result.predicted]
    assert result.labels.tolist() == whole.labels.tolist()
    backwards = Classifier(model, preprocess, classes[::-1]).evaluate("builtin:digits")
    assert backwards.labels.tolist() == (9 - whole.labels).tolist()
    with pytest.raises(UsageError, match="no split 'dev'"):
        Classifier(model, preprocess, classes).evaluate("builtin:digits", split="dev")
    with pytest.raises(ModelError, match="also has 0, 1") as caught:
        Classifier(model, preprocess, [f"x{i}" for i in range(10)]).evaluate("builtin:digits")
    assert caught.value.code == "VIT-403"


def test_python_calibrates_compares_and_corrupts_as_the_command(tmp_path: Path) -> None:
    model = create_model("vit_digits", num_classes=10, channels=1, seed=1)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(0)) / 8
    preprocess = Preprocess(height=8, width=8, resize=(8, 8), mean=(0.5,), std=(0.5,))
    classes = [str(i) for i in range(10)]
    source = open_whole("builtin:digits").train
    first = Classifier(model, preprocess, classes)
    p = first.probabilities(torch.stack([preprocess(source.read(i)[0]) for i in range(300)]))
    labels = np.where(np.arange(300) % 2 == 0, p.argmax(axis=1), source.labels[:300])
    labels[:10] = np.arange(10)  # each class has a training image
    images = np.stack([source.read(i)[0] for i in range(300)])[..., 0]
    arrays: dict[str, Any] = {"classes": np.array(classes)}
    for split, part in {"train": slice(60), "val": slice(60, 180), "test": slice(180, 300)}.items():
        arrays |= {f"{split}_images": images[part], f"{split}_labels": labels[part]}
    np.savez(tmp_path / "d.npz", **arrays)
    first.save(tmp_path / "a")
    first.save(tmp_path / "same")
    asked: dict[str, Any] = {"corruptions": "fog", "severity": "2", "against": tmp_path / "same"}
    found = first.evaluate(tmp_path / "d.npz", calibrate=True, **asked)
    told = found.more
    assert list(told) == ["calibration", "against", "corruptions"]
    assert found.temperature == first.temperature == told["calibration"]["temperature"] != 1
    assert found.nll < told["calibration"]["judged"]["nll_before"]
    assert told["against"]["top1_difference"] == 0
    assert list(told["corruptions"]["top1"]) == ["fog"]
    command = ["eval", "a", "d.npz", "--calibrate", "--corruptions", "fog", "--severity", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "vitrail", *command, "--against", "same", "--json", "--device=cpu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout)
    told["against"]["model"] = "same"
    assert {key: document[key] for key in told} == json.loads(json.dumps(told))
    flipped = first.evaluate(tmp_path / "d.npz", tta="flip", against=first)
    assert flipped.nll != found.nll
    assert flipped.more["against"]["nll_difference"] == 0
    with pytest.raises(UsageError) as caught:
        first.evaluate(tmp_path / "d.npz", calibrate=True, tta="flip")
    assert caught.value.code == "VIT-282"


def test_predict_is_prepare_and_answer(folder: Path) -> None:
    classifier = load(folder)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    prepared = [classifier.prepare(one) for one in (pixels, b"no image", str(folder / "none.png"))]
    assert isinstance(prepared[0], np.ndarray)
    assert prepared[0].dtype == np.float32
    assert isinstance(prepared[1], str)
    answers = classifier.answer(prepared, top=2, names=["a", "b", "c"])
    assert [(one.source, one.error is None) for one in answers] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    (expected,) = classifier.predict(pixels, top=2)
    assert answers[0].top == expected.top
    assert classifier.answer([prepared[0]])[0].source == expected.source == "input-0"


def test_predicting_imports_little(folder: Path) -> None:
    code = (
        "import sys, numpy; from vitrail.classifier import load;"
        f"load({str(folder)!r}).predict([numpy.zeros((13, 17, 3), numpy.uint8)]);"
        "print(*sorted({name.split('.')[0] for name in sys.modules}));"
        "print(*sorted(name for name in sys.modules if name.startswith('vitrail.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tops, ours = done.stdout.split("\n")[:2]
    assert not {"matplotlib", "scipy", "sklearn", "pandas", "rich", "cyclopts"} & set(tops.split())
    assert not {
        "vitrail.evaluation.evaluate",
        "vitrail.data.loading.loader",
        "vitrail.training",
    } & set(ours.split())


@pytest.mark.skipif(sys.platform != "linux", reason="files are decoded in processes there")
@pytest.mark.promise("D3")
def test_a_file_at_which_the_decoder_crashes_has_an_error(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((12, 9, 3), 20 * number, np.uint8)).save(path)
    expected = classifier.predict([*paths])
    assert classifier.predict_files(paths) == expected
    assert classifier.predict_files([]) == []
    read = read_bytes

    def crash(path: str) -> bytes:
        if path.endswith("4.png"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return read(path)

    monkeypatch.setattr(prepared, "read_bytes", crash)
    found = classifier.predict_files(paths)
    assert "crashes" in str(found[4].error)
    for one, other in zip(found[:4] + found[5:], expected[:4] + expected[5:], strict=True):
        assert (one.source, one.label, one.error) == (other.source, other.label, other.error)
        assert one.score == pytest.approx(other.score, abs=1e-6)
