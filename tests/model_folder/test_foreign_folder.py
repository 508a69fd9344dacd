"""Model folders of other people: no code of theirs runs, and what does not fit is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.model_folder.classifiers import (
    CLASSES,
    PREPROCESS,
    change,
    refuses,
    reseal,
    rewrite,
)
from tests.models.check_model import random_model
from vitrail.classifier import Classifier, load
from vitrail.errors import ModelError
from vitrail.model_folder import bundle
from vitrail.models.names import resolve_model
from vitrail.system.pickle_process import CHILD


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
    import_module("encodings.cp437")  # names in a zip
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
