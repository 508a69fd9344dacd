"""From warming to the end: ready when it is true, models swapped, nothing accepted lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import vitrail
from tests.cli.cli_command import run
from tests.serve.running import (
    ROOT,
    WAIT_SECS,
    Slow,
    asked,
    command,
    running,
    some_classifier,
    some_png,
)
from vitrail.errors import ModelError, UsageError
from vitrail.serve.limits import Limits
from vitrail.serve.listening import Address
from vitrail.serve.self_check import check_deadline, check_engine, sizes_to


@pytest.mark.promise("S13")
def test_alive_is_not_ready() -> None:
    slow = Slow()
    slow.go.clear()
    with running(slow, is_ready=False) as server:
        assert server.ask("GET", "/v2/health/live").status == 200
        answer = server.ask("GET", "/v2/health/ready")
        assert (answer.status, answer.json["code"]) == (503, "VIT-913")
        answer = server.classify(some_png())
        assert (answer.status, answer.json["code"]) == (503, "VIT-913")
        slow.go.set()
        server.wait(lambda: server.ask("GET", "/v2/health/ready").status == 200)
        assert server.metric("vitrail_ready") == 1
        assert slow.batches[0] == 1
        assert slow.batches[-1] == Limits().batch


@pytest.mark.promise("S13")
def test_an_engine_that_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.serve.batcher.HUNG_SECS", 0.2)
    slow = Slow()
    with running(slow) as server, ThreadPoolExecutor(1) as client:
        slow.go.clear()
        late = client.submit(server.classify, some_png())
        server.wait(lambda: server.ask("GET", "/v2/health/ready").status == 503)
        assert server.ask("GET", "/v2/health/live").status == 200
        slow.go.set()
        assert late.result().status == 200
        assert server.ask("GET", "/v2/health/ready").status == 200


@pytest.mark.promise("S13")
@pytest.mark.parametrize("kind", ["nan", "mates", "sum", "classes"])
def test_a_broken_engine_is_found_before_it_answers(kind: str) -> None:
    classifier = some_classifier()
    compute = classifier.probabilities

    def broken(images: Any) -> Any:
        rows = np.array(compute(images))
        if kind == "nan":
            rows[0, 0] = np.nan
        if kind == "mates" and len(rows) > 1:
            rows[0] = rows[1]
        if kind == "sum":
            rows *= 1.01
        return rows[:, 1:] if kind == "classes" else rows

    check_engine(classifier, 8, "a")
    classifier.probabilities = broken  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="VIT-474"):
        check_engine(classifier, 8, "a")


@pytest.mark.promise("S13")
def test_an_export_that_answers_otherwise_than_it_did_is_not_served(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from tests.export.exported import classifier_of, coloured_digits
    from vitrail.export.export_model import export_model

    out = tmp_path / "out"
    classifier = classifier_of()
    export_model(classifier, out, coloured_digits(classifier))
    golden = check_engine(vitrail.load(out), 4, "a")
    about = json.loads((out / "export.json").read_text())
    assert {int(index): value for index, value in about["golden"].items()} == {
        index: pytest.approx(float(value), abs=1e-5) for index, value in enumerate(golden)
    }
    about["golden"]["3"] += 0.001
    del about["digest"]  # changed on purpose
    (out / "export.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="VIT-474"):
        check_engine(vitrail.load(out), 4, "a")


def test_a_deadline_shorter_than_a_batch() -> None:
    check_deadline(some_classifier(), 4, 9_000)
    with pytest.raises(UsageError, match="VIT-297") as caught:
        check_deadline(Slow(0.05)(), 4, 20)
    assert "--deadline-ms 20" in str(caught.value)


@pytest.mark.slow
def test_the_end_may_come_before_it_is_ready(model: Path) -> None:
    """At any moment: the command ends with 0 and leaves no process."""
    for secs in (0.0, 0.1, 0.3, 0.6, 1.0):
        words = [sys.executable, "-m", "vitrail", "serve", str(model), "--port", "0", "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(secs)
            process.terminate()
            assert process.wait(WAIT_SECS) == 0


def test_every_size_up_to_the_largest_is_warmed() -> None:
    assert (sizes_to(1), sizes_to(2), sizes_to(6)) == ([1], [1, 2], [1, 2, 4, 6])
    assert sizes_to(16) == [1, 2, 4, 8, 16]


def test_models_are_swapped_without_a_lost_request() -> None:
    seeds = iter([0, *[1, 0] * 50])
    answers = {
        seed: some_classifier(seed).predict([some_png(5)], top=1)[0].top[0].score for seed in (0, 1)
    }
    with running(lambda: some_classifier(next(seeds))) as server:
        stop = threading.Event()
        seen: list[Any] = []

        def client() -> None:
            while not stop.is_set():
                answer = server.classify(some_png(5), "?top=1")
                assert answer.status == 200
                seen.append(answer.json[0]["score"])

        with ThreadPoolExecutor(3) as clients:
            asking = [clients.submit(client) for _ in range(3)]
            for swap in range(1, 6):
                server.do(lambda: server.server._do(server.service.reload()))
                done = 'vitrail_reloads_total{outcome="ok"}'
                server.wait(lambda done=done, swap=swap: server.metric(done) == swap)  # type: ignore[misc]
                before = len(seen)
                server.wait(lambda before=before: len(seen) > before + 3)  # type: ignore[misc]
            stop.set()
            for one in asking:
                one.result()
    assert set(np.round(seen, 5)) == set(np.round(list(answers.values()), 5))


def test_a_model_that_fails_its_check_does_not_take_over(caplog: pytest.LogCaptureFixture) -> None:
    bad = threading.Event()

    def load() -> Any:
        classifier = some_classifier()
        if bad.is_set():
            classifier.probabilities = lambda images: np.full((len(images), 7), np.nan)  # type: ignore[method-assign]
        return classifier

    with running(load) as server:
        before = server.classify(some_png()).json
        bad.set()
        server.do(lambda: server.server._do(server.service.reload()))
        server.wait(lambda: server.metric('vitrail_reloads_total{outcome="VIT-474"}') == 1)
        assert server.classify(some_png()).json == before
        assert server.ask("GET", "/v2/health/ready").status == 200
    assert "VIT-474" in caplog.text


@pytest.mark.promise("S2")
def test_what_was_accepted_is_answered_at_the_end() -> None:
    slow = Slow()
    with running(slow) as server, ThreadPoolExecutor(4) as clients:
        slow.go.clear()
        accepted = [clients.submit(server.classify, some_png(seed)) for seed in range(4)]
        server.wait(lambda: server.metric("vitrail_queue_images") == 4)
        server.do(server.server.end)
        server.wait(lambda: server.ask("GET", "/v2/health/ready").status == 503)
        answer = server.classify(some_png())
        assert (answer.status, answer.json["code"]) == (503, "VIT-912")
        assert answer.headers["connection"] == "close"
        assert "retry-after" in answer.headers
        assert server.ask("GET", "/v2/health/live").status == 200
        slow.go.set()
        assert [one.result().status for one in accepted] == [200] * 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "digits"
    some_classifier().save(folder)
    return folder


@pytest.mark.promise("S2")
def test_the_command_ends_with_0_under_load(model: Path, tmp_path: Path) -> None:
    """SIGHUP on the way; then SIGTERM: every answer is whole, and none that was begun is lost.

    A connection that the kernel took and the server never saw may be refused or reset; so the
    server's own log says how many requests it began.
    """
    log = (tmp_path / "log").open("w+")
    options = ("--drain-delay", "0.3", "--access-log")
    with log, command(model, *options, log=log) as (process, port):
        stop = threading.Event()
        statuses: list[int] = []

        def client() -> None:
            while not stop.is_set():
                try:
                    statuses.append(asked(port, "POST", "/v1/classify", some_png())[0])
                except (ConnectionRefusedError, ConnectionResetError):
                    return

        with ThreadPoolExecutor(4) as clients:
            asking = [clients.submit(client) for _ in range(4)]
            until = time.monotonic() + WAIT_SECS
            while len(statuses) < 20:
                assert time.monotonic() < until
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGHUP)
            while b'reloads_total{outcome="ok"} 1' not in asked(port, "GET", "/metrics")[1]:
                assert time.monotonic() < until
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(WAIT_SECS) == 0
            stop.set()
            for one in asking:
                one.result()
        log.seek(0)
        begun = [line for line in log if '"/v1/classify"' in line]
    assert set(statuses) <= {200, 503}
    assert len(begun) == len(statuses)


def test_nothing_is_computed_while_nobody_asks(model: Path) -> None:
    with command(model) as (process, port):
        asked(port, "POST", "/v1/classify", some_png())
        time.sleep(1)
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        before = sum(sum(one.cpu_times()[:2]) for one in tree)
        time.sleep(3)
        assert sum(sum(one.cpu_times()[:2]) for one in tree) - before <= 0.1


def test_an_export_is_served_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from tests.export.exported import classifier_of, coloured_digits
    from vitrail.export.export_model import export_model

    classifier = classifier_of()
    export_model(classifier, tmp_path / "out", coloured_digits(classifier))
    expected = classifier.predict([some_png(3)])[0].top
    with command(tmp_path / "out") as (process, port):
        status, body = asked(port, "POST", "/v1/classify", some_png(3))
        maps = Path(f"/proc/{process.pid}/maps")
        assert not maps.exists() or "libtorch" not in maps.read_text()
        assert json.loads(asked(port, "GET", "/v1/models")[1])[0]["engine"] == "onnx"
    assert status == 200
    assert json.loads(body) == [
        {"label": one.label, "score": pytest.approx(one.score, abs=1e-5)} for one in expected
    ]


def test_a_port_in_use(model: Path) -> None:
    with Address(port=0).listen() as listener:
        port = listener.getsockname()[1]
        done = run("serve", model, "--port", port)
        assert (done.code, "VIT-524" in done.err) == (5, True)
    assert run("serve", model, "--port", 65536).code == 2
    assert "VIT-524" in run("serve", model, "--host", "192.0.2.1", "--no-auth").err


def test_mistakes_on_the_command_line(model: Path, tmp_path: Path) -> None:
    assert "VIT-201" in run("serve").err
    assert "VIT-296" in run("serve", model, "--host", "0.0.0.0").err
    assert "VIT-297" in run("serve", model, "--queue", 2).err
    assert "VIT-526" in run("serve", model, "--token-file", tmp_path / "none").err
    assert "VIT-202" in run("serve", model, model).err
    missing = run("serve", tmp_path / "nothing", "--port", 0)
    assert (missing.code, "VIT-430" in missing.err) == (4, True)
