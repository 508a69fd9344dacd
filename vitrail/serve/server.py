"""uvicorn with an end of its own: SIGTERM drains and exits 0, SIGHUP loads the models again."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from vitrail.errors import VitrailError
from vitrail.serve.listening import BACKLOG, ended
from vitrail.serve.service import Service

HEADER_SECS = 10.0  # for the first request of a connection to begin
WORKERS = ("engine", "explain", "decode")  # names of threads
LINGER_SECS = 0.2  # between the last connection that is taken and the end


class _Protocol(H11Protocol):
    """h11 has limits for the size of headers; this one has one for their time, too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(HEADER_SECS, self._check_begun)

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's; who answers the same request at that moment is not heard any more, which
        would be a fault of the server for h11, with a traceback. So would be a text behind the
        answer to HEAD, or within another answer: there the connection is closed without.
        """
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _check_begun(self) -> None:
        if self.cycle is None:
            self.transport.close()


def is_busy(secs: float) -> bool:
    """Whether a thread of a service that is closed still computes after `secs`: what nobody waits
    for any more, as an explanation past its deadline, and what cannot be interrupted.
    """
    until = time.monotonic() + secs
    workers = [one for one in threading.enumerate() if one.name.startswith(WORKERS)]
    for one in workers:
        one.join(max(0.0, until - time.monotonic()))
    return any(one.is_alive() for one in workers)


class Server(uvicorn.Server):
    """One service on one socket. drain_delay: seconds in which requests are still answered after
    SIGTERM, while /v2/health/ready says no; tls: None for plain HTTP; on_ready: called once it
    answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        drain_delay: float = 0.0,
        tls: ssl.SSLContext | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=5,
            )
        )
        self._service, self._drain_delay, self._tls = service, drain_delay, tls
        self._on_ready = on_ready
        self.servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self.is_cut = False  # whether something accepted was not answered in time
        self.fault: VitrailError | Exception | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with a limit for the time of a TLS handshake."""
        await self.lifespan.startup()

        def protocol() -> _Protocol:
            return _Protocol(self.config, self.server_state, self.lifespan.state)

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                protocol,
                sock=one,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=HEADER_SECS if self._tls else None,
            )
            for one in sockets or ()
        ]
        self.started = True

    async def run_on(self, listener: socket.socket) -> None:
        """Listen and warm up at the same time; until the end. Raises what the start raises."""
        self._do(self._start())
        with ended(listener):
            await self.serve(sockets=[listener])
        with suppress(TimeoutError):
            async with asyncio.timeout(self._service.limits.drain_secs):
                await self._service.close()
        for task in self._tasks:
            task.cancel()
        if self.fault is not None:
            raise self.fault

    async def _start(self) -> None:
        try:
            await self._service.start()
            self._on_ready()
        except Exception as fault:
            self.fault = fault
            self.should_exit = True

    def end(self) -> None:
        """Drain and stop; asked twice, stop at once."""
        if self._ending:
            self.should_exit = self.force_exit = True
            return
        self._ending = True
        self._service.phase = "stopping"
        self._do(self._drain())

    async def _drain(self) -> None:
        await asyncio.sleep(self._drain_delay)
        self._service.phase = "draining"
        with suppress(TimeoutError):
            async with asyncio.timeout(self._service.limits.drain_secs):
                await self._all_answered()
                for server in self.servers:
                    server.close()
                await asyncio.sleep(LINGER_SECS)  # who is connected by now may still ask
                await self._all_answered()
        self.is_cut = bool(self.server_state.tasks)
        self.should_exit = True

    async def _all_answered(self) -> None:
        while self.server_state.tasks:
            await asyncio.sleep(0.02)

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Nothing, where uvicorn would take signals and raise them again at its end: `take_signals`
        has its own.
        """
        yield

    def take_signals(self) -> None:
        """From now on SIGTERM and SIGINT drain, SIGHUP reloads; in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._do(self._service.reload()))
