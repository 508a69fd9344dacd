"""A page of this machine that is made anew while something changes: `vitrail report RUN --watch`.

Listens on loopback only and answers one address, `/`. The page itself has no script that loads
anything: a browser asks again because the answer says so (the header Refresh), and gets 304 while
nothing has changed. A request for another host is refused, so that no page elsewhere can read this
one through a name that leads here.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vitrail.errors import VitrailError
from vitrail.serve.listening import Address

HOST = "127.0.0.1"
REFRESH_SECS = 5
SLOW_SECS = 10.0  # for a request to come
HEADERS = (
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
)


@dataclass(frozen=True)
class Live:
    """What is shown. state: what the page follows from, cheap to tell; made: the page of now;
    is_live: whether it will change.
    """

    state: Callable[[], Hashable]
    made: Callable[[], str]
    is_live: Callable[[], bool]


class LivePage:
    """The newest page, made when it is asked for and something has changed since."""

    def __init__(self, live: Live) -> None:
        self.live, self.lock = live, threading.Lock()
        self.state: Hashable = None
        self.content, self.tag = b"", ""

    def newest(self) -> tuple[bytes, str]:
        """The page and its tag. Raises VitrailError where there has never been one."""
        with self.lock:
            state = self.live.state()
            if state != self.state or not self.content:
                try:
                    self.content = self.live.made().encode()
                except VitrailError:  # a file that is being written: the page before stays
                    if not self.content:
                        raise
                    return self.content, self.tag
                self.state = state
                self.tag = f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'
            return self.content, self.tag


class LiveServer:
    """Answers until it is closed. port: 0 is any that is free."""

    def __init__(self, live: Live, port: int = 0) -> None:
        """Raises EnvironmentFault VIT-524 where nothing can listen there."""
        place = Address(HOST, port).listen()
        place.setblocking(True)
        self.port = int(place.getsockname()[1])
        answers = partial(PageHandler, LivePage(live), self.port)
        self.server = ThreadingHTTPServer((HOST, 0), answers, False)
        self.server.daemon_threads = True
        self.server.socket.close()
        self.server.socket = place

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}/"

    def serve(self) -> None:
        """Answer, until `close` in another thread or KeyboardInterrupt."""
        self.server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End `serve`."""
        self.server.shutdown()

    def close(self) -> None:
        """Give the port back."""
        self.server.server_close()


class PageHandler(BaseHTTPRequestHandler):
    """What answers a request for the page that listens on `port`."""

    timeout = SLOW_SECS
    server_version, sys_version = "vitrail", ""

    def __init__(self, page: LivePage, port: int, *of_the_request: Any) -> None:
        self.page, self.hosts = page, {f"{HOST}:{port}", f"localhost:{port}"}
        super().__init__(*of_the_request)

    def do_GET(self) -> None:
        """Answer with the page, or say what is wrong with the question."""
        if self.headers.get("Host") not in self.hosts:
            self.answer(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path != "/":
            self.answer(HTTPStatus.NOT_FOUND)
        else:
            self.show()

    def do_HEAD(self) -> None:
        """The same without the page."""
        self.do_GET()

    def show(self) -> None:
        """The page, or that it is still the one the browser has."""
        is_live = self.page.live.is_live()  # first: what changes later is asked for again
        refresh = [("Refresh", str(REFRESH_SECS))] if is_live else []
        try:
            content, tag = self.page.newest()
        except VitrailError as fault:
            text = f"{fault.code}: {fault.message}".encode()
            self.answer(HTTPStatus.SERVICE_UNAVAILABLE, text, refresh)
            return
        if self.headers.get("If-None-Match") == tag:
            self.answer(HTTPStatus.NOT_MODIFIED, more=[("ETag", tag), *refresh])
        else:
            self.answer(HTTPStatus.OK, content, [("ETag", tag), *refresh], "text/html")

    def answer(
        self,
        status: HTTPStatus,
        content: bytes = b"",
        more: Sequence[tuple[str, str]] = (),
        kind: str = "text/plain",
    ) -> None:
        """Send status, headers and, unless it was not asked for, the content."""
        content = content or f"{status.value} {status.phrase}".encode()
        has_body = status != HTTPStatus.NOT_MODIFIED
        self.send_response(status)
        for name, value in (*HEADERS, *more):
            self.send_header(name, value)
        if has_body:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if has_body and self.command == "GET":
            with suppress(OSError):  # the browser has gone
                self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: who reads a page of this machine is at it."""
