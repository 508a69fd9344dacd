"""Features: right numbers, computed once, never those of something else, damage noticed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.evaluation.frozen_model import (
    PREPROCESS,
    Rows,
    expected,
    made_splits,
    pictures,
    runtime_of,
    save_folder,
)
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.open_data import open_data
from vitrail.errors import DataError, ModelError
from vitrail.evaluation.probes.features import FeatureOptions, Frozen, cache_folder
from vitrail.runtime.torch_runtime import TorchRuntime


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def frozen(tmp_path: Path, said: list[str]) -> Frozen:
    return Frozen(
        runtime_of(Rows()),
        PREPROCESS,
        FeatureOptions(batch_size=7),
        tmp_path / "cache",
        said.append,
    )


def rows_of(frozen: Frozen) -> Rows:
    assert isinstance(frozen.runtime, TorchRuntime)
    assert isinstance(frozen.runtime.model, Rows)
    return frozen.runtime.model


def identity(model: Rows) -> str:
    return runtime_of(model).identity


def seen(frozen: Frozen) -> int:
    """Images that the model has been shown."""
    return rows_of(frozen).seen


def test_numbers_are_those_of_every_image_in_order(frozen: Frozen) -> None:
    source = pictures(23, 0)
    rows_of(frozen).train()
    got = frozen.features(source)
    assert got.dtype == np.float32
    assert np.abs(got - expected(source.images)).max() <= 2e-6
    assert rows_of(frozen).training  # as it was


def test_they_are_computed_once(frozen: Frozen, said: list[str]) -> None:
    source = pictures(23, 0)
    first = frozen.features(source)
    again = replace(frozen).features(source)
    np.testing.assert_array_equal(first, again)
    assert seen(frozen) == 23
    assert said == []
    assert replace(frozen, cache=None).features(source).tolist() == first.tolist()
    assert seen(frozen) == 46


def other_weights(frozen: Frozen) -> Frozen:
    return replace(frozen, runtime=runtime_of(Rows(3.0)))


def other_preprocess(frozen: Frozen) -> Frozen:
    values = PREPROCESS.to_json() | {"std": [0.5]}
    return replace(frozen, preprocess=Preprocess.from_json(values))


def other_precision(frozen: Frozen) -> Frozen:
    return replace(frozen, runtime=runtime_of(Rows(), "bfloat16"))


def other_architecture(frozen: Frozen) -> Frozen:
    model = Rows()
    model.config.scale = 5.0
    return replace(frozen, runtime=runtime_of(model))


@pytest.mark.parametrize(
    "change", [other_weights, other_preprocess, other_precision, other_architecture]
)
def test_what_the_numbers_depend_on_gives_another_entry(
    frozen: Frozen, change: Callable[[Frozen], Frozen]
) -> None:
    source = pictures(23, 0)
    assert change(frozen).entry(source) != frozen.entry(source)


def test_other_pixels_and_another_version_give_another_entry(
    frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pictures(23, 0)
    before = frozen.entry(source)
    source.images[11, 2, 3, 0] ^= 1
    assert frozen.entry(source) != before
    source.images[11, 2, 3, 0] ^= 1
    assert frozen.entry(source) == before
    monkeypatch.setattr("vitrail.__version__", "99")
    assert frozen.entry(source) != before


def test_how_images_are_read_gives_the_same_entry(frozen: Frozen) -> None:
    """Batches of another size differ in the last bits at most."""
    source = pictures(23, 0)
    other = replace(frozen, reading=replace(frozen.reading, batch_size=3, workers=1))
    assert other.entry(source) == frozen.entry(source)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def other_shape(path: Path) -> None:
    save_file({"features": np.zeros((22, 5), np.float32)}, path)


def other_name(path: Path) -> None:
    save_file({"logits": np.zeros((23, 5), np.float32)}, path)


def without_sha256(path: Path) -> None:
    save_file(load_file(path), path)


def text(path: Path) -> None:
    path.write_text("no tensors here")


@pytest.mark.parametrize("damage", [flip, truncate, other_shape, other_name, without_sha256, text])
def test_a_damaged_entry_is_computed_again_and_said_to_be(
    frozen: Frozen, said: list[str], damage: Callable[[Path], None]
) -> None:
    source = pictures(23, 0)
    first = frozen.features(source)
    path = frozen.entry(source)
    assert path is not None
    damage(path)
    np.testing.assert_array_equal(frozen.features(source), first)
    assert seen(frozen) == 46
    assert len(said) == 1
    assert "damaged" in said[0]
    assert str(path) in said[0]
    frozen.features(source)  # mended
    assert seen(frozen) == 46


def test_an_entry_that_cannot_be_written_costs_a_sentence_only(
    frozen: Frozen, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    source = pictures(23, 0)
    got = replace(frozen, cache=tmp_path / "file" / "cache").features(source)
    assert np.abs(got - expected(source.images)).max() <= 2e-6
    assert "not kept" in said[0]


def test_an_entry_is_there_whole_or_not_at_all(
    frozen: Frozen, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    frozen.features(pictures(23, 0))
    assert "No space left" in said[0]
    assert frozen.cache is not None
    assert list(frozen.cache.iterdir()) == []


def test_only_the_rows_that_are_wanted_are_computed(frozen: Frozen) -> None:
    source = pictures(23, 0)
    rows = np.array([3, 19, 8])
    got = frozen.rows(source, rows)
    assert np.abs(got - expected(source.images)[rows]).max() <= 2e-6
    assert seen(frozen) == 3
    frozen.features(source)
    two = frozen.rows(source, np.array([5, 1]))
    np.testing.assert_allclose(two, expected(source.images)[[5, 1]], atol=2e-6)
    assert seen(frozen) == 26  # those of all are kept
    many = np.arange(12)
    assert len(replace(frozen, cache=None).rows(source, many)) == 12
    assert seen(frozen) == 49  # most are wanted: all are computed


def test_progress_names_the_images_and_counts_them(frozen: Frozen) -> None:
    steps: list[tuple[str, int, int]] = []
    replace(frozen, progress=lambda *step: steps.append(step)).features(pictures(23, 0))
    assert [done for _, done, _ in steps] == [7, 14, 21, 23]
    assert {(name, total) for name, _, total in steps} == {("features of made:0", 23)}


def test_files_count_by_name_and_content(frozen: Frozen, tmp_path: Path) -> None:
    save_folder(tmp_path / "photos", pictures(12, 0))
    data = tmp_path / "photos"
    source = open_data(data, val_fraction=0, test_fraction=0).train
    got = frozen.features(source)
    assert got.shape == (12, 5)
    first = frozen.entry(source)
    one, other = sorted((data / "cat").iterdir())[:2]
    os.utime(one, ns=(1, one.stat().st_mtime_ns + 1))
    assert frozen.entry(source) == first
    facts = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (one, other)]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())  # exchanged, each with the size and time of the other
    other.write_bytes(content)
    for path, times in zip((one, other), facts, strict=True):
        os.utime(path, ns=times)
    assert frozen.entry(source) != first


def test_an_image_that_cannot_be_decoded_is_named(frozen: Frozen, tmp_path: Path) -> None:
    save_folder(tmp_path / "photos", pictures(12, 0))
    (tmp_path / "photos" / "dog" / "bad.png").write_bytes(b"\x89PNG\r\n")
    source = open_data(tmp_path / "photos", val_fraction=0, test_fraction=0).train
    with pytest.raises(DataError, match="bad.png") as error:
        frozen.features(source)
    assert error.value.code == "VIT-301"


def test_features_that_are_not_finite_are_refused_and_not_kept(frozen: Frozen) -> None:
    broken = replace(frozen, runtime=runtime_of(Rows(float("nan"))))
    with pytest.raises(ModelError, match=r"23 of 23 .* part-0:0") as error:
        broken.features(pictures(23, 0))
    assert error.value.code == "VIT-442"
    assert frozen.cache is not None
    assert not frozen.cache.exists()


def test_identity_is_that_of_names_shapes_types_and_numbers() -> None:
    assert identity(Rows()) == identity(Rows())
    assert identity(Rows()) != identity(Rows(2.0000002))
    assert identity(Rows()) != identity(Rows().to(torch.float64))


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vitrail" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # not allowed by the specification
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "vitrail" / "features"


def test_an_entry_holds_plain_data(frozen: Frozen) -> None:
    frozen.features(made_splits().train)
    assert frozen.cache is not None
    (path,) = frozen.cache.iterdir()
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert set(header) == {"__metadata__", "features"}
