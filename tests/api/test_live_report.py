"""`vitrail report RUN --watch`: a page on loopback that follows the run."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.cli_command import run
from tests.report.made_run import made_run
from vitrail.api.run_report import LiveReport, live_report
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.report.run_images import NoImages
from vitrail.runs.lock import RunLock
from vitrail.serve.live_page import Live, LiveServer

Answer = tuple[int, dict[str, str], str]


def ask(port: int, path: str = "/", host: str = "", method: str = "GET", tag: str = "") -> Answer:
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Host": host or f"127.0.0.1:{port}"} | ({"If-None-Match": tag} if tag else {})
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return found


@contextmanager
def serving(server: LiveServer) -> Iterator[int]:
    """The port of a server that answers in a thread."""
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.port
    finally:
        server.stop()
        thread.join(10)
        server.close()
        assert not thread.is_alive()


class Fake:
    """A page that we change, and break."""

    content, is_live, fault = "one", True, False
    made_count = 0

    def made(self) -> str:
        self.made_count += 1
        if self.fault:
            raise ModelError("VIT-406", "torn")
        return self.content

    def live(self) -> Live:
        return Live(lambda: (self.content, self.fault), self.made, lambda: self.is_live)


def test_a_page_is_made_when_something_changed_and_only_then() -> None:
    page = Fake()
    with serving(LiveServer(page.live())) as port:
        status, headers, text = ask(port)
        assert (status, text, headers["Refresh"]) == (200, "one", "5")
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-cache"
        status, again, text = ask(port, tag=headers["ETag"])
        assert (status, text, again["Refresh"], page.made_count) == (304, "", "5", 1)
        page.content = "two"
        status, other, text = ask(port, tag=headers["ETag"])
        assert (status, text) == (200, "two")
        assert other["ETag"] != headers["ETag"]
        page.fault = True
        assert ask(port)[2] == "two"  # what was there stays
        page.fault, page.is_live = False, False
        status, headers, text = ask(port, method="HEAD")
        assert (status, text, "Refresh" in headers) == (200, "", False)
        assert headers["Content-Length"] == "3"


def test_nothing_else_is_answered() -> None:
    page = Fake()
    with serving(LiveServer(page.live())) as port:
        assert ask(port, host="evil.example")[0] == 421
        assert ask(port, host="127.0.0.1")[0] == 421
        assert ask(port, host=f"localhost:{port}")[0] == 200
        assert ask(port, "/etc/passwd")[0] == 404
        assert ask(port, "/?run=other")[0] == 404
        assert ask(port, method="POST")[0] == 501
        with pytest.raises(EnvironmentFault, match="VIT-524"):
            LiveServer(page.live(), port)
    page.fault = True
    with serving(LiveServer(page.live())) as port:
        status, _, text = ask(port)
        assert (status, text) == (503, "VIT-406: torn")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A run that somebody trains."""
    folder = made_run(tmp_path / "photos-1", ["cat", "dog"], n=23)
    for name in ("metrics.json", "predictions.csv", "confusion.csv", "calibration.json"):
        for path in folder.glob(f"eval/*/{name}"):
            path.unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running", "results": {}}))
    (folder / "metrics.jsonl").write_text('{"step": 7, "epoch": 1.0, "train/loss": 2.0}\n')
    with RunLock(folder):
        yield folder


def test_the_page_follows_the_run(running: Path) -> None:
    report = LiveReport(running)
    report.images = NoImages("no images here")
    assert report.is_live()
    before, page = report.state(), report.made()
    assert "Not evaluated yet" in page
    with (running / "metrics.jsonl").open("a") as log:
        log.write(
            '{"step": 14, "epoch": 2.0, "val/loss": 1.5, "val/top1": 0.625}\n{"step": 15, "ep'
        )
    assert report.state() != before
    page = report.made()
    assert "62.5\N{NO-BREAK SPACE}% so far" in page or "62.5 % so far" in page
    assert "The run is running." in page
    assert "Content-Security-Policy" in page


def test_a_finished_run_shows_the_report_that_it_wrote(running: Path) -> None:
    (running / "report.html").write_text("the report")
    assert LiveReport(running).made() != "the report"
    record = json.loads((running / "run.json").read_text())
    (running / "run.json").write_text(json.dumps({**record, "status": "finished"}))
    assert LiveReport(running).made() == "the report"


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="VIT-407"):
        live_report(tmp_path)
    done = run("report", tmp_path, "--port", "8001")
    assert (done.code, "VIT-202" in done.err, "--watch" in done.err) == (2, True, True)


def heed_interrupts() -> None:
    """In a child of a shell's background job Ctrl-C is ignored, which is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_prints_where_and_ends_with_130(running: Path) -> None:
    words = [sys.executable, "-m", "vitrail", "report", str(running), "--watch"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as server:
        assert server.stdout is not None
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", server.stdout.readline())
        assert found is not None
        status, headers, text = ask(int(found[1]))
        assert (status, headers["Refresh"]) == (200, "5")
        assert "photos-1" in text
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert server.returncode == 130
    assert "Traceback" not in said
    assert sorted(path.name for path in running.iterdir() if path.name.startswith("report")) == []
