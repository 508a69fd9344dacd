"""`vitrail push`, against a hub on this machine: what is sent is what was shown, and no more."""

from __future__ import annotations

import base64
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

from tests.cli.cli_command import run
from tests.export.exported import classifier_of
from vitrail.checkpoints.hub.hf_upload import files_of, read_token, send
from vitrail.classifier import Classifier
from vitrail.data.sources.examples import FILE as EXAMPLES
from vitrail.errors import EnvironmentFault, ModelError

TOKEN = "hf_" + "x" * 30
SECRET = "hf_secret_in_the_environment"
PLAIN = ["README.md", "model.json", "model.safetensors"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, with what says which images it was trained on and a file of somebody else."""
    folder = tmp_path_factory.mktemp("push") / "model"
    made: Classifier = classifier_of()
    made.save(folder)
    (folder / EXAMPLES).write_bytes(b"digests")
    (folder / "secret.txt").write_text("mine")
    return folder


class HubError(Exception):
    """The library's own."""


class Hub:
    """A stand-in for huggingface_hub."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fault: Exception | None = None
        self.token: str | None = SECRET
        kinds = ("RepositoryNotFoundError", "HfHubHTTPError", "HTTPError")
        self.errors = SimpleNamespace(**{name: type(name, (HubError,), {}) for name in kinds})
        self.CommitOperationAdd = SimpleNamespace

    def HfApi(self, **given: Any) -> Hub:
        self.calls.append(("api", given))
        return self

    def get_token(self) -> str | None:
        return self.token

    def create_repo(self, name: str, *, private: bool | None, exist_ok: bool) -> None:
        self.calls.append(("create", name, private, exist_ok))
        if self.fault:
            raise self.fault

    def create_commit(self, name: str, added: Any, *, commit_message: str) -> Any:
        self.calls.append(("commit", name, [one.path_in_repo for one in added], commit_message))
        return SimpleNamespace(repo_url=SimpleNamespace(url=f"https://hub/{name}"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """In the place of the library."""
    made = Hub()
    module: Any = ModuleType("huggingface_hub")
    for name in ("HfApi", "CommitOperationAdd", "get_token", "errors"):
        setattr(module, name, getattr(made, name))
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", made.errors)
    return made


def test_a_dry_run_shows_the_files_and_sends_nothing(model: Path, hub: Hub) -> None:
    done = run("push", model, "me/flowers", "--dry-run", "--json")
    assert done.code == 0, done.err
    record = done.document
    assert (record["repository"], record["sent"], hub.calls) == ("me/flowers", False, [])
    assert [one["name"] for one in record["files"]] == PLAIN
    for one in record["files"]:
        content = (model / one["name"]).read_bytes()
        assert (one["bytes"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert "model.safetensors" in run("push", model, "me/flowers", "--dry-run").out


def test_nothing_is_sent_where_nobody_agreed(model: Path, hub: Hub) -> None:
    done = run("push", model, "me/flowers")
    assert (done.code, "VIT-299" in done.err, hub.calls) == (2, True, [])
    assert "model.safetensors" in done.err


def test_yes_sends_what_was_shown(model: Path, hub: Hub) -> None:
    done = run("push", model, "me/flowers", "--yes", "--private", "--json")
    assert done.code == 0, done.err
    assert done.document["url"] == "https://hub/me/flowers"
    assert done.document["sent"] is True
    (_, given), create, commit = hub.calls
    assert given["token"] == SECRET
    assert create == ("create", "me/flowers", True, True)
    assert commit[2] == PLAIN
    assert SECRET not in done.out + done.err


def test_an_answer_at_the_prompt(model: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.cli.display.output import Output
    from vitrail.cli.verbs.push import require_consent
    from vitrail.errors import UsageError

    said = SimpleNamespace(isatty=lambda: True, write=lambda _: None, flush=lambda: None)
    for answer, agreed in (("y\n", True), ("\n", False), ("no\n", False), ("", False)):
        asked = SimpleNamespace(isatty=lambda: True, readline=lambda answer=answer: answer)
        monkeypatch.setattr(sys, "stdin", asked)
        monkeypatch.setattr(sys, "stderr", said)
        if agreed:
            require_consent(Output())
        else:
            with pytest.raises(UsageError, match="nothing was sent"):
                require_consent(Output())


def test_the_token_comes_from_a_file_that_others_cannot_read(
    model: Path, hub: Hub, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert run("push", model, "me/flowers", "--yes", "--token-file", file).code == 0
    assert hub.calls[0][1]["token"] == TOKEN
    file.chmod(0o644)
    with pytest.raises(EnvironmentFault, match="read by others") as caught:
        read_token(file)
    assert caught.value.code == "VIT-526"
    file.unlink()
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        read_token(file)
    file.touch(mode=0o600)
    with pytest.raises(EnvironmentFault, match="no token"):
        read_token(file)
    hub.token = None
    with pytest.raises(EnvironmentFault, match="no token"):
        read_token(None)


@pytest.mark.parametrize(
    ("name", "code"),
    [("RepositoryNotFoundError", "VIT-465"), ("HfHubHTTPError", "VIT-531")],
)
def test_what_the_hub_refuses(model: Path, hub: Hub, name: str, code: str) -> None:
    hub.fault = getattr(hub.errors, name)("403 Forbidden")
    done = run("push", model, "me/flowers", "--yes")
    assert code in done.err
    assert done.code == int(code[4])


def test_names_that_are_no_repository(model: Path, hub: Hub) -> None:
    assert "VIT-464" in run("push", model, "flowers", "--yes").err
    assert "VIT-202" in run("push", model, "me/flowers@main", "--yes").err
    assert hub.calls == []


def test_what_is_no_model_of_ours(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError) as caught:
        files_of(tmp_path)
    assert caught.value.code == "VIT-446"


def test_a_link_in_the_folder_is_not_followed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    (tmp_path / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError) as caught:
        files_of(tmp_path)
    assert caught.value.code == "VIT-446"


@pytest.mark.slow
def test_a_run_is_sent_with_its_export(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from tests.export.exported import coloured_digits
    from vitrail.export.export_model import export_model
    from vitrail.export.huggingface_layout import HUGGINGFACE

    made = classifier_of(image_size=(16, 16))
    made.save(tmp_path / "model")
    export_model(made, tmp_path / "export", coloured_digits(made), layout=HUGGINGFACE)
    found = {one.name: one.path for one in files_of(tmp_path)}
    assert found["model.safetensors"] == tmp_path / "model/model.safetensors"
    assert found["README.md"] == tmp_path / "export/README.md"
    assert {"onnx/model.onnx", "config.json", "preprocessor_config.json"} <= set(found)
    assert {"model.onnx", "export.json"} <= set(found)
    classifier_of(image_size=(16, 16), layer_scale=0.1).save(tmp_path / "model", replace=True)
    with pytest.raises(ModelError) as caught:
        files_of(tmp_path)
    assert caught.value.code == "VIT-472"


class _Answers(BaseHTTPRequestHandler):
    """The routes of the hub that a commit of small files needs."""

    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        base = f"http://127.0.0.1:{self.server.server_port}"
        answer: dict[str, Any] = {"errors": [], "warnings": []}
        if self.path.endswith("/repos/create"):
            answer = {"url": f"{base}/me/flowers", "name": "me/flowers", "id": "me/flowers"}
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            answer = {"files": [{"path": name, **modes} for name in names]}
        elif "/commit/" in self.path:
            answer = {"commitUrl": f"{base}/me/flowers/commit/{'a' * 40}", "commitOid": "a" * 40}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, str | None, bytes]] = []


@pytest.fixture
def endpoint() -> Iterator[_Server]:
    """A hub on the loopback."""
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_the_library_itself_sends_every_byte(model: Path, endpoint: _Server) -> None:
    pytest.importorskip("huggingface_hub")
    address = f"http://127.0.0.1:{endpoint.server_port}"
    files = files_of(model)
    send(files, "me/flowers", TOKEN, private=True, endpoint=address)
    assert {auth for _, auth, _ in endpoint.asked} <= {f"Bearer {TOKEN}", None}
    create = next(body for path, _, body in endpoint.asked if path.endswith("/repos/create"))
    made = json.loads(create)
    assert (made["organization"], made["name"]) == ("me", "flowers")
    assert made.get("private") is True or made.get("visibility") == "private"
    (commit,) = [body for path, _, body in endpoint.asked if "/commit/" in path]
    lines = [json.loads(line) for line in commit.splitlines()]
    sent = {
        one["value"]["path"]: base64.b64decode(one["value"]["content"])
        for one in lines
        if one["key"] == "file"
    }
    assert sent == {one.name: one.path.read_bytes() for one in files}
