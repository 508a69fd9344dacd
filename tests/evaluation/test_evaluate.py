"""Running a model over batches, the record that comes of it and its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.errors import ModelError, UsageError
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.kept import keep
from vitrail.evaluation.record import Evaluation
from vitrail.runtime.torch_runtime import TorchRuntime

CLASSES = ("cat", "dog", "fox")
PREPROCESS = Preprocess(height=5, width=7, resize=(5, 7), mean=(0.5,), std=(0.25,))
KEYS = [
    "n",
    "top1",
    "top1_interval",
    "top5",
    "nll",
    "brier",
    "ece",
    "f1_macro",
    "balanced_accuracy",
    "classes",
    "images_per_s",
]


class MeanModel(nn.Module):
    """Logits from the mean m of the normalised image: (m, -m, 0.1)."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean, torch.full_like(mean, 0.1)], dim=1)


def batches_of(images: Tensor, labels: Tensor, size: int) -> Iterator[Batch]:
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield Batch(images[part], labels[part], torch.arange(len(images))[part])


@pytest.fixture
def pictures() -> Tensor:
    return torch.randint(
        0, 256, (23, 1, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def expected_logits(images: Tensor) -> np.ndarray:
    mean = ((images.double() / 255 - 0.5) / 0.25).mean(dim=(1, 2, 3)).numpy()
    return np.stack([mean, -mean, np.full_like(mean, 0.1)], axis=1)


@pytest.mark.parametrize("size", [1, 5, 23, 64])
def test_every_image_counts_once_in_any_batch_size(pictures: Tensor, size: int) -> None:
    labels = torch.arange(23) % 3
    model = MeanModel().train()
    result = evaluate(
        TorchRuntime(model, PREPROCESS.input_size).logits,
        batches_of(pictures, labels, size),
        PREPROCESS,
        CLASSES,
        temperature=2.0,
        source_id=lambda i: f"p{i}",
    )
    scaled = np.exp(expected_logits(pictures) / 2)
    assert np.abs(result.probabilities - scaled / scaled.sum(axis=1, keepdims=True)).max() < 1e-6
    assert result.probabilities.dtype == np.float32
    assert (result.n, result.ids[0], result.ids[-1]) == (23, "p0", "p22")
    assert result.labels.tolist() == labels.tolist()
    assert result.top1 == np.mean(expected_logits(pictures).argmax(axis=1) == labels.numpy())
    assert result.interval[0] < result.top1 < result.interval[1]
    assert result.images_per_s > 0
    assert model.training


def test_json_has_exactly_the_documented_keys_in_order(pictures: Tensor) -> None:
    document = evaluate(
        MeanModel().eval(), batches_of(pictures, torch.arange(23) % 3, 4), PREPROCESS, CLASSES
    ).to_json()
    assert list(document) == KEYS
    assert list(document["classes"]) == list(CLASSES)
    assert all(
        list(one) == ["n", "precision", "recall", "f1"] for one in document["classes"].values()
    )
    assert document["top5"] == 1.0
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_files(pictures: Tensor, tmp_path: Path) -> None:
    batches = batches_of(pictures, torch.arange(23) % 3, 4)
    name = 'dir/"a, {}".png'.format
    result = evaluate(MeanModel().eval(), batches, PREPROCESS, CLASSES, source_id=name)
    result.write(tmp_path / "eval" / "test")
    folder = tmp_path / "eval" / "test"
    assert sorted(p.name for p in folder.iterdir()) == [
        "calibration.json",
        "confusion.csv",
        "metrics.json",
        "predictions.csv",
    ]
    assert json.loads((folder / "metrics.json").read_text()) == result.document()
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["source", "label", "predicted", "p_label", "p_predicted", "loss"]
    assert [row["source"] for row in rows] == [f'dir/"a, {i}".png' for i in range(23)]
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == result.top1
    for row in rows:
        assert float(row["loss"]) == pytest.approx(-np.log(float(row["p_label"])), abs=1e-4)
    with open(folder / "confusion.csv", newline="", encoding="utf-8") as stream:
        cells = {(row["label"], row["predicted"]): int(row["n"]) for row in csv.DictReader(stream)}
    matrix = [[cells.get((a, b), 0) for b in CLASSES] for a in CLASSES]
    assert matrix == result.confusion.tolist()
    calibration = json.loads((folder / "calibration.json").read_text())
    assert sum(one["n"] for one in calibration["bins"]) == 23
    assert calibration["ece"] == result.ece


def test_of_two_at_once_each_has_a_folder_of_its_own(
    pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks for a name before another has written under it finds that one taken."""
    batches = batches_of(pictures, torch.arange(23) % 3, 4)
    found = evaluate(MeanModel().eval(), batches, PREPROCESS, CLASSES)
    write = Evaluation.write
    made: list[Path] = []

    def late(self: Evaluation, folder: Path, more: Any = None, *, is_new: bool = False) -> None:
        if not made:  # another process was faster
            made.append(folder)
            write(self, folder, {"by": "the other"}, is_new=True)
        write(self, folder, more, is_new=is_new)

    monkeypatch.setattr(Evaluation, "write", late)
    folder, is_new = keep(tmp_path, "test", found, {"by": "this one"})
    assert (folder, is_new, made) == (tmp_path / "eval/test-2", True, [tmp_path / "eval/test"])
    who = [json.loads((one / "metrics.json").read_text())["by"] for one in (*made, folder)]
    assert who == ["the other", "this one"]
    made.clear()
    with pytest.raises(UsageError, match="VIT-206"):
        found.write(tmp_path / "out", {"by": "this one"}, is_new=True)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["by"] == "the other"


def test_several_labels_an_image(pictures: Tensor, tmp_path: Path) -> None:
    labels = torch.from_numpy((np.random.default_rng(0).random((23, 3)) < 0.5).astype(np.float32))
    result = evaluate(MeanModel().eval(), batches_of(pictures, labels, 4), PREPROCESS, CLASSES)
    logits = expected_logits(pictures)
    assert np.abs(result.probabilities - 1 / (1 + np.exp(-logits))).max() < 1e-6
    p = result.probabilities.astype(float)
    loss = -(labels.numpy() * np.log(p) + (1 - labels.numpy()) * np.log(1 - p)).mean(axis=1)
    assert result.losses == pytest.approx(loss, abs=1e-6)
    document = result.to_json()
    assert set(document) == {*KEYS, "f1_micro", "mean_average_precision"}
    result.write(tmp_path)
    assert not (tmp_path / "confusion.csv").exists()
    with pytest.raises(ValueError, match="one label"):
        _ = result.confusion


def test_not_finite_is_an_error_that_names_the_first_image(pictures: Tensor) -> None:
    class Broken(MeanModel):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where(images[:, :1, 0, 0] == 0, torch.nan, logits)

    pictures = pictures.clamp(min=1)
    pictures[17] = 0
    preprocess = PREPROCESS.model_copy(update={"mean": (0.0,)})
    with pytest.raises(ModelError, match="1 of 23 images.*image 17") as caught:
        evaluate(
            Broken().eval(),
            batches_of(pictures, torch.zeros(23, dtype=torch.int64), 4),
            preprocess,
            CLASSES,
        )
    assert caught.value.code == "VIT-442"


def test_an_empty_split() -> None:
    result = evaluate(MeanModel().eval(), iter(()), PREPROCESS, CLASSES)
    document = result.to_json()
    assert (document["n"], document["top1"], document["top1_interval"]) == (0, 0.0, [0.0, 1.0])
    json.dumps(document, allow_nan=False)


def test_classes_that_do_not_occur_keep_their_row() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], np.float32)
    record = Evaluation(CLASSES, p, np.array([0, 0]), -np.log(p[[0, 1], [0, 0]].astype(float)))
    assert record.to_json()["classes"]["fox"] == {
        "n": 0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }
    assert record.to_json()["classes"]["cat"] == {
        "n": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
