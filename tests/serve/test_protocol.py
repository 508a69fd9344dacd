"""The Open Inference Protocol, version 2, byte by byte."""

from __future__ import annotations

import base64
import http.client
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.serve.running import CLASSES, Answer, Running, running, some_classifier, some_png
from vitrail.serve.limits import Limits

INFER = "/v2/models/m0/infer"
SIZE = "inference-header-content-length"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier, limits=Limits(queue=8, batch=4)) as found:
        yield found


def prepared(*seeds: int) -> Any:
    """Images as the model is shown them, and their probabilities."""
    classifier = some_classifier()
    images = np.stack([classifier.preprocess.floats(some_png(seed)) for seed in seeds])
    return images, classifier.probabilities(images)


def tensor(images: Any, **more: Any) -> dict[str, Any]:
    """An FP32 input."""
    return {"name": "image", "datatype": "FP32", "shape": list(images.shape), **more}


def encoded(*data: bytes, **more: Any) -> dict[str, Any]:
    """A BYTES input."""
    texts = [base64.b64encode(one).decode() for one in data]
    return {"name": "encoded", "datatype": "BYTES", "shape": [len(data)], "data": texts, **more}


def binary(server: Running, document: Any, tail: bytes) -> Answer:
    """A request with bytes behind its JSON."""
    text = json.dumps(document).encode()
    given = {"Inference_Header_Content_Length": str(len(text))}
    return server.ask("POST", INFER, text + tail, "application/octet-stream", **given)


def outputs(answer: Answer) -> dict[str, Any]:
    """The outputs by name, whichever way they came."""
    assert answer.status == 200, answer.body
    size = int(answer.headers.get(SIZE, len(answer.body)))
    document, rest = json.loads(answer.body[:size]), answer.body[size:]
    found = {}
    for one in document["outputs"]:
        data = one.get("data")
        if data is None:
            part = rest[: one["parameters"]["binary_data_size"]]
            rest = rest[len(part) :]
            data = np.frombuffer(part, "<f4") if one["datatype"] == "FP32" else part
        found[one["name"]] = data if isinstance(data, bytes) else np.reshape(data, one["shape"])
    assert not rest
    return found


def test_metadata(server: Running) -> None:
    assert server.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    found = server.ask("GET", "/v2/models/m0").json
    assert (found["name"], found["platform"]) == ("m0", "vitrail_torch")
    shapes = {one["name"]: one["shape"] for one in [*found["inputs"], *found["outputs"]]}
    assert shapes == {
        "image": [-1, 3, 16, 24],
        "encoded": [-1],
        "probabilities": [-1, 7],
        "label": [-1],
    }
    assert server.ask("GET", "/v2/models/m0/ready").status == 200
    for path in ("/v2/models/m9", "/v2/models/m9/ready"):
        answer = server.ask("GET", path)
        assert (answer.status, answer.json["error"]) == (404, "VIT-915: no such model")


@pytest.mark.parametrize("is_flat", [True, False])
def test_numbers_as_json(server: Running, is_flat: bool) -> None:
    images, p = prepared(1, 2)
    data = images.ravel().tolist() if is_flat else images.tolist()
    answer = server.document({"id": "a-1", "inputs": [tensor(images, data=data)]}, INFER)
    assert (answer.json["id"], answer.json["model_name"]) == ("a-1", "m0")
    found = outputs(answer)
    np.testing.assert_allclose(found["probabilities"], p, atol=1e-6)
    assert list(found["label"]) == [CLASSES[row.argmax()] for row in p]


def test_files_of_images(server: Running) -> None:
    _, p = prepared(3, 4, 5)
    wanted = [{"name": "probabilities"}]
    inputs = [encoded(some_png(3), some_png(4), some_png(5))]
    answer = server.document({"inputs": inputs, "outputs": wanted}, INFER)
    found = outputs(answer)
    assert list(found) == ["probabilities"]
    np.testing.assert_allclose(found["probabilities"], p, atol=1e-6)


@pytest.mark.parametrize("parameters", [{"binary_data_output": True}, {}])
def test_bytes_behind_the_json(server: Running, parameters: dict[str, Any]) -> None:
    images, p = prepared(6, 7)
    tail = images.astype("<f4").tobytes()
    given = tensor(images, parameters={"binary_data_size": len(tail)})
    found = outputs(binary(server, {"inputs": [given], "parameters": parameters}, tail))
    np.testing.assert_allclose(found["probabilities"], p, atol=1e-6)
    if parameters:
        assert found["label"] == b"".join(
            struct.pack("<I", len(name)) + name
            for name in (CLASSES[row.argmax()].encode() for row in p)
        )
    files = b"".join(struct.pack("<I", len(one)) + one for one in (some_png(6), some_png(7)))
    about: dict[str, Any] = {"name": "encoded", "datatype": "BYTES", "shape": [2]}
    about["parameters"] = {"binary_data_size": len(files)}
    again = outputs(binary(server, {"inputs": [about]}, files))
    np.testing.assert_allclose(again["probabilities"], p, atol=1e-6)


IMAGES = np.zeros((1, 3, 16, 24), np.float32)


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({}, 400, "VIT-910"),
        ({"inputs": []}, 400, "VIT-910"),
        ({"inputs": [encoded(b"x")] * 2}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES)]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=[1, 2])]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=[[1], [1, 2]])]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=["x"] * 1152)]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=["1"] * 1152)]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=[10**400] * 1152)]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=[True] * 1152)]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES, data=[1e300] * 1152)]}, 422, "VIT-202"),
        ({"inputs": [tensor(IMAGES, data=[0.5] * 1151 + [True])]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES) | {"shape": [1, 3, 24, 16]}]}, 422, "VIT-202"),
        ({"inputs": [tensor(IMAGES) | {"shape": []}]}, 422, "VIT-202"),
        ({"inputs": [tensor(IMAGES) | {"shape": [-1, 3, 16, 24]}]}, 400, "VIT-910"),
        ({"inputs": [tensor(IMAGES) | {"shape": [0, 3, 16, 24]}]}, 413, "VIT-915"),
        ({"inputs": [tensor(IMAGES) | {"shape": [10**12, 3, 16, 24]}]}, 413, "VIT-915"),
        ({"inputs": [tensor(IMAGES) | {"datatype": "FP64"}]}, 422, "VIT-202"),
        ({"inputs": [tensor(IMAGES) | {"name": "x"}]}, 422, "VIT-202"),
        ({"inputs": [encoded(b"x") | {"data": ["?"]}]}, 400, "VIT-910"),
        ({"inputs": [encoded(b"x") | {"shape": [2]}]}, 400, "VIT-910"),
        ({"inputs": [encoded(some_png(), b"x")]}, 422, "VIT-330"),
        ({"inputs": [encoded(b"x")], "outputs": [{"name": "x"}]}, 422, "VIT-202"),
        ({"inputs": [tensor(IMAGES, parameters={"binary_data_size": 4})]}, 400, "VIT-910"),
    ],
)
def test_what_is_refused(server: Running, document: Any, status: int, code: str) -> None:
    answer = server.document(document, INFER)
    assert (answer.status, answer.json["code"]) == (status, code), answer.json
    assert answer.json["error"].startswith(code)
    assert server.metric("vitrail_queue_images") == 0


def test_a_body_without_a_type(server: Running) -> None:
    """tritonclient sends one; so could a page of another origin, which has to be refused."""
    text = json.dumps({"inputs": [encoded(some_png())]}).encode()
    for more, status in (({}, 200), ({"Origin": "https://evil.example"}, 415)):
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        link.putrequest("POST", INFER)
        for name, value in ({"Content-Length": str(len(text))} | more).items():
            link.putheader(name, value)
        link.endheaders(text)
        assert link.getresponse().status == status
        link.close()


def test_lengths_that_lie(server: Running) -> None:
    given = {"inputs": [encoded(some_png()) | {"data": None}]}
    for size in (4, 5, 10**9):
        given["inputs"][0]["parameters"] = {"binary_data_size": size}
        assert binary(server, given, b"\xff\xff\xff\x7f").status == 400
    text = json.dumps({"inputs": [encoded(some_png())]}).encode()
    for head in ("-1", "x", "9" * 30, str(len(text) + 1)):
        given_head = {"Inference_Header_Content_Length": head}
        assert server.ask("POST", INFER, text, "application/json", **given_head).status == 400
    assert binary(server, {"inputs": [encoded(some_png())]}, b"more").status == 400


@pytest.mark.parity
def test_the_client_of_triton(server: Running) -> None:
    """tritonclient[http], where it is installed."""
    client = pytest.importorskip("tritonclient.http")
    images, p = prepared(1, 2)
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as link:
        assert link.is_server_live()
        assert link.is_server_ready()
        assert link.is_model_ready("m0")
        assert link.get_model_metadata("m0")["name"] == "m0"
        assert link.get_server_metadata()["name"] == "vitrail"
        for is_binary in (True, False):
            given = client.InferInput("image", list(images.shape), "FP32")
            given.set_data_from_numpy(images, binary_data=is_binary)
            wanted = client.InferRequestedOutput("probabilities", binary_data=is_binary)
            found = link.infer("m0", [given], outputs=[wanted])
            np.testing.assert_allclose(found.as_numpy("probabilities"), p, atol=1e-6)
        given = client.InferInput("encoded", [2], "BYTES")
        given.set_data_from_numpy(np.array([some_png(1), some_png(2)], object))
        found = link.infer("m0", [given])
        np.testing.assert_allclose(found.as_numpy("probabilities"), p, atol=1e-6)
        assert found.as_numpy("label")[0].decode() in CLASSES
        with pytest.raises(client.InferenceServerException, match="VIT-915: no such model"):
            link.infer("m9", [given])
