"""A dataset whose classes no model folder could hold is refused when it is opened (R17)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrail
from vitrail.classifier import Classifier, load
from vitrail.config import DataConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources import class_names
from vitrail.data.sources.class_names import fault_of
from vitrail.data.sources.open_data import open_as, open_data
from vitrail.errors import DataError, ModelError
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig

IMAGES = np.zeros((6, 32, 32, 3), np.uint8)
LABELS = np.arange(6) % 3
Names = list[str]


def npz(root: Path, names: Names) -> Path:
    np.savez(root / "d.npz", images=IMAGES, labels=LABELS, classes=np.array(names))
    return root / "d.npz"


def table(root: Path, names: Names) -> Path:
    rows = [f'{place}.png,"{names[place % 3]}"' for place in range(6)]
    for place in range(6):
        (root / f"{place}.png").touch()
    (root / "d.csv").write_text("\n".join(["path,label", *rows]))
    return root / "d.csv"


def folders(root: Path, names: Names) -> Path:
    for name in names:
        (root / "photos" / name).mkdir(parents=True)
        (root / "photos" / name / "a.png").touch()
    return root / "photos"


def idx(root: Path, names: Names) -> Path:
    for part, values in (("images", IMAGES[..., 0]), ("labels", LABELS.astype(np.uint8))):
        shape = np.array(values.shape, ">u4").tobytes()
        head = bytes([0, 0, 8, values.ndim])
        (root / f"train-{part}-idx{values.ndim}-ubyte").write_bytes(head + shape + values.tobytes())
    (root / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    return root


def cifar_python(root: Path, names: Names) -> Path:
    batch = {"data": IMAGES.reshape(6, -1), "labels": LABELS.tolist()}
    for number in range(1, 6):
        (root / f"data_batch_{number}").write_bytes(pickle.dumps(batch))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return root


def cifar_binary(root: Path, names: Names) -> Path:
    records = b"".join(bytes([label]) + bytes(3072) for label in LABELS.tolist())
    for number in range(1, 6):
        (root / f"data_batch_{number}.bin").write_bytes(records)
    (root / "batches.meta.txt").write_text("\n".join(names), encoding="utf-8")
    return root


SOURCES: list[Callable[[Path, Names], Path]] = [
    npz,
    table,
    folders,
    idx,
    cifar_python,
    cifar_binary,
]
TABBED, LONG = "a\tb", "x" * 1001
MADE: list[tuple[Callable[[Path, Names], Path], tuple[Names, ...]]] = [
    (npz, (["a", "a", "b"], ["a", "", "b"], [TABBED, "b", "c"], [LONG, "b", "c"])),
    (npz, (["\u00e9", "e\u0301", "b"], ["a", "b\u2028", "c"])),
    (table, ([TABBED, "b", "c"], [LONG, "b", "c"])),
    (folders, ([TABBED, "b", "c"], ["a\nb", "b", "c"])),
    (idx, (["a", "a", "b"], [TABBED, "b", "c"], [LONG, "b", "c"])),
    (cifar_python, (["a", "a", "b"], ["a", "", "b"], [TABBED, "b", "c"], [LONG, "b", "c"])),
    (cifar_binary, (["a", "a", "b"], [LONG, "b", "c"])),
]


@pytest.mark.promise("R17")
@pytest.mark.parametrize(
    ("make", "names"), [(make, names) for make, every in MADE for names in every]
)
def test_every_kind_of_data_asks(make: Any, names: Names, tmp_path: Path) -> None:
    data = make(tmp_path, names)
    with pytest.raises(DataError) as found:
        open_data(data)
    assert found.value.code == "VIT-308"
    with pytest.raises(DataError):
        open_as(DataConfig(path=str(data)), 0)


@pytest.mark.promise("R17")
@pytest.mark.parametrize("make", SOURCES)
def test_usual_names_pass(make: Any, tmp_path: Path) -> None:
    names = ["\u732b", "c a|t" if make not in (table,) else "c a t", "\u0645\u200c\u0627"]
    assert sorted(open_data(make(tmp_path, names)).classes) == sorted(names)


def saved(folder: Path, classes: Names) -> Classifier:
    config = ViTConfig(
        image_size=(8, 8),
        patch_size=(8, 8),
        channels=1,
        width=8,
        depth=1,
        num_heads=1,
        mlp_dim=8,
        num_classes=len(classes),
    )
    preprocess = Preprocess(height=8, width=8, resize=(8, 8), mean=(0.5,), std=(0.5,))
    Classifier(create_model(config, seed=0), preprocess, classes).save(folder)
    return load(folder)


@pytest.mark.promise("R17")
def test_what_passes_can_be_saved_and_what_does_not_cannot(tmp_path: Path) -> None:
    """The longest names there may be, in letters that need most room."""
    name = '"\\' * 498
    count = class_names.MAX_BYTES // class_names.written_bytes(name + "0000")
    names = [f"{name}{place:04}" for place in range(count)]
    assert not fault_of(names)
    assert saved(tmp_path / "most", names).classes == names
    assert "bytes; limit" in fault_of([*names, *(f"{place:04}{name}" for place in range(3))])
    for place, classes in enumerate(([TABBED, "b"], [LONG, "b"], ["a", "a"], ["", "b"])):
        assert fault_of(classes)
        with pytest.raises(ModelError, match="VIT-434"):
            saved(tmp_path / f"{place}", classes)


@pytest.mark.promise("R17")
def test_nothing_is_trained_that_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else model.json would refuse is known before the first step."""
    monkeypatch.setattr("vitrail.model_folder.model_record.MAX_RECORD_BYTES", 900)
    with pytest.raises(DataError) as found:
        vitrail.train("builtin:digits", model="vit_ti4", steps=1, runs_dir=tmp_path / "runs")
    assert found.value.code == "VIT-325"
    assert "900 bytes" in found.value.message
    assert not (tmp_path / "runs").exists()
