"""uvicorn with an end of its own: SIGTERM drains and exits 0, SIGHUP loads the models again."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from vitrail.errors import EnvironmentFault, VitrailError
from vitrail.serve.service import Service

HEADER_SECS = 10.0  # for the first request of a connection to begin
BACKLOG = 1024
LINGER_SECS = 0.2  # between the last connection that is taken and the end
REFUSED = (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 is any that is free."""

    host: str = "127.0.0.1"
    port: int = 8000

    def listen(self) -> socket.socket:
        """A socket that takes connections. Raises EnvironmentFault VIT-524."""
        try:
            kind, _, _, _, place = socket.getaddrinfo(
                self.host.strip("[]"), self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError, OverflowError) as error:
            raise _cannot_listen(self, str(error)) from error
        found = socket.socket(kind, socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(BACKLOG)
        except OSError as error:
            found.close()
            raise _cannot_listen(self, error.strerror or str(error)) from error
        found.setblocking(False)
        return found


def _cannot_listen(address: Address, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "VIT-524",
        f"{address.host} port {address.port} cannot be listened on: {why}.",
        hint="Another port: --port 8001 (0 takes any that is free); below 1024 needs permission.",
    )


def url_of(listener: socket.socket) -> str:
    """http://HOST:PORT of a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Protocol(H11Protocol):
    """h11 has limits for the size of headers; this one has one for their time, too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(HEADER_SECS, self._check_begun)

    def _check_begun(self) -> None:
        if self.cycle is None:
            self.transport.close()


class Server(uvicorn.Server):
    """One service on one socket. drain_delay: seconds in which requests are still answered after
    SIGTERM, while /v2/health/ready says no.
    """

    def __init__(self, app: ASGIApp, service: Service, drain_delay: float = 0.0) -> None:
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
        self._service, self._drain_delay = service, drain_delay
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False
        self.fault: VitrailError | Exception | None = None

    async def run_on(self, listener: socket.socket) -> None:
        """Listen and warm up at the same time; until the end. Raises what the start raises."""
        self._take_signals()
        self._do(self._start())
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
        """Nothing, where uvicorn would take signals and raise them again at its end: `run_on` has
        its own.
        """
        yield

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._do(self._service.reload()))
