"""POST /v1/explain: as `Classifier.explain`, by torch alone, without harm to others."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve.running import (
    Answer,
    Running,
    asked,
    command,
    png,
    running,
    some_classifier,
    some_pixels,
    some_png,
)
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.serve.limits import Limits
from vitrail.serve.routes.explain import wants_drawing


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier) as found:
        yield found


def explain(server: Running, image: bytes, query: str = "", **headers: str) -> Answer:
    """POST of raw bytes."""
    return server.ask("POST", f"/v1/explain{query}", image, **headers)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {}),
        ("?method=attention&layer=-1&head=1", {"method": "attention", "layer": -1, "head": 1}),
        ("?method=gradcam&target=dog", {"method": "gradcam", "target": "dog"}),
        ("?method=rollout&model=m0", {"method": "rollout"}),
        ("?method=integrated-gradients", {"method": "integrated-gradients"}),
        ("?method=occlusion&target=3", {"method": "occlusion", "target": 3}),
    ],
)
def test_numbers(server: Running, query: str, options: dict[str, Any]) -> None:
    answer = explain(server, some_png(3), query)
    expected = some_classifier().explain(some_png(3), **options)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json
    assert (found["method"], found["target"], found["label"]) == (
        expected.method,
        expected.target,
        expected.label,
    )
    assert found["grid"] == list(expected.grid.shape)
    np.testing.assert_allclose(found["values"], expected.grid, atol=1e-5)
    assert [one["label"] for one in found["top"]] == [label for label, _ in expected.top]
    assert "source" not in found


@pytest.mark.parametrize("style", ["heat", "spotlight"])
def test_a_drawing(server: Running, style: str) -> None:
    answer = explain(server, some_png(3), f"?style={style}", Accept="image/png")
    assert answer.headers["content-type"] == "image/png"
    found = np.asarray(Image.open(io.BytesIO(answer.body)), np.int16)
    expected = np.asarray(some_classifier().explain(some_png(3)).overlay(style), np.int16)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("accept", "is_drawn"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("image/avif, image/*;q=0.8, */*;q=0.1", True),
        ("IMAGE/PNG ; q=0.001", True),
        ("image/png;q=0", False),
        ("image/png;q=0.000, image/*", False),
        ("application/json, image/png;q=0.5", False),
        ("application/json;q=0.4, image/png;q=0.5", True),
        ("image/pngs", False),
    ],
)
def test_what_is_accepted(accept: str, is_drawn: bool) -> None:
    assert wants_drawing(accept) is is_drawn


def test_a_large_image_is_drawn_small(server: Running) -> None:
    """What the model is shown comes from the whole image; only the drawing is smaller."""
    large = png(some_pixels(1, 600, 2000))
    drawing = explain(server, large, Accept="image/png").body
    assert Image.open(io.BytesIO(drawing)).size == (1024, 307)
    expected = some_classifier().explain(large).grid
    np.testing.assert_allclose(explain(server, large).json["values"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?method=magic", "VIT-270"),
        ("?method=rollout&layer=1", "VIT-273"),
        ("?method=attention&layer=99", "VIT-274"),
        ("?method=attention&head=-1", "VIT-274"),
        ("?head=x", "VIT-202"),
        ("?target=wolf", "VIT-276"),
        ("?style=neon", "VIT-278"),
        ("?methd=rollout", "VIT-202"),
        ("?method=" + "a" * 201, "VIT-202"),
    ],
)
def test_what_cannot_be_asked(server: Running, query: str, code: str) -> None:
    answer = explain(server, some_png(), query)
    assert (answer.status, answer.json["code"]) == (422, code)


def test_what_is_no_image(server: Running) -> None:
    answer = explain(server, b"x")
    assert (answer.status, answer.json["code"]) == (422, "VIT-330")
    assert server.document({"inputs": "QUFB"}, "/v1/explain").status == 415
    assert server.metric("vitrail_queue_images") == 0


def test_it_takes_room_and_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    go, calls = threading.Event(), list[int]()

    def load() -> Any:
        classifier = some_classifier()
        compute = classifier.explain_prepared

        def slow(*given: Any, **options: Any) -> Any:
            calls.append(1)
            assert go.wait(60)
            return compute(*given, **options)

        classifier.explain_prepared = slow  # type: ignore[method-assign]
        return classifier

    limits = Limits(queue=2, batch=1, deadline_ms=1500)
    with running(load, limits=limits) as server, ThreadPoolExecutor(2) as clients:
        late = [clients.submit(explain, server, some_png(seed)) for seed in range(2)]
        server.wait(lambda: server.metric("vitrail_queue_images") == 2)
        assert explain(server, some_png()).json["code"] == "VIT-911"
        began = time.monotonic()
        assert [one.result().status for one in late] == [504, 504]
        assert server.classify(some_png()).status == 200
        assert time.monotonic() - began < 10
        go.set()
        server.wait(lambda: explain(server, some_png()).status == 200)
        assert len(calls) <= 3  # the one that was never begun was not computed


def test_who_classifies_meanwhile_gets_the_same_answers(server: Running) -> None:
    expected = server.classify(some_png(1)).json
    with ThreadPoolExecutor(6) as clients:
        maps = [clients.submit(explain, server, some_png(seed)) for seed in range(12)]
        answers = list(clients.map(lambda _: server.classify(some_png(1)).json, range(40)))
    assert all(one.result().status == 200 for one in maps)
    for answer in answers:
        assert answer == [
            {"label": one["label"], "score": pytest.approx(one["score"], abs=1e-6)}
            for one in expected
        ]


def test_the_end_does_not_wait_for_what_nobody_waits_for(tmp_path: Path) -> None:
    """An explanation past its deadline cannot be interrupted; the command ends all the same."""
    config = ViTConfig(
        image_size=(224, 224),
        patch_size=(16, 16),
        width=192,
        depth=6,
        num_heads=3,
        mlp_dim=768,
        num_classes=10,
    )
    made = Preprocess(height=224, width=224, resize=(224, 224))
    Classifier(create_model(config), made, list("abcdefghij")).save(tmp_path / "large")
    with command(tmp_path / "large", "--batch", "1", "--deadline-ms", "1500") as (process, port):
        assert asked(port, "POST", "/v1/explain?method=occlusion", some_png())[0] == 504
        began = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert time.monotonic() - began < 5


def test_another_engine_says_that_it_has_no_torch_model(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from tests.export.exported import classifier_of, coloured_digits
    from vitrail.export.export_model import export_model

    classifier = classifier_of()
    export_model(classifier, tmp_path / "out", coloured_digits(classifier))
    with command(tmp_path / "out") as (_, port):
        status, body = asked(port, "POST", "/v1/explain", some_png())
        assert (status, b"VIT-444" in body) == (422, True)
        assert b'"explains":false' in asked(port, "GET", "/v1/models")[1]
