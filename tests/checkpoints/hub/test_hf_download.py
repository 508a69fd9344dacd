"""`hf:` names, against a hub on this machine: with a stand-in for huggingface_hub in the default
suite, and with the library itself where it is installed (parity).
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vitrail.checkpoints.hub.hf_download import Repository, fetch, parse_repository
from vitrail.checkpoints.hub.resolve import resolve_weights
from vitrail.errors import EnvironmentFault, ModelError

COMMIT, NEWER = "a" * 40, "b" * 40
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


class Hub:
    """A stand-in for huggingface_hub: one repository, and what was asked of it."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.files, self.main = cache, dict(FILES), COMMIT
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.stated = hashlib.sha256(WEIGHTS).hexdigest()

    def model_info(
        self, name: str, *, revision: str | None, files_metadata: bool
    ) -> SimpleNamespace:
        self.asked.append(f"info {name} {revision}")
        if self.fault:
            raise self.fault
        siblings = [
            SimpleNamespace(
                rfilename=file,
                size=len(data),
                lfs=SimpleNamespace(sha256=self.stated) if data is WEIGHTS else None,
            )
            for file, data in self.files.items()
        ]
        commit = revision if revision and len(revision) == 40 else self.main
        return SimpleNamespace(sha=commit, siblings=siblings)

    def hf_hub_download(
        self,
        name: str,
        file: str,
        *,
        revision: str,
        local_files_only: bool = False,
        endpoint: str | None = None,
        tqdm_class: Any = None,
    ) -> str:
        path = self.cache / name / revision / file
        if local_files_only:
            if not path.is_file():
                raise sys.modules["huggingface_hub.errors"].LocalEntryNotFoundError(str(path))
            return str(path)
        self.asked.append(f"file {file} {revision}")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.files[file]
        with tqdm_class(total=len(data), initial=0, unit="B", desc=file) as bar:
            bar.update(len(data) // 2)
            bar.update(len(data) - len(data) // 2)
        path.write_bytes(data)
        return str(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The stand-in, installed; the cache is below tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    errors: Any = ModuleType("huggingface_hub.errors")

    class HTTPError(Exception):
        pass

    class HfHubHTTPError(HTTPError, OSError):
        pass

    class RepositoryNotFoundError(HfHubHTTPError):
        pass

    class GatedRepoError(RepositoryNotFoundError):
        pass

    class RevisionNotFoundError(HfHubHTTPError):
        pass

    class LocalEntryNotFoundError(FileNotFoundError):
        pass

    for kind in (
        HTTPError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        GatedRepoError,
        RevisionNotFoundError,
        LocalEntryNotFoundError,
    ):
        setattr(errors, kind.__name__, kind)
    stand_in = Hub(tmp_path / "hf")
    library: Any = ModuleType("huggingface_hub")
    library.errors = errors
    library.hf_hub_download = stand_in.hf_hub_download
    library.HfApi = lambda endpoint=None: stand_in
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
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
    """The parts of the hub's interface that a download uses, for the repository a/b."""
    siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
    siblings[2]["lfs"] = {
        "size": len(WEIGHTS),
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "pointerSize": 100,
    }

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith("/api/models/a/b"):
                info = {"id": "a/b", "modelId": "a/b", "sha": COMMIT, "siblings": siblings}
                self.answer(json.dumps(info).encode(), "application/json")
            elif path.startswith(f"/a/b/resolve/{COMMIT}/"):
                self.answer(FILES[path.rsplit("/", 1)[1]], "application/octet-stream")
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


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
