"""What is answered: the same as `vitrail predict`, whatever else is asked meanwhile."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.serve.running import CLASSES, Running, Slow, running, some_classifier, some_png
from vitrail.serve.limits import Limits


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier, lambda: some_classifier(1), engines=2) as found:
        yield found


def predicted(seed: int, model: int = 0, top: int = 5) -> list[dict[str, Any]]:
    """As `vitrail predict --json`."""
    found = some_classifier(model).predict([some_png(seed)], top=top)[0].top
    return [{"label": one.label, "score": pytest.approx(one.score, abs=1e-6)} for one in found]


def test_raw_bytes(server: Running) -> None:
    answer = server.classify(some_png(3))
    assert (answer.status, answer.json) == (200, predicted(3))
    assert answer.headers["vitrail-engine"] == "torch; float32"
    alone = some_classifier().predict([some_png(3)])[0].top
    assert [f"{one['score']:.4f}" for one in answer.json] == [f"{one.score:.4f}" for one in alone]


def test_json(server: Running) -> None:
    one, two = (base64.b64encode(some_png(seed)).decode() for seed in (1, 2))
    assert server.document({"inputs": one}).json == predicted(1)
    both = server.document({"inputs": [one, two], "parameters": {"top_k": 2}})
    assert both.json == [predicted(1, top=2), predicted(2, top=2)]


def test_top_and_model(server: Running) -> None:
    assert server.classify(some_png(4), "?top=1").json == predicted(4, top=1)
    assert len(server.classify(some_png(4), "?top=100").json) == len(CLASSES)
    assert server.classify(some_png(4), "?model=m1").json == predicted(4, model=1)
    assert server.classify(some_png(4), "?model=m0").json == predicted(4)


@pytest.mark.promise("S5")
def test_one_bad_image_fails_alone(server: Running) -> None:
    good = [base64.b64encode(some_png(seed)).decode() for seed in range(3)]
    bad = base64.b64encode(some_png(0)[:40]).decode()
    answer = server.document({"inputs": [good[0], bad, good[1], good[2]]}).json
    assert [answer[0], answer[2], answer[3]] == [predicted(seed) for seed in range(3)]
    assert answer[1]["code"] == "VIT-330"
    assert answer[1]["error"]


@pytest.mark.promise("S6")
def test_each_gets_the_answer_to_its_own_image(server: Running) -> None:
    """Eight clients at a time: batches form, and nobody gets the row of another."""
    expected = {seed: predicted(seed) for seed in range(40)}
    with ThreadPoolExecutor(8) as clients:
        seeds = [seed for seed in range(40) for _ in range(2)]
        answers = list(clients.map(lambda seed: server.classify(some_png(seed)), seeds))
    for seed, answer in zip(seeds, answers, strict=True):
        assert answer.json == expected[seed], seed


def test_what_is_served(server: Running) -> None:
    first, second = server.ask("GET", "/v1/models").json
    assert (first["name"], second["name"]) == ("m0", "m1")
    assert first["classes"] == CLASSES
    assert first["input"] == {"channels": 3, "height": 16, "width": 24}
    assert (first["engine"], first["precision"]) == ("torch", "float32")


def test_batches_are_formed_and_never_too_large() -> None:
    slow = Slow(0.05)
    with running(slow, limits=Limits(batch=4)) as server, ThreadPoolExecutor(12) as clients:
        slow.batches.clear()
        answers = list(clients.map(lambda n: server.classify(some_png(n)), range(12)))
        assert {one.status for one in answers} == {200}
        assert sum(slow.batches) == 12
        assert 1 < max(slow.batches) <= 4
        assert server.metric("vitrail_images_total") == 12
        assert server.metric("vitrail_queue_images") == 0
        assert server.metric("vitrail_queue_bytes") == 0
