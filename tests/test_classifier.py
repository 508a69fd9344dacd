"""Classifiers: predictions, and model folders that are whole, checked and movable."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

import vitrail
from tests.models.check_model import random_model
from vitrail.classifier import Classifier, load
from vitrail.data.images.image_file import read_bytes
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading import prepared
from vitrail.data.sources.open_data import open_whole
from vitrail.errors import EnvironmentFault, ModelError, UsageError
from vitrail.model_folder import bundle
from vitrail.model_folder.description import Meta
from vitrail.models.cost import parameters, running_values
from vitrail.models.create import create_model
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig
from vitrail.open_model import find_model
from vitrail.system.pickle_process import CHILD

CLASSES = ["cat", "dog", "<script>", "\u05d0\u05d1\u05d2", "e"]
CONFIG = ViTConfig(
    image_size=(10, 14),
    patch_size=(5, 7),
    width=12,
    depth=2,
    num_heads=3,
    mlp_dim=17,
    num_classes=5,
)
PREPROCESS = Preprocess(height=10, width=14, resize=(10, 14))
META = Meta(
    name="vit_ti5",
    trained_on={"data": "photos", "pictures": 7, "note": "a | b\n---\nc"},
    metrics={"test": {"n": 180, "top1": 0.9611, "top1_interval": [0.922, 0.981], "nll": 0.14}},
)


def some_model(config: ViTConfig = CONFIG, seed: int = 0) -> torch.nn.Module:
    model = create_model(config)
    generator = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.3
    return model


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(some_model(), PREPROCESS, CLASSES, temperature=1.5, meta=META)


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "model")
    return tmp_path / "model"


def pictures(n: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (13, 17, 3), dtype=np.uint8) for _ in range(n)]


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# Predictions


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


# On disk


def test_a_saved_model_is_the_same_model(classifier: Classifier, folder: Path) -> None:
    loaded = vitrail.load(folder)
    assert loaded.classes == CLASSES
    assert loaded.preprocess == PREPROCESS
    assert loaded.temperature == 1.5
    assert loaded.meta.trained_on == META.trained_on
    assert loaded.meta.metrics == META.metrics
    assert loaded.meta.versions["vitrail"] == vitrail.__version__
    assert not loaded.model.training
    assert loaded.predict(pictures(3)) == classifier.predict(pictures(3))
    for name, value in classifier.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert all(value.requires_grad for value in loaded.model.parameters())


@pytest.mark.parametrize("norm", ["batch", "group_std"])
@pytest.mark.parametrize("name", ["resnet_ti", "vit_ti4"])
def test_running_values_are_in_the_file(
    name: str, norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A residual network and a ViT behind a residual stem come back to the bit, and their size is
    that of the file; the card says what it is."""
    stem = {"stem": "residual", "stem_norm": norm, "width": 24, "num_heads": 3, "depth": 1}
    config = resolve_model(
        name,
        num_classes=5,
        image_size=(10, 14),
        overrides={"norm": norm} if name == "resnet_ti" else stem | {"patch_size": 1},
    )
    classifier = Classifier(random_model(config, dtype=torch.float32), PREPROCESS, CLASSES)
    classifier.save(tmp_path / "m")
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    numbers = parameters(config) + running_values(config)
    monkeypatch.setattr(bundle, "HEADER_BYTES", size - 4 * numbers)
    loaded = load(tmp_path / "m")
    for key, value in classifier.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)
    assert loaded.predict(pictures(3)) == classifier.predict(pictures(3))
    kind = "residual-network" if name == "resnet_ti" else "vision-transformer"
    assert f"- {kind}\n" in (tmp_path / "m" / "README.md").read_text()
    document = json.loads((tmp_path / "m" / "model.json").read_text())
    assert document["architecture"]["family"] == config.family


@pytest.mark.parametrize("posemb", ["learned", "sincos_2d", "rope_2d", "relative", "learned_2d"])
def test_fixed_tables_are_not_in_the_file_and_come_back(posemb: Any, tmp_path: Path) -> None:
    config = ViTConfig(
        image_size=(10, 14),
        patch_size=(5, 7),
        width=16,
        depth=1,
        num_heads=2,
        mlp_dim=17,
        num_classes=5,
        posemb=posemb,
    )
    classifier = Classifier(some_model(config), PREPROCESS, CLASSES)
    classifier.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert not any(value.is_meta for value in [*loaded.model.parameters(), *loaded.model.buffers()])
    assert loaded.predict(pictures(2)) == classifier.predict(pictures(2))


def test_model_json_has_the_documented_keys(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert list(document) == [
        "schema",
        "architecture",
        "classes",
        "preprocess",
        "temperature",
        "scores",
        "trained_on",
        "metrics",
        "versions",
        "sha256",
        "digest",
    ]
    assert set(document["architecture"]) == {"family", "name", "numbers"}
    assert document["preprocess"]["resize"] == [10, 14]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]


def test_the_card_has_hub_front_matter_that_cannot_be_broken_out_of(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    _, header, body = card.split("---\n", 2)
    for line in (
        "library_name: vitrail",
        "pipeline_tag: image-classification",
        "- type: accuracy",
        "value: 0.9611",
    ):
        assert line in header
    assert "license:" not in header
    assert "&lt;script" in body
    assert "<script" not in card
    assert "a \\| b\\\\x0a---\\\\x0ac" in body  # a line break of a note is seen, and breaks nothing


def test_moved_renamed_and_read_only(classifier: Classifier, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "else where" / "renamed \u00e4"
    place.parent.mkdir()
    shutil.move(folder, place)
    for path in place.iterdir():
        path.chmod(0o444)
    place.chmod(0o555)
    try:
        assert load(place).predict(pictures(1)) == classifier.predict(pictures(1))
    finally:
        place.chmod(0o755)


@pytest.mark.parametrize("prefix", ["", "model/", "a/b/"])
def test_zipped(classifier: Classifier, folder: Path, tmp_path: Path, prefix: str) -> None:
    target = tmp_path / "m.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, prefix + path.name)
    assert load(target).predict(pictures(1)) == classifier.predict(pictures(1))


def test_a_loaded_model_does_not_need_its_file_any_more(
    classifier: Classifier, folder: Path
) -> None:
    loaded = load(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    shutil.rmtree(folder)
    assert loaded.predict(pictures(1)) == classifier.predict(pictures(1))


def test_half_precision_weights_are_computed_in_float32(folder: Path) -> None:
    weights = {key: value.half() for key, value in load_file(folder / "model.safetensors").items()}
    rewrite(folder, weights)
    loaded = load(folder)
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    assert torch.equal(loaded.model.head.weight, weights["head.weight"].float())  # type: ignore[union-attr,arg-type]


def test_a_run_stands_for_its_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert find_model(tmp_path) == folder
    assert find_model(folder / "model.safetensors") == folder
    shutil.rmtree(folder)
    refuses(tmp_path, "VIT-432", "--resume")


def test_nothing_is_overwritten_and_nothing_is_left_behind(
    classifier: Classifier, folder: Path
) -> None:
    before = (folder / "model.json").read_bytes()
    with pytest.raises(ModelError) as caught:
        classifier.save(folder)
    assert caught.value.code == "VIT-440"
    assert (folder / "model.json").read_bytes() == before
    changed = Classifier(some_model(seed=1), PREPROCESS, CLASSES)
    changed.save(folder, replace=True)
    assert load(folder).predict(pictures(1)) == changed.predict(pictures(1))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_what_was_there(
    classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.files.flush_to_disk", full)
    for target, replace in ((folder, True), (folder.parent / "new", False)):
        with pytest.raises(EnvironmentFault, match="No space left") as caught:
            classifier.save(target, replace=replace)
        assert caught.value.code == "VIT-506"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    load(folder)


def test_files_are_readable_for_others_as_umask_says(
    classifier: Classifier, tmp_path: Path
) -> None:
    old = os.umask(0o022)
    try:
        classifier.save(tmp_path / "m")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()}
    assert modes == {0o644}
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o755


# Files of other people


def rewrite(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Other weights with their sha256 in model.json."""
    save_file(weights, folder / "model.safetensors")
    reseal(folder)


def reseal(folder: Path) -> None:
    change(folder, lambda d: d.update(sha256=bundle.sha256_of(folder / "model.safetensors")))


def change(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    how(document)
    document.pop("digest", None)  # as of a change on purpose: the rest is looked at too
    (folder / "model.json").write_text(json.dumps(document), encoding="utf-8")


def refuses(path: Path, code: str, *texts: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code == code, caught.value
    assert caught.value.hint
    for text in texts:
        assert text in str(caught.value)
    return caught.value


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


def payloads(canary: Path) -> dict[str, bytes]:
    """The payload as pickles, as torch saves it, and packed."""
    found = {f"pickle{n}": pickle.dumps(Payload(canary), protocol=n) for n in range(6)}
    for name, is_zip in (("torch", True), ("torch-legacy", False)):
        stream = io.BytesIO()
        torch.save(Payload(canary), stream, _use_new_zipfile_serialization=is_zip)
        found[name] = stream.getvalue()
    stream = io.BytesIO()
    array = np.empty(1, object)
    array[0] = Payload(canary)
    np.savez(stream, a=array)
    found["npz"] = stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.json", found["pickle2"])
        archive.writestr("model.safetensors", found["pickle2"])
    found["zip"] = stream.getvalue()
    return found


EVENTS: list[str] = []
FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "exec")


@pytest.fixture(scope="session")
def audited() -> list[str]:
    """The forbidden audit events so far; a hook cannot be removed, so it only appends."""

    def note(name: str, arguments: tuple[Any, ...]) -> None:
        if name in FORBIDDEN and not (name == "subprocess.Popen" and is_our_child(arguments[1])):
            EVENTS.append(name)

    sys.addaudithook(note)
    return EVENTS


def is_our_child(command: object) -> bool:
    """The process that reads pickles, which has nothing to call and nowhere to go."""
    words = list(command) if isinstance(command, list | tuple) else []
    return words[:3] == [sys.executable, "-I", "-S"] and words[3] == str(CHILD)


@pytest.mark.promise("M1")
@pytest.mark.parametrize(
    "name",
    [
        "model.pt",
        "x.pth",
        "x.ckpt",
        "x.bin",
        "x.pkl",
        "x.safetensors",
        "x.npz",
        "x.zip",
        "x",
        "x.jpg",
    ],
)
def test_a_file_that_runs_code_is_never_run(
    tmp_path: Path, name: str, audited: list[str], folder: Path
) -> None:
    canary = tmp_path / "canary"
    load(folder)  # what is imported on the way is imported now
    import_module("vitrail.checkpoints.external")
    import_module("vitrail.checkpoints.origins.name_map")
    made = payloads(canary)
    before = len(audited)
    for kind, data in made.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            load(path)
        assert caught.value.code in ("VIT-402", "VIT-431", "VIT-433", "VIT-434", "VIT-438"), kind
        is_named = name.endswith((".pt", ".pth", ".ckpt", ".bin", ".pkl"))
        if is_named and kind.startswith(("pickle", "torch")):
            assert "can run code" in caught.value.message
    assert not canary.exists()
    assert audited[before:] == []
    pickle.loads(made["pickle2"]).close()
    assert canary.exists()  # the payload works


@pytest.mark.promise("M1")
@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "README.md"])
def test_a_payload_inside_a_model_folder_is_never_run(
    folder: Path, tmp_path: Path, name: str, audited: list[str]
) -> None:
    canary = tmp_path / "canary"
    load(folder)
    made = payloads(canary)
    before = len(audited)
    original = (folder / name).read_bytes()
    for data in made.values():
        (folder / name).write_bytes(data + b"\0" * max(0, len(original) - len(data)))
        if name == "model.safetensors":
            reseal(folder)
        if name == "README.md":
            load(folder)
        else:
            refuses(folder, "VIT-434" if name == "model.json" else "VIT-438")
    assert not canary.exists()
    assert audited[before:] == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"\xff" * 8 + b"{}",
        lambda: (10**8).to_bytes(8, "little") + b"{" * 100,
        lambda: b"",
        lambda: b"PK\x03\x04" + b"\0" * 5000,
    ],
)
def test_weights_that_are_no_safetensors_are_refused(
    folder: Path, make: Callable[[], bytes]
) -> None:
    data = make()
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(data + b"\0" * (size - len(data)))
    refuses(folder, "VIT-437", "sha256")
    reseal(folder)
    refuses(folder, "VIT-438", "safetensors")


@pytest.mark.parametrize("factor", [0, 0.4, 3_000_000])
def test_weights_of_another_size_are_refused_before_they_are_read(
    folder: Path, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "sha256_of", lambda _: pytest.fail("was read"))
    size = (folder / "model.safetensors").stat().st_size
    os.truncate(
        folder / "model.safetensors", int(size * factor) if factor < 1 else size + int(factor)
    )
    refuses(folder, "VIT-436", "bytes")


def test_a_single_changed_bit_is_found(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    refuses(folder, "VIT-437", "sha256")


def test_names_and_shapes_are_compared_with_the_architecture(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["z.extra"] = weights.pop("head.bias")
    weights["norm.weight"] = weights["norm.weight"].reshape(1, -1)
    rewrite(folder, weights)
    refuses(
        folder,
        "VIT-439",
        "missing: head.bias",
        "unexpected: z.extra",
        "norm.weight: expected (12,), got (1, 12)",
    )


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.bias"][3] = torch.nan
    rewrite(folder, weights)
    refuses(folder, "VIT-441", "norm.bias")


def test_a_variance_below_zero_is_refused(tmp_path: Path) -> None:
    """Its root would answer every image with no number at all."""
    config = resolve_model("resnet_ti", num_classes=5, image_size=(10, 14))
    Classifier(random_model(config, dtype=torch.float32), PREPROCESS, CLASSES).save(tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights["stem.norm.running_var"][3] = -0.5
    rewrite(tmp_path / "m", weights)
    refuses(tmp_path / "m", "VIT-441", "stem.norm.running_var")


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.bias"] = weights["norm.bias"].to(torch.int32)
    rewrite(folder, weights)
    refuses(folder, "VIT-438", "I32")


def numbers(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["architecture"]["numbers"].update(values)


@pytest.mark.parametrize(
    "how",
    [
        lambda d: d.update(auto_map={"AutoModel": "evil.Model"}),
        lambda d: d["architecture"].update(_target_="os.system"),
        lambda d: d["architecture"].update(name="os.system"),
        lambda d: d["preprocess"].update(code="x"),
        lambda d: d["preprocess"].update(height=11),
        lambda d: d["preprocess"].update(std=[0.5, 0.0, 0.5]),
        lambda d: d.update(temperature=0),
        lambda d: d.update(temperature=float("nan")),
        lambda d: d.update(classes=CLASSES[:4]),
        lambda d: d.update(classes=[*CLASSES[:4], "cat"]),
        lambda d: d.update(classes=[["nested"]] * 5),
        lambda d: d.update(sha256="x"),
        lambda d: d.update(schema=0),
        lambda d: d.pop("classes"),
        numbers(depth=10**9),
        numbers(width=2**31),
        numbers(patch_size=[0, 0]),
        numbers(num_heads=5),
        numbers(image_size=[10**9, 10**9]),
        numbers(num_classes=10**12),
        numbers(ln_eps=float("inf")),
        numbers(evil=1),
        numbers(mlp="os.system"),
        numbers(depth="x" * 2000),
    ],
)
def test_model_json_is_strict(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    change(folder, how)
    refuses(folder, "VIT-434", "model.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b" " * 1_000_001,
        b'{"schema": 1}',
    ],
)
def test_model_json_that_is_no_document(folder: Path, data: bytes) -> None:
    (folder / "model.json").write_bytes(data)
    refuses(folder, "VIT-434", "model.json")


@pytest.mark.parametrize("more", [{}, {"heads": []}])
def test_a_newer_schema_says_update(folder: Path, more: dict[str, Any]) -> None:
    change(folder, lambda d: d.update(schema=2, **more))
    refuses(folder, "VIT-435", "Update vitrail")


def test_the_limit_holds(folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(folder, max_bytes=1000)
    assert caught.value.code == "VIT-436"


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refuses(folder, "VIT-433", name)
    os.mkfifo(folder / name)  # a FIFO would wait for ever
    refuses(folder, "VIT-433", name)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")  # no link is followed
    refuses(folder, "VIT-433", name)


def test_links_of_the_cache_of_the_hub_are_followed_to_its_blobs(
    folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("model.safetensors", "model.json"):
        shutil.copy(folder / name, blobs / f"blob-{name}")
        (snapshot / name).symlink_to(f"../../blobs/blob-{name}")
    assert load(snapshot).classes == load(folder).classes
    (snapshot / "model.json").unlink()
    (snapshot / "model.json").symlink_to(folder / "model.json")
    refuses(snapshot, "VIT-433", "a link")


def test_paths_that_are_no_models(tmp_path: Path) -> None:
    refuses(tmp_path / "absent", "VIT-430")
    refuses(Path("hf:someone"), "VIT-464")
    refuses(Path("vit_b16.something"), "VIT-463")
    refuses(tmp_path, "VIT-431", "runs/NAME")
    for name in ("a.npz", "vit.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(b"\0" * 64)
        refuses(tmp_path / name, "VIT-431", "safetensors")
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    refuses(tmp_path / "a.zip", "VIT-438")


def test_zips_cannot_write_elsewhere_or_grow(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("../../escaped", "x")
        for path in folder.iterdir():
            archive.write(path, "../" + path.name)
    load(target)
    assert not (tmp_path.parent / "escaped").exists()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "model.json", "model.json")
        archive.writestr("model.safetensors", b"\0" * 50_000_000)
    refuses(target, "VIT-436")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a/model.json", "{}")
        archive.writestr("b/model.json", "{}")
    refuses(target, "VIT-433")


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


@pytest.mark.parametrize("key", ["temperature", "classes", "sha256"])
def test_a_key_that_is_there_twice_is_refused(folder: Path, key: str) -> None:
    """Of two values readers take one or the other; nobody can say which was meant."""
    path = folder / "model.json"
    text = path.read_text()
    value = json.dumps(json.loads(text)[key])
    path.write_text(text.replace("{", f'{{"{key}": {value},', 1))
    with pytest.raises(ModelError, match=f"the key '{key}' twice") as caught:
        load(folder)
    assert caught.value.code == "VIT-434"
