"""`hf:` names, against a hub on this machine: with a stand-in for huggingface_hub in the default
suite, and with the library itself where it is installed (parity).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints.hub.fake_hub import COMMIT, NEWER, Hub, install, serving
from vitrail.checkpoints.hub.hf_download import Repository, fetch, parse_repository
from vitrail.checkpoints.hub.resolve import resolve_weights
from vitrail.errors import EnvironmentFault, ModelError

WEIGHTS = bytes(range(251)) * 1009
FILES = {
    "config.json": b'{"model_type": "vit"}',
    "preprocessor_config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"raise SystemExit",
}
TAKEN = ["config.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("google/vit-base-patch16-224", Repository("google/vit-base-patch16-224")),
        ("timm/a_b.c@main", Repository("timm/a_b.c", "main")),
        (f"a/b@{COMMIT}", Repository("a/b", COMMIT)),
    ],
)
def test_names(text: str, repository: Repository) -> None:
    assert parse_repository(text) == repository
    assert str(repository) == f"hf:{text}"


@pytest.mark.parametrize(
    "text", ["", "vit", "a/b/c", "../b", "a/..", "/a", "a/b@", "a/b@../c", "a b/c", "https://x/y"]
)
def test_wrong_names(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_weights(f"hf:{text}")
    assert caught.value.code == "VIT-464"
    assert "OWNER/NAME" in caught.value.message


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The stand-in, installed; the cache is below tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stand_in = Hub(tmp_path / "hf", FILES, WEIGHTS)
    install(stand_in, monkeypatch)
    return stand_in


def test_takes_configuration_and_weights_but_no_code(hub: Hub) -> None:
    told: list[tuple[str, int, int | None]] = []
    folder = resolve_weights("hf:a/b", progress=lambda *event: told.append(event))
    assert sorted(path.name for path in folder.iterdir()) == sorted(TAKEN)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert told[-1] == ("downloading model.safetensors", len(WEIGHTS), len(WEIGHTS))
    assert ("downloading model.safetensors", len(WEIGHTS) // 2, len(WEIGHTS)) in told


def test_the_second_use_is_the_same_commit_and_asks_nobody(hub: Hub) -> None:
    folder = resolve_weights("hf:a/b")
    hub.asked.clear()
    hub.main = NEWER
    assert resolve_weights("hf:a/b") == folder
    assert hub.asked == []
    (folder / "model.safetensors").unlink()  # a cache that was cleaned
    assert resolve_weights("hf:a/b") == folder
    assert hub.asked[0] == f"info a/b {COMMIT}"
    assert resolve_weights("hf:a/b@main").name == NEWER  # asks anew
    assert resolve_weights("hf:a/b").name == COMMIT
    assert resolve_weights(f"hf:a/b@{NEWER}").name == NEWER


def test_a_note_that_was_tampered_with_is_not_used(hub: Hub, tmp_path: Path) -> None:
    resolve_weights("hf:a/b")
    note = tmp_path / "cache/vitrail/weights/hub/a--b.json"
    assert json.loads(note.read_text()) == {"commit": COMMIT, "files": TAKEN}
    for text in ("", "[]", '{"commit": "x", "files": []}', '{"commit": 1, "files": ["../a"]}'):
        note.write_text(text)
        hub.asked.clear()
        resolve_weights("hf:a/b")
        assert hub.asked[0] == "info a/b None"


def test_shards(hub: Hub) -> None:
    hub.files = {"config.json": b"{}", "model.safetensors.index.json": b"{}", "flax.msgpack": b""}
    hub.files |= {f"model-0000{i}-of-00002.safetensors": b"part" for i in (1, 2)}
    assert len(list(resolve_weights("hf:a/b").iterdir())) == 4


def test_pickles_in_parts(hub: Hub) -> None:
    hub.files = {"config.json": b"{}", "pytorch_model.bin.index.json": b"{}"}
    hub.files |= {f"pytorch_model-0000{i}-of-00002.bin": b"part" for i in (1, 2)}
    assert len(list(resolve_weights("hf:a/b").iterdir())) == 4


def test_an_adapter(hub: Hub) -> None:
    hub.files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b""}
    with pytest.raises(ModelError, match="merge_and_unload"):
        resolve_weights("hf:a/b")


def test_pickles_only_where_there_is_nothing_else(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    assert "pytorch_model.bin" in {path.name for path in resolve_weights("hf:a/b").iterdir()}


def test_no_weights(hub: Hub) -> None:
    hub.files = {"README.md": b"", "model.onnx": b""}
    with pytest.raises(ModelError) as caught:
        resolve_weights("hf:a/b")
    assert caught.value.code == "VIT-466"
    assert "README.md, model.onnx" in caught.value.message


def test_wrong_sha256(hub: Hub) -> None:
    hub.stated = "0" * 64
    with pytest.raises(ModelError) as caught:
        resolve_weights("hf:a/b")
    assert caught.value.code == "VIT-461"
    assert "0" * 64 in caught.value.message


def test_too_large(hub: Hub) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        fetch(Repository("a/b"), max_bytes=len(WEIGHTS))
    assert caught.value.code == "VIT-534"
    assert hub.asked == ["info a/b None"]  # seen before a file is asked for


@pytest.mark.parametrize(
    ("kind", "code", "part"),
    [
        ("RepositoryNotFoundError", "VIT-465", "does not exist, or is private"),
        ("GatedRepoError", "VIT-465", "accept its conditions"),
        ("RevisionNotFoundError", "VIT-465", "does not exist"),
        ("HfHubHTTPError", "VIT-531", "500 Server Error"),
        ("HTTPError", "VIT-530", "no connection"),
        ("LocalEntryNotFoundError", "VIT-530", "no connection"),
    ],
)
def test_faults(hub: Hub, kind: str, code: str, part: str) -> None:
    hub.fault = getattr(sys.modules["huggingface_hub.errors"], kind)("500 Server Error\nmore")
    with pytest.raises((ModelError, EnvironmentFault)) as caught:
        resolve_weights("hf:a/b")
    assert caught.value.code == code
    assert part in caught.value.message
    assert "more" not in caught.value.message
    assert caught.value.hint


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentFault) as caught:
        resolve_weights("hf:a/b")
    assert caught.value.code == "VIT-520"
    assert "huggingface_hub" in caught.value.hint


@pytest.fixture
def local_hub() -> Iterator[str]:
    """A server of the repository a/b."""
    with serving(FILES, "model.safetensors") as address:
        yield address


@pytest.mark.parity
def test_the_library_itself(
    local_hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    told: list[tuple[str, int, int | None]] = []
    folder = fetch(
        Repository("a/b"), progress=lambda *event: told.append(event), endpoint=local_hub
    )
    assert folder == tmp_path / "hf/models--a--b/snapshots" / COMMIT
    assert sorted(path.name for path in folder.iterdir()) == sorted(TAKEN)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert told[-1] == ("downloading model.safetensors", len(WEIGHTS), len(WEIGHTS))
    assert fetch(Repository("a/b"), endpoint="http://127.0.0.1:1") == folder  # no network
    with pytest.raises(ModelError) as closed:
        fetch(Repository("a/none"), endpoint=local_hub)
    assert closed.value.code == "VIT-465"
    with pytest.raises(EnvironmentFault) as offline:
        fetch(Repository("a/b", "main"), endpoint="http://127.0.0.1:1")
    assert offline.value.code == "VIT-530"
