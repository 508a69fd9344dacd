"""What is refused: with the right status, a code of docs/errors.md, and without harm to others."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.serve.running import Answer, Running, Slow, png, running, some_pixels, some_png
from vitrail.errors import EnvironmentFault, UsageError
from vitrail.serve.limits import Limits, check_exposure, read_token

ROOM = Limits(queue=4, batch=2, max_body=50_000, queue_bytes=200_000, body_secs=1.0)
TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=ROOM, hosts=["photos.example"]) as found:
        yield found


def refusal(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """The problem of an answer."""
    assert (answer.status, answer.json["code"]) == (status, code), answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.json["status"] == status
    found: dict[str, Any] = answer.json
    return found


def raw(server: Running, text: bytes, secs: float = 20.0) -> bytes:
    """What comes back for these bytes, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=secs) as link:
        link.sendall(text)
        parts = []
        while part := link.recv(65536):
            parts.append(part)
        return b"".join(parts)


def head(*lines: str, path: str = "/v1/classify") -> bytes:
    """The head of a POST request."""
    given = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: image/png", *lines]
    return "\r\n".join([*given, "", ""]).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "VIT-910"),
        (b"[]", "VIT-910"),
        (b'{"inputs": 3}', "VIT-910"),
        (b'{"inputs": []}', "VIT-910"),
        (b'{"inputs": "http://localhost/a.png"}', "VIT-910"),
        (b'{"inputs": "QUFB", "url": "x"}', "VIT-910"),
        (b'{"inputs": "QUFB", "parameters": {"k": 1}}', "VIT-910"),
        (b"[" * 40_000, "VIT-910"),
        (b'{"inputs": "\xff"}', "VIT-910"),
    ],
)
def test_malformed_documents(server: Running, body: bytes, code: str) -> None:
    refusal(server.ask("POST", "/v1/classify", body, "application/json"), 400, code)


@pytest.mark.parametrize("top", ["0", "-1", "x", "1e3", "999999999999", "%C2%B2"])
def test_top_out_of_range(server: Running, top: str) -> None:
    refusal(server.classify(some_png(), f"?top={top}"), 422, "VIT-202")


@pytest.mark.parametrize("data", [b"x", b"<svg/>", some_png()[:50], some_png()[:33]])
def test_what_is_no_image(server: Running, data: bytes) -> None:
    assert refusal(server.classify(data), 422, "VIT-330")["detail"]


def test_kinds_and_sizes(server: Running) -> None:
    answer = server.ask("POST", "/v1/classify", b"a=b", "application/x-www-form-urlencoded")
    refusal(answer, 415, "VIT-915")
    refusal(
        server.ask("POST", "/v1/classify", b"a", "multipart/form-data; boundary=x"), 415, "VIT-915"
    )
    refusal(server.classify(b"x", Content_Encoding="gzip"), 415, "VIT-915")
    refusal(server.classify(b"x" * 50_001), 413, "VIT-915")
    assert b" 411 " in raw(server, head("Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n")
    assert b" 400 " in raw(server, head("Content-Length: -5"))
    assert b" 400 " in raw(server, head("Content-Length: 5", "Content-Length: 6"))
    assert b" 413 " in raw(server, head("Content-Length: 9999999999999999999"))
    many = {"inputs": ["QUFB"] * 5}
    refusal(server.document(many), 413, "VIT-915")


def test_paths_methods_and_names(server: Running) -> None:
    for path in ("/nothing", "/v1/..%2f..%2fetc/passwd", "/v1/classify/", "/%00", "/" + "a" * 8000):
        refusal(server.ask("GET", path), 404, "VIT-915")
    answer = server.ask("GET", "/v1/classify")
    refusal(answer, 405, "VIT-915")
    assert answer.headers["allow"] == "POST"
    for name in ("m9", "..%2fm0", "m0%00", "M0", "%E2%80%AE0m"):
        refusal(server.classify(some_png(), f"?model={name}"), 404, "VIT-915")


def test_hosts(server: Running) -> None:
    for name in ("evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:80"):
        refusal(server.ask("GET", "/v1/models", Host=name), 421, "VIT-915")
    for name in ("localhost:1", "127.0.0.1", "[::1]:8000", "photos.example", "10.1.2.3:80"):
        assert server.ask("GET", "/v1/models", Host=name).status == 200


def test_headers_of_every_answer(server: Running) -> None:
    for path in ("/v1/models", "/nothing"):
        answer = server.ask("GET", path, Origin="https://evil.example", X_Request_Id="abc-1")
        assert answer.headers["x-request-id"] == "abc-1"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    assert server.ask("GET", "/nothing", X_Request_Id="a b").headers["x-request-id"] != "a b"


def test_bombs_and_odd_images(server: Running) -> None:
    """A file that declares more pixels than allowed is refused before they are made."""
    wide = png(some_pixels(height=1, width=1))
    bomb = wide[:16] + (60_000).to_bytes(4, "big") * 2 + wide[24:]
    refusal(server.classify(bomb), 422, "VIT-330")
    assert server.classify(wide).status == 200


@pytest.mark.promise("S3")
def test_a_slow_body_takes_no_room_from_others(server: Running) -> None:
    links = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(50)]
    try:
        for link in links:
            link.sendall(head("Content-Length: 50000") + b"x")
        server.wait(lambda: server.metric("vitrail_queue_bytes") == 50)
        assert server.classify(some_png()).status == 200
        answers = [link.recv(65536) for link in links]
        assert all(b" 408 " in answer for answer in answers)
    finally:
        for link in links:
            link.close()
    server.wait(lambda: server.metric("vitrail_queue_bytes") == 0)


def test_a_half_sent_body_is_forgotten(server: Running) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            link.sendall(head("Content-Length: 1000") + b"x" * 500)
    server.wait(lambda: server.metric("vitrail_queue_bytes") == 0)
    assert server.classify(some_png()).status == 200


def test_many_headers_are_refused(server: Running) -> None:
    lines = [f"X-{number}: {'a' * 50}" for number in range(10_000)]
    with suppress(ConnectionResetError):  # it ends before it has read them all
        assert b" 200 " not in raw(server, head(*lines))
    assert server.ask("GET", "/v2/health/ready").status == 200


@pytest.mark.promise("S2")
def test_a_decoder_that_dies_is_replaced(server: Running) -> None:
    before = server.service.decoder_pids
    os.kill(before[0], signal.SIGKILL)
    answers = [server.classify(some_png(seed)) for seed in range(3)]
    assert [one.status for one in answers[1:]] == [200, 200]
    refusal(answers[0], 422, "VIT-330")
    assert server.service.decoder_pids != before
    assert server.metric("vitrail_decoder_restarts_total") == 1


@pytest.mark.promise("S1")
def test_more_than_the_queue_holds_is_refused_at_once() -> None:
    slow = Slow()
    with running(slow, limits=ROOM) as server, ThreadPoolExecutor(4) as clients:
        slow.go.clear()
        accepted = [clients.submit(server.classify, some_png(seed)) for seed in range(4)]
        server.wait(lambda: server.metric("vitrail_queue_images") == 4)
        began = time.monotonic()
        answer = server.classify(some_png(9))
        took = time.monotonic() - began
        refusal(answer, 503, "VIT-911")
        assert int(answer.headers["retry-after"]) >= 1
        assert server.ask("GET", "/v2/health/ready").status == 200
        slow.go.set()
        assert [one.result().status for one in accepted] == [200] * 4
        assert took < 2.0
        assert server.classify(some_png(9)).status == 200
        assert server.metric('vitrail_refused_total{reason="images"}') == 1


@pytest.mark.promise("S7")
def test_what_nobody_waits_for_is_not_computed() -> None:
    slow = Slow()
    limits = Limits(batch=1, queue=8, deadline_ms=1000)
    with running(slow, limits=limits) as server, ThreadPoolExecutor(4) as clients:
        slow.go.clear()
        slow.batches.clear()
        late = [clients.submit(server.classify, some_png(seed)) for seed in range(3)]
        for one in late:
            refusal(one.result(), 504, "VIT-914")
        with socket.create_connection(("127.0.0.1", server.port)) as link:  # and leaves
            body = some_png(5)
            link.sendall(head(f"Content-Length: {len(body)}") + body)
            server.wait(lambda: server.metric("vitrail_queue_images") == 1)
        server.wait(lambda: server.metric("vitrail_queue_images") == 0)
        slow.go.set()
        server.wait(lambda: server.metric("vitrail_batches_total") == 1)
        assert server.classify(some_png(7)).status == 200
        assert slow.batches == [1, 1]  # the first, which was under way, and the last
        assert server.metric("vitrail_images_skipped_total") >= 1


def test_a_token() -> None:
    with running(token=TOKEN) as server:
        refusal(server.classify(some_png()), 401, "VIT-915")
        refusal(server.classify(some_png(), Authorization="Bearer x"), 401, "VIT-915")
        refusal(server.ask("GET", "/metrics"), 401, "VIT-915")
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert server.classify(some_png(), Authorization=f"Bearer {TOKEN}").status == 200


def test_a_token_file_that_others_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for text, mode in (
        (TOKEN, 0o640),
        ("short", 0o600),
        ("two words of it all", 0o600),
        ("", 0o600),
    ):
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(EnvironmentFault) as caught:
            read_token(path)
        assert caught.value.code == "VIT-526"
        assert TOKEN not in str(caught.value)
    path.write_text(TOKEN + "\n")
    assert read_token(path) == TOKEN
    with pytest.raises(EnvironmentFault, match="VIT-526"):
        read_token(tmp_path / "none")


def test_other_machines_need_a_token_or_a_word() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "photos.example"):
        with pytest.raises(UsageError, match="VIT-296"):
            check_exposure(host, None, False)
        check_exposure(host, Path("token"), False)
        check_exposure(host, None, True)
    for host in ("127.0.0.1", "localhost", "::1", "[::1]"):
        check_exposure(host, None, False)
    with pytest.raises(UsageError, match="VIT-203"):
        check_exposure("::1", Path("token"), True)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(batch=0), "VIT-202"),
        (Limits(batch=65), "VIT-297"),
        (Limits(wait_ms=30_000), "VIT-297"),
        (Limits(max_body=2**40), "VIT-297"),
    ],
)
def test_limits_that_contradict(limits: Limits, code: str) -> None:
    with pytest.raises(UsageError, match=code):
        limits.check()


def test_the_access_log_has_no_contents() -> None:
    lines: list[str] = []
    with running(say=lines.append) as server:
        server.classify(some_png(), "?top=3", X_Request_Id="mine")
        server.ask("GET", "/a\x1b[31mb".replace("\x1b", "%1b"))
    first, second = (json.loads(line) for line in lines[:2])
    assert (first["id"], first["status"], first["images"]) == ("mine", 200, 1)
    assert (first["method"], first["path"]) == ("POST", "/v1/classify")
    assert second["status"] == 404
    assert not re.search("[\x00-\x1f]", "".join(lines))


def test_a_fault_of_ours_says_nothing_of_the_machine(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Slow):
        def __call__(self) -> Any:
            found = super().__call__()
            compute = found.probabilities

            def fail(images: Any) -> Any:
                if self.is_broken:
                    raise RuntimeError("/secret/path")
                return compute(images)

            found.probabilities = fail  # type: ignore[method-assign]
            return found

        is_broken = False

    broken = Broken()
    with running(broken) as server:
        broken.is_broken = True
        answer = server.classify(some_png())
        refusal(answer, 500, "VIT-100")
        assert b"secret" not in answer.body
        broken.is_broken = False
        assert server.classify(some_png()).status == 200
    assert "/secret/path" in caplog.text


def test_threads_end_with_the_server() -> None:
    before = set(threading.enumerate())
    with running():
        assert set(threading.enumerate()) - before
    until = time.monotonic() + 10
    while set(threading.enumerate()) - before:
        assert time.monotonic() < until
        time.sleep(0.02)
