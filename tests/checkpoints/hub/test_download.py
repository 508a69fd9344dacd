"""Downloads against a server on this machine: whole, cut, continued, wrong, refused, at once."""

from __future__ import annotations

import hashlib
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vitrail.checkpoints.hub import download as module
from vitrail.checkpoints.hub.download import (
    DownloadRequest,
    cache_dir,
    cached_path,
    download,
    verify,
)
from vitrail.errors import EnvironmentFault, ModelError, VitrailError

BODY = bytes(i * i % 251 for i in range(3_000_017))  # a prime number of bytes, three pieces
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Site:
    """What the server answers. cut: bytes of a body after which the connection ends, by request."""

    body: bytes = BODY
    etag: str = '"v1"'
    status: int = 200
    cut: list[int | None] = field(default_factory=list)
    location: str = ""
    has_ranges: bool = True
    has_length: bool = True
    shift: int = 0  # bytes by which an answered range starts elsewhere
    before: Callable[[], None] = lambda: None
    seen: list[dict[str, str]] = field(default_factory=list)


class Server(NamedTuple):
    """A running server."""

    site: Site
    address: str


def handler_of(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            site.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            site.before()
            if site.location and self.path == "/file.npz":
                self.send_response(302)
                self.send_header("Location", site.location)
                self.end_headers()
                return
            if site.status != 200:
                self.send_error(site.status)
                return
            start = self.start_of_range()
            body = site.body[start:]
            self.send_response(206 if start else 200)
            if start:
                first, last = start + site.shift, len(site.body) - 1
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(site.body)}")
            if site.has_length:
                self.send_header("Content-Length", str(len(body)))
            if site.etag:
                self.send_header("ETag", site.etag)
            self.end_headers()
            cut = site.cut.pop(0) if site.cut else None
            self.wfile.write(body[:cut])

        def start_of_range(self) -> int:
            asked = self.headers.get("Range", "")
            if not (site.has_ranges and asked and self.headers.get("If-Range") == site.etag):
                return 0
            return int(asked.removeprefix("bytes=").removesuffix("-"))

    return Handler


class Quiet(ThreadingHTTPServer):
    """A client that goes away early is what the tests want, no reason for a traceback."""

    def handle_error(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of one file; the environment has no proxies, waiting takes no time."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(module, "PAUSE_SECS", 0.0)
    site = Site()
    http = Quiet(("127.0.0.1", 0), handler_of(site))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Server(site, f"http://127.0.0.1:{http.server_port}/file.npz")
    http.shutdown()
    thread.join()
    http.server_close()


def get(server: Server, target: Path, **wanted: Any) -> Path:
    return download(DownloadRequest(server.address, loopback=True, **wanted), target)


def fault(server: Server, target: Path, **wanted: Any) -> VitrailError:
    with pytest.raises((EnvironmentFault, ModelError)) as caught:
        get(server, target, **wanted)
    assert not target.exists()
    return caught.value


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    target = tmp_path / "deep" / "file.npz"
    download(
        DownloadRequest(server.address, SHA256, loopback=True),
        target,
        progress=lambda *a: told.append(a),
    )
    assert target.read_bytes() == BODY
    assert names(target.parent) == {"file.npz", "file.npz.sha256", "file.npz.lock"}
    assert (tmp_path / "deep/file.npz.sha256").read_text() == f"{SHA256}  file.npz\n"
    assert told[0] == ("downloading file.npz", 0, len(BODY))
    assert told[-1] == ("downloading file.npz", len(BODY), len(BODY))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert verify(target) == SHA256


def test_what_is_there_needs_no_server(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.npz"
    target.write_bytes(b"already here")
    assert get(server, target) == target
    assert server.site.seen == []


def test_continues_after_a_cut_connection(server: Server, tmp_path: Path) -> None:
    server.site.cut = [1_234_567, 765_433]
    assert get(server, tmp_path / "file.npz", sha256=SHA256[:8]).read_bytes() == BODY
    ranges = [request.get("range") for request in server.site.seen]
    assert ranges == [None, "bytes=1234567-", "bytes=2000000-"]
    assert server.site.seen[1]["if-range"] == '"v1"'


def test_continues_in_another_call(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    server.site.cut = [2_000_003]
    error = fault(server, tmp_path / "file.npz")
    assert error.code == "VIT-533"
    assert "2000003 bytes are kept" in error.message
    assert "continues" in error.hint
    assert get(server, tmp_path / "file.npz").read_bytes() == BODY
    assert server.site.seen[-1]["range"] == "bytes=2000003-"


def test_another_file_by_now_starts_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    server.site.cut = [1_000_003]
    fault(server, tmp_path / "file.npz")
    server.site.etag, server.site.body = '"v2"', BODY[::-1]
    assert get(server, tmp_path / "file.npz").read_bytes() == BODY[::-1]
    assert server.site.seen[-1]["range"] == "bytes=1000003-"


@pytest.mark.parametrize(("etag", "ranges"), [('W/"v1"', True), ("", True), ('"v1"', False)])
def test_a_server_that_cannot_continue(
    server: Server, tmp_path: Path, etag: str, ranges: bool
) -> None:
    server.site.etag, server.site.has_ranges, server.site.cut = etag, ranges, [1_000_003]
    assert get(server, tmp_path / "file.npz").read_bytes() == BODY
    assert ("range" in server.site.seen[1]) is (etag == '"v1"')


def test_a_shifted_range_is_not_glued_on(server: Server, tmp_path: Path) -> None:
    server.site.cut, server.site.shift = [1_000_003], 7
    error = fault(server, tmp_path / "file.npz")
    assert error.code == "VIT-533"
    assert "another range" in error.message


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.npz.part").write_bytes(BODY + b"more")
    (tmp_path / "file.npz.etag").write_text('"v1"')
    assert get(server, tmp_path / "file.npz").read_bytes() == BODY


def test_always_cut(server: Server, tmp_path: Path) -> None:
    server.site.cut = [0] * 9
    error = fault(server, tmp_path / "file.npz")
    assert error.code == "VIT-533"
    assert f"0 of {len(BODY)} bytes came" in error.message
    assert len(server.site.seen) == module.ATTEMPTS


def test_without_a_length(server: Server, tmp_path: Path) -> None:
    server.site.has_length = False
    assert get(server, tmp_path / "file.npz").read_bytes() == BODY


def test_wrong_sha256(server: Server, tmp_path: Path) -> None:
    error = fault(server, tmp_path / "file.npz", sha256="0123abcd")
    assert error.code == "VIT-461"
    assert "0123abcd of the catalogue" in error.message
    assert SHA256 in error.message
    assert names(tmp_path) == {"file.npz.lock"}  # nothing of a wrong file is kept


def test_a_later_download_must_equal_the_first(server: Server, tmp_path: Path) -> None:
    target = get(server, tmp_path / "file.npz")
    target.unlink()
    server.site.body, server.site.etag = BODY + b"!", '"v2"'
    error = fault(server, target)
    assert error.code == "VIT-461"
    assert SHA256 in error.message
    assert "file.npz.sha256" in error.hint
    (tmp_path / "file.npz.sha256").unlink()  # what the hint says
    assert get(server, target).read_bytes() == BODY + b"!"


def test_verify_finds_damage(server: Server, tmp_path: Path) -> None:
    target = get(server, tmp_path / "file.npz")
    target.write_bytes(BODY[:-1])
    with pytest.raises(ModelError) as caught:
        verify(target)
    assert caught.value.code == "VIT-461"


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [(404, "VIT-460", 1), (403, "VIT-460", 1), (401, "VIT-531", 1), (503, "VIT-533", 5)],
)
def test_refusals_of_the_server(
    server: Server, tmp_path: Path, status: int, code: str, requests: int
) -> None:
    server.site.status = status
    error = fault(server, tmp_path / "file.npz")
    assert error.code == code
    assert server.address in error.message
    assert str(status) in error.message
    assert len(server.site.seen) == requests


@pytest.mark.parametrize(
    "location",
    [
        "https://example.com/file.npz",
        "http://192.0.2.1/file.npz",
        "https://storage.googleapis.com@example.com/file.npz",
        "https://storage.googleapis.com:8443/file.npz",
        "file:///etc/passwd",
        "ftp://storage.googleapis.com/file.npz",
        "/file.npz",  # in a circle
    ],
)
def test_redirects_elsewhere_are_refused(server: Server, tmp_path: Path, location: str) -> None:
    server.site.location = location
    assert fault(server, tmp_path / "file.npz").code == "VIT-532"


def test_a_redirect_on_the_same_host_is_followed(server: Server, tmp_path: Path) -> None:
    server.site.location, server.site.cut = "/other.npz", [1_000_003]
    assert get(server, tmp_path / "file.npz").read_bytes() == BODY
    assert server.site.seen[-1]["path"] == "/other.npz"
    assert server.site.seen[-1]["range"] == "bytes=1000003-"


@pytest.mark.parametrize(
    "address",
    [
        "http://storage.googleapis.com/a.npz",
        "https://example.com/a.npz",
        "https://storage.googleapis.com.example.com/a.npz",
        "https://user@storage.googleapis.com/a.npz",
        "file:///etc/passwd",
    ],
)
def test_addresses_that_are_not_allowed(tmp_path: Path, address: str) -> None:
    for loopback in (False, True):
        with pytest.raises(EnvironmentFault) as caught:
            download(DownloadRequest(address, loopback=loopback), tmp_path / "a.npz")
        assert caught.value.code == "VIT-532"
    assert names(tmp_path) == set()


def test_plain_http_to_this_machine_needs_the_argument(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="expected https"):
        download(DownloadRequest(server.address), tmp_path / "file.npz")
    assert server.site.seen == []


def test_offline(tmp_path: Path, server: Server) -> None:
    port = server.address.rsplit(":", 1)[1].split("/")[0]
    gone = Server(server.site, server.address.replace(port, "1"))  # nobody listens there
    error = fault(gone, tmp_path / "file.npz")
    assert error.code == "VIT-530"
    assert gone.address in error.message
    assert "by hand" in error.hint


def test_proxies_of_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address.removesuffix("/file.npz"))
    direct = "http://localhost:1/through.npz"
    download(DownloadRequest(direct, loopback=True), tmp_path / "through.npz")
    assert server.site.seen[0]["path"] == direct


@pytest.mark.parametrize("has_length", [True, False])
def test_too_large(server: Server, tmp_path: Path, has_length: bool) -> None:
    server.site.has_length = has_length
    error = fault(server, tmp_path / "file.npz", max_bytes=2_000_003)
    assert error.code == "VIT-534"
    assert "limit 2000003" in error.message
    assert names(tmp_path) == {"file.npz.lock"}


def test_too_little_room_is_seen_before_a_byte_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=len(BODY))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    error = fault(server, tmp_path / "file.npz")
    assert error.code == "VIT-535"
    assert f"{len(BODY)} bytes are needed" in error.message
    assert "XDG_CACHE_HOME" in error.hint
    assert "file.npz.part" not in names(tmp_path)


def test_a_disk_that_fills_up_keeps_what_came(server: Server, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, hard))  # write() fails beyond
    try:
        error = fault(server, tmp_path / "file.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.code == "VIT-535"
    assert (tmp_path / "file.npz.part").stat().st_size > 2_000_000
    assert get(server, tmp_path / "file.npz", sha256=SHA256).read_bytes() == BODY


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    target, said = tmp_path / "file.npz", threading.Event()
    first_asks, waiting = threading.Event(), threading.Event()

    def hold() -> None:
        first_asks.set()
        assert waiting.wait(10)

    def told(what: str, done: int, total: int | None) -> None:
        if what.startswith("waiting"):
            said.set()
            waiting.set()

    server.site.before = hold
    wanted = DownloadRequest(server.address, loopback=True)
    one = threading.Thread(target=download, args=(wanted, target))
    one.start()
    assert first_asks.wait(10)
    two = threading.Thread(target=download, args=(wanted, target), kwargs={"progress": told})
    two.start()
    for thread in (one, two):
        thread.join(10)
    assert said.is_set()
    assert len(server.site.seen) == 1
    assert target.read_bytes() == BODY


def test_the_usual_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "vitrail" / "weights"
    place = cached_path("https://storage.googleapis.com/vit_models/sam/ViT-B_16.npz")
    assert place == cache_dir() / "storage.googleapis.com/vit_models/sam/ViT-B_16.npz"
    for value in ("", "relative"):  # the standard: a path that is not absolute is ignored
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_dir() == Path.home() / ".cache/vitrail/weights"
