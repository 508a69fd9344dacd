"""What stands before every route: who asks, under which name, and what is written down about it.

No CORS: a page of another origin gets no answer to read, and cannot send what the routes take
without asking first, which is refused. A Host that is neither an address nor one of the allowed
names is refused, so that no other site's name can be pointed here (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitrail.errors import VitrailError
from vitrail.serve.metrics import Metrics
from vitrail.serve.problem import ClientGoneError, Problem, of_error, refused

log = logging.getLogger("vitrail.serve")
LINGER_SECS, LINGER_BYTES = 2.0, 64 * 2**20
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LONGEST_PATH = 200
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gate:
    """hosts: names that are allowed beside addresses; token: None lets everybody in; open_paths:
    need no token; closing: says whether connections end with their answer; say: takes a line of
    the access log.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        *,
        hosts: Sequence[str] = (),
        token: str | None = None,
        open_paths: Sequence[str] = (),
        closing: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._app, self._metrics = app, metrics
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._token, self._closing, self._say = token, closing, say
        self._open = {*open_paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._closing)
        try:
            self._check(Headers(scope=scope), scope["path"])
            await self._app(scope, receive, exchange.send)
        except ClientGoneError:
            exchange.status = 499
        except Problem as problem:
            await self._refuse(problem, exchange, scope, receive)
        except HTTPException as error:  # the router's: no such path, or not that method
            allow = (error.headers or {}).get("Allow", "")
            unknown = Problem(
                error.status_code, "VIT-915", "the paths are those of docs/serve.md", allow=allow
            )
            await self._refuse(unknown, exchange, scope, receive)
        except VitrailError as error:
            await self._refuse(of_error(error), exchange, scope, receive)
        except Exception:
            log.exception("request %s failed", exchange.id)
            await self._refuse(Problem(500, "VIT-100"), exchange, scope, receive)
        finally:
            self._note(exchange)

    def _check(self, headers: Headers, path: str) -> None:
        """Raises Problem 401, 421."""
        if not self._is_allowed(headers.get("host", "")):
            raise refused(421, "this server does not answer under that Host", closes=True)
        if self._token is None or path in self._open:
            return
        given = headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise refused(401, "send Authorization: Bearer TOKEN", closes=True)

    def _is_allowed(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host).lower().strip("[]")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    async def _refuse(
        self, problem: Problem, exchange: _Exchange, scope: Scope, receive: Receive
    ) -> None:
        """Answer; a body that nobody reads is taken for a while, so that the answer is seen."""
        if exchange.status:  # too late for another answer
            return
        response = problem.response(exchange.id, is_v2=scope["path"].startswith("/v2/"))
        if not problem.closes:
            await response(scope, receive, exchange.send)
            return
        head = {"type": "http.response.start", "status": problem.status}
        await exchange.send({**head, "headers": response.raw_headers})
        body = {"type": "http.response.body", "body": response.body}
        await exchange.send({**body, "more_body": True})
        await _linger(receive)
        await exchange.send({"type": "http.response.body", "body": b""})

    def _note(self, exchange: _Exchange) -> None:
        scope, secs = exchange.scope, time.monotonic() - exchange.began
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._metrics.add("vitrail_requests_total", path=path, status=str(exchange.status))
        self._metrics.observe("vitrail_request_seconds", secs)
        if self._say is None:
            return
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": exchange.id,
            "method": scope["method"],
            "path": scope["path"][:LONGEST_PATH],
            "status": exchange.status,
            "ms": round(secs * 1000, 1),
            "images": scope.get("state", {}).get("images", 0),
        }
        self._say(json.dumps(line))


class _Exchange:
    """One request and what was sent for it."""

    def __init__(self, scope: Scope, send: Send, closing: Callable[[], bool]) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.scope, self.began, self.status = scope, time.monotonic(), 0
        self._send, self._closing = send, closing

    async def send(self, message: Message) -> None:
        """Pass on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._with_headers(message)}
        await self._send(message)

    def _with_headers(self, message: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
        given = [*message.get("headers", [])]
        names = {name.lower() for name, _ in given}
        more = SECURITY | {"X-Request-Id": self.id}
        if self._closing():
            more["Connection"] = "close"
        return given + [
            (name.lower().encode(), value.encode())
            for name, value in more.items()
            if name.lower().encode() not in names
        ]


async def _linger(receive: Receive) -> None:
    """Take what still comes of a body, within limits, and forget it."""
    taken = 0
    try:
        async with asyncio.timeout(LINGER_SECS):
            while taken < LINGER_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
