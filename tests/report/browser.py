"""Headless Chromium over a pipe: what a page asks for, says, measures and looks like.

The DevTools protocol is spoken on file descriptors 3 and 4, one JSON object and a zero byte a
message, so that nothing but Chromium itself is needed and no port is opened.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
WAIT_SECS = 60.0


def chromium() -> str:
    """The program; the test is skipped where there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip("pages are not looked at: there is no chromium on this machine")


class Page:
    """One tab. events: everything that the browser told of it."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def open_tab(self) -> None:
        """A tab that tells of requests, messages and errors."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        answer = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer.get("result", {}))

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], deadline - time.monotonic())
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def visit(self, url: str, *, width: int, height: int, media: Mapping[str, str]) -> None:
        """Open `url` in a window of that size; media: for instance prefers-color-scheme: dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": key, "value": value} for key, value in media.items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(one["method"] == "Page.loadEventFired" for one in self.events):
            self._next()

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last visit, but for data inside the page."""
        told = [one for one in self.events if one["method"] == "Network.requestWillBeSent"]
        found = [str(one["params"]["request"]["url"]) for one in told]
        return [url for url in found if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Messages of the console, errors of scripts, and what the content policy refused."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(one["params"]) for one in self.events if one["method"] in kinds]

    def screenshot(self, path: Path) -> Path:
        """The whole page as a PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def printed(self, path: Path) -> int:
        """The page as a PDF on A4; returns its number of pages."""
        answer = self.ask(
            "Page.printToPDF",
            paperWidth=8.27,
            paperHeight=11.69,
            printBackground=True,
            preferCSSPageSize=True,
        )
        content = base64.b64decode(answer["data"])
        path.write_bytes(content)
        return content.count(b"/Type /Page\n") + content.count(b"/Type /Page/")


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with a new profile in the folder `profile`."""
    to_read, ours_write = os.pipe()
    ours_read, to_write = os.pipe()

    def as_three_and_four() -> None:
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 200) for one in (to_read, to_write)]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)
        os.closerange(5, 256)

    process = subprocess.Popen(
        [chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=as_three_and_four,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        page = Page(ours_write, ours_read)
        page.open_tab()
        yield page
    finally:
        os.close(ours_write)
        os.close(ours_read)
        process.kill()
        process.wait()
