"""What a request says in two ways, or in a way that is not followed, is refused and not chosen."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from tests.serve.running import Running, running, some_classifier, some_png
from tests.serve.test_protocol import INFER, binary, prepared, tensor
from vitrail.serve.limits import Limits

IMAGES, _ = prepared(1)
FLAT: list[float] = IMAGES.ravel().tolist()
BYTES = IMAGES.astype("<f4").tobytes()
TEXT = base64.b64encode(some_png(1)).decode()
OTHER = base64.b64encode(some_png(2)).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier, limits=Limits(queue=8, batch=4)) as found:
        yield found


@pytest.mark.promise("S4")
@pytest.mark.parametrize(
    "body",
    [
        f'{{"inputs": "{TEXT}", "inputs": "{OTHER}"}}',
        f'{{"inputs": "{TEXT}", "parameters": {{"top_k": 1, "top_k": 2}}}}',
        f'{{"inputs": "{TEXT}", "parameters": {{"top_k": 2}}}}',  # and ?top=1
    ],
)
def test_classify(server: Running, body: str) -> None:
    answer = server.ask("POST", "/v1/classify?top=1", body.encode(), "application/json")
    assert answer.status in (400, 422), answer.body


@pytest.mark.promise("S4")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/classify?top=1&top=2",
        "/v1/classify?model=m0&model=m9",
        "/v1/explain?method=rollout&method=attention",
        "/v1/explain?layer=0&layer=1",
    ],
)
def test_parameters(server: Running, path: str) -> None:
    assert server.ask("POST", path, some_png(1)).status == 422


@pytest.mark.promise("S4")
@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Type: image/png", "Content-Type: application/json"],
        ["Content-Type: image/png", "Authorization: Bearer a", "Authorization: Bearer b"],
    ],
)
def test_headers(server: Running, headers: list[str]) -> None:
    image, parts = some_png(1), []
    head = ["POST /v1/classify HTTP/1.1", "Host: localhost", *headers, "Connection: close"]
    head += [f"Content-Length: {len(image)}", "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as link:
        link.sendall("\r\n".join(head).encode() + image)
        with suppress(ConnectionResetError):
            while part := link.recv(65536):
                parts.append(part)
    assert b"".join(parts).startswith(b"HTTP/1.1 400")


@pytest.mark.promise("S4")
@pytest.mark.parametrize(
    "request_",
    [
        {"inputs": [tensor(IMAGES, data=IMAGES.transpose(0, 2, 3, 1).tolist())]},
        {"inputs": [tensor(IMAGES, data=IMAGES[0].tolist())]},
        {"inputs": [tensor(IMAGES, data=IMAGES.reshape(2, -1).tolist())]},
        {"inputs": [tensor(IMAGES, data=FLAT)], "outputs": [{"name": "label"}] * 2},
        {
            "inputs": [tensor(IMAGES, data=FLAT)],
            "outputs": [{"name": "label", "parameters": {"binary_data": "true"}}],
        },
        {"inputs": [tensor(IMAGES, data=FLAT)], "parameters": {"binary_data_output": 1}},
        {
            "inputs": [tensor(IMAGES, data=FLAT)],
            "outputs": [{"name": "label", "parameters": {"classification": 3}}],
        },
        {"inputs": [tensor(IMAGES, data=FLAT, parameters={"shared_memory_region": "x"})]},
        {"inputs": [tensor(IMAGES, data=FLAT)], "parameters": {"sequence_id": 7}},
    ],
)
def test_tensors(server: Running, request_: dict[str, Any]) -> None:
    answer = server.document(request_, INFER)
    assert answer.status in (400, 422), answer.body


@pytest.mark.promise("S4")
def test_data_beside_binary_data(server: Running) -> None:
    given = tensor(IMAGES, data=FLAT, parameters={"binary_data_size": len(BYTES)})
    assert binary(server, {"inputs": [given]}, BYTES).status == 400


@pytest.mark.promise("S4")
def test_an_answer_that_is_not_finite_is_none(server: Running) -> None:
    huge = tensor(IMAGES, data=np.full(IMAGES.size, 1e30).tolist())
    answer = server.document({"inputs": [huge]}, INFER)
    assert (answer.status, answer.json["code"]) == (422, "VIT-442")
    assert b"NaN" not in answer.body


def test_both_numbers_may_be_given_where_they_are_one(server: Running) -> None:
    body = json.dumps({"inputs": TEXT, "parameters": {"top_k": 2}}).encode()
    assert len(server.ask("POST", "/v1/classify?top=2", body, "application/json").json) == 2
