"""A hub on this machine: a stand-in for huggingface_hub, and a server for the library itself."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

COMMIT, NEWER = "a" * 40, "b" * 40
CONVERTED = "refs/convert/parquet"


class Hub:
    """A stand-in for huggingface_hub: one repository, and what was asked of it. large: contents
    whose sha256 is stated; stated: that, unless it is the right one.
    """

    def __init__(self, cache: Path, files: Mapping[str, bytes], large: bytes = b"") -> None:
        self.cache, self.files, self.main, self.large = cache, dict(files), COMMIT, large
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.stated = hashlib.sha256(large).hexdigest()
        self.converted: dict[str, bytes] = {}  # of the branch that the hub makes

    def dataset_info(self, name: str, *, revision: str | None, files_metadata: bool) -> Any:
        """As of a model; the branch of converted files has its own."""
        if revision != CONVERTED:
            return self.model_info(name, revision=revision, files_metadata=files_metadata)
        self.files, self.main = self.converted, NEWER
        return self.model_info(name, revision=None, files_metadata=files_metadata)

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
                lfs=SimpleNamespace(sha256=self.stated) if data is self.large else None,
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
        repo_type: str | None = None,
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


def install(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be what `import huggingface_hub` gives."""
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
    library: Any = ModuleType("huggingface_hub")
    library.errors = errors
    library.hf_hub_download = stand_in.hf_hub_download
    library.HfApi = lambda endpoint=None: stand_in
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)


@contextmanager
def serving(files: Mapping[str, bytes], large: str, kind: str = "models") -> Iterator[str]:
    """The address of a server with the parts of the hub's interface that a download uses, for the
    repository a/b. large: the file whose sha256 is stated.
    """
    siblings: list[dict[str, Any]] = []
    for name, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        stated = {"size": len(data), "sha256": sha256, "pointerSize": 100}
        more = {"lfs": stated} if name == large else {}
        siblings.append({"rfilename": name, "size": len(data), **more})
    resolve = f"{'' if kind == 'models' else '/' + kind}/a/b/resolve/{COMMIT}/"

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/{kind}/a/b"):
                info = {"id": "a/b", "modelId": "a/b", "sha": COMMIT, "siblings": siblings}
                self.answer(json.dumps(info).encode(), "application/json")
            elif path.startswith(resolve):
                self.answer(files[path.removeprefix(resolve)], "application/octet-stream")
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
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
