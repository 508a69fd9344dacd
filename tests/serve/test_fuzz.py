"""Requests of every kind to every route: refused with a code or answered, never a fault of ours."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.serve.running import Running, running, some_classifier, some_png
from vitrail.serve.limits import Limits
from vitrail.serve.problem import TITLES
from vitrail.serve.routes.app import ENDPOINTS

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "x"]
KINDS = ["image/png", "application/json", "application/octet-stream", "text/plain", "", "a" * 300]
NAMES = ["m0", "m9", "..%2fm0", "%00", "%E2%80%AE", "a" * 300, "m0%20", "."]
SECRET = "hunter2-in-the-path"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    limits = Limits(queue=8, batch=4, max_body=100_000, queue_bytes=400_000, body_secs=0.5)
    with running(some_classifier, limits=limits) as found:
        yield found


def some_body(rng: random.Random) -> bytes:
    """An image, whole or damaged; documents that are nearly right; noise."""
    image = bytearray(some_png(rng.randrange(5)))
    for _ in range(rng.randrange(4)):
        image[rng.randrange(len(image))] = rng.randrange(256)
    values: list[Any] = [None, [], {}, "", "QUFB", -1, 1e300, [[1]], {"a": 1}, ["QUFB"] * 20]
    tensor = {
        "name": rng.choice(["image", "encoded", 3]),
        "datatype": rng.choice(["FP32", "BYTES", None]),
        "shape": rng.choice([[1], [1, 3, 16, 24], [], [2**62], "x", [-1]]),
        "data": rng.choice(values),
        "parameters": rng.choice([{}, {"binary_data_size": rng.choice(values)}, 5]),
    }
    document = {
        rng.choice(["inputs", "outputs", "id", "x"]): rng.choice([*values, [tensor]]),
        "inputs": rng.choice([*values, [tensor]]),
        "parameters": rng.choice([*values, {"top_k": rng.choice(values)}]),
    }
    bodies = [bytes(image), json.dumps(document).encode(), rng.randbytes(200), b"", b"{" * 5000]
    return rng.choice(bodies)


def some_request(rng: random.Random) -> bytes:
    """Mostly well formed, so that it gets as far as the routes."""
    one = rng.choice(ENDPOINTS)
    path = one.path.replace("{name}", rng.choice(NAMES))
    query = rng.choice([*one.query, "x", "model"])
    value = rng.choice(["", "1", "-1", "9" * 50, "%ff", "m0", "relevance", "a" * 500, "1.5"])
    path += rng.choice(["", f"?{query}={value}", f"?{query}={value}&{query}={value}"])
    method = one.method if rng.random() < 0.7 else rng.choice(METHODS)
    body = some_body(rng)
    length = rng.choice([len(body)] * 8 + [len(body) + 5, 0, -1, 10**12])
    head = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {rng.choice(KINDS)}",
        f"Content-Length: {length}",
        f"Accept: {rng.choice(['image/png', '*/*', 'a' * 100])}",
        f"Inference-Header-Content-Length: {rng.choice(['0', '5', 'x', str(len(body))])}"
        * (rng.random() < 0.3),
        rng.choice(["X: y", "Transfer-Encoding: chunked", "Expect: 100-continue", "Cookie: \xff"]),
        "Connection: close",
    ]
    return "\r\n".join([line for line in head if line] + ["", ""]).encode("latin-1") + body


def asked(server: Running, text: bytes) -> bytes:
    """What comes back until the end."""
    parts = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as link:
        with suppress(OSError):
            link.sendall(text)
        with suppress(ConnectionResetError):
            while part := link.recv(65536):
                parts.append(part)
    found = b"".join(parts)
    return found.partition(b"\r\n\r\n")[2] if found.startswith(b"HTTP/1.1 100") else found


@pytest.mark.promise("S4")
@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_whatever_is_asked(server: Running, count: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(count)
    known = {200, *TITLES} - {500}
    for _ in range(count):
        text = some_request(rng)
        answer = asked(server, text)
        assert answer, text
        status = int(answer.split(b" ", 2)[1])
        assert status in known, (text, answer)
        if status not in (200, 400) and b" HEAD " not in text:  # 400 may be the parser's own
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"application/problem+json" in head or not body, (text, answer)
    assert server.classify(some_png(1)).status == 200
    server.wait(lambda: server.metric("vitrail_queue_images") == 0)
    assert server.metric("vitrail_queue_bytes") == 0
    assert "Traceback" not in caplog.text


@pytest.mark.promise("S9")
def test_a_name_is_looked_up_and_nothing_else(server: Running) -> None:
    """The same answer for every name that is not served, whatever is in it."""
    bodies = set()
    names = ["m9", "..%2f..%2fetc%2fpasswd", "%00", "m0%00", "%E2%80%AE0m", "a" * 8000, "m0%2e"]
    for name in names:
        for method, path in (
            ("GET", f"/v2/models/{name}"),
            ("GET", f"/v2/models/{name}/ready"),
            ("POST", f"/v1/explain?model={name}"),
            ("POST", f"/v1/classify?model={name}"),
        ):
            answer = server.ask(method, path, some_png() if method == "POST" else b"")
            assert answer.status in (404, 422 if len(name) > 200 else 404), (path, answer.body)
            bodies.add(answer.json["detail"])
    assert bodies <= {"no such model", "the paths are those of docs/serve.md"} | {
        detail for detail in bodies if "letters" in detail
    }


@pytest.mark.promise("S10")
def test_a_refusal_tells_nothing_of_the_machine(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITRAIL_SECRET", SECRET)
    rng = random.Random(3)
    telling = [b"Traceback", b"/work", b"/home", b"/usr", b".py", b"site-packages", b"starlette"]
    for _ in range(300):
        answer = asked(server, some_request(rng)).partition(b"\r\n\r\n")
        if b"problem+json" in answer[0]:
            assert not any(word in answer[2] for word in [*telling, SECRET.encode()]), answer


@pytest.mark.promise("S11")
def test_no_page_of_another_origin_gets_in(server: Running) -> None:
    """What a browser sends without asking first is refused; when it asks, nothing is allowed."""
    evil: dict[str, Any] = {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path in ("/v1/classify", "/v1/explain", "/v2/models/m0/infer"):
            assert server.ask("POST", path, some_png(), kind, **evil).status == 415
    asking = {**evil, "Access_Control_Request_Method": "POST"}
    answer = server.ask("OPTIONS", "/v1/classify", **asking)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
    changing = {one.method for one in ENDPOINTS} - {"GET", "POST"}
    assert changing == set()


@pytest.mark.promise("S4")
def test_a_broken_body_behind_head_is_answered_without_a_text(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    text = b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\x89PNG\r\n"
    answer = asked(server, text)
    assert b"\r\n\r\n" in answer
    assert "Traceback" not in caplog.text
    assert server.classify(some_png(1)).status == 200
