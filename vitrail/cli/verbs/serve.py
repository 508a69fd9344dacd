"""`vitrail serve MODEL...`: models behind HTTP, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.display.streams import say_aside
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import UsageError, check_numbers, lacking
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.serve.limits import Limits
    from vitrail.serve.served_model import Wanted

app = app_of("vitrail serve")
MIB = 2**20
READY = "ready"  # said on stderr once requests are answered (api/serving.py waits for it)
LINGER_SECS = 1.0  # for threads to end by themselves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask."""

    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own need --token-file or --no-auth."""
    port: int = 8000
    """Port to listen on; 0 takes any that is free."""
    token_file: Path | None = None
    """File with the token that clients send (Authorization: Bearer TOKEN); mode 600."""
    no_auth: Annotated[bool, Parameter(negative=())] = False
    """Answer everybody on an address that other machines reach."""
    uds: Path | None = None
    """Socket file to listen on, for a proxy of this machine, instead of a port."""
    tls_cert: Path | None = None
    """Certificate for HTTPS, PEM; needs --tls-key."""
    tls_key: Path | None = None
    """Its key, PEM without a password; mode 600."""
    allow_host: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A host name that clients use for this server. May be repeated."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """What is accepted at a time."""

    batch: int = 16
    """Largest batch."""
    wait_ms: int = 0
    """How long a batch waits for more images, in ms."""
    queue: int = 64
    """Images accepted and not yet answered; more get 503 with Retry-After."""
    deadline_ms: int = 30_000
    """Time for one request, in ms; then 504, and nothing is computed."""
    max_body: int = 10
    """Size of a request in MiB, at most."""
    max_pixels: int = 64_000_000
    """Pixels of an image, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Who computes, and how."""

    engines: int | None = None
    """Batches computed at the same time. Default: one for each core."""
    decoders: int | None = None
    """Data-loading workers (processes). Default: one for each core, at most 4."""
    threads: int = 1
    """Threads of each engine."""
    engine: str = "auto"
    """auto, torch, onnx or openvino. auto: the fastest that is installed and agreed with torch when
    the model was exported."""
    precision: str | None = None
    """float32, bfloat16, int8, or auto: any that agreed. Default: what an export was made for;
    float32 of other models."""
    device: str = "cpu"
    """Where the models compute: cpu, cuda, mps or auto."""

    def check(self) -> None:
        """Raises UsageError VIT-202 for a number that is not above 0."""
        given = {"--engines": self.engines, "--decoders": self.decoders, "--threads": self.threads}
        check_numbers({name: value for name, value in given.items() if value is not None})

    def settled(self) -> tuple[int, int]:
        """Engines and decoders: those that were given, or what this machine has cores for."""
        from vitrail.device import num_cores

        cores = num_cores()
        engines = cores if self.device == "cpu" else 1
        return self.engines or engines, self.decoders or min(4, cores)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """What is said and done while it runs."""

    drain_delay: float = 0.0
    """Seconds in which requests are still answered after SIGTERM, while the server says that it is
    not ready."""
    access_log: Annotated[bool, Parameter(negative=())] = False
    """Write one JSON line for each request to stderr."""

    def check(self) -> None:
        """Raises UsageError VIT-202 for a time below 0."""
        if self.drain_delay < 0:
            raise UsageError(
                "VIT-202",
                f"--drain-delay: expected seconds from 0, got {self.drain_delay:g}.",
                hint="For instance --drain-delay 5",
            )


@app.default
def serve(
    models: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    /,
    *,
    access: Annotated[Access | None, Parameter(name="*")] = None,
    room: Annotated[Room | None, Parameter(name="*")] = None,
    work: Annotated[Work | None, Parameter(name="*")] = None,
    running: Annotated[Running | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Serve classifiers over HTTP.

    Parameters
    ----------
    models
        Run directories, model directories or checkpoints. The first is the default model.
    """
    access, room = access or Access(), room or Room()
    work, running = work or Work(), running or Running()
    limits = checked(access, room)
    if not models:
        raise UsageError(
            "VIT-201", "MODEL is missing: what to serve.", hint="vitrail serve runs/NAME"
        )
    work.check()
    running.check()
    require_serve()
    from vitrail.serve.served_model import Wanted, name_of, unique

    engines, decoders = work.settled()
    reading = partial(
        load,
        read_as=read_as,
        output=output,
        device=work.device,
        engine=EngineOptions(engine=work.engine, precision=work.precision, threads=work.threads),
        batch=room.batch,
        streams=engines,
    )
    wanted = unique([Wanted(name_of(one), partial(reading, one)) for one in models])
    return run(wanted, limits, access, running, output, engines=engines, decoders=decoders)


def checked(access: Access, room: Room) -> Limits:
    """The limits. Raises UsageError VIT-202, VIT-203, VIT-296, VIT-297."""
    from vitrail.serve.limits import Limits, check_exposure

    check_exposure(access.host, access.token_file, access.no_auth)
    check_listening(access)
    if not 0 <= access.port < 65_536:
        raise UsageError("VIT-202", f"--port: expected 0 to 65535, got {access.port}.")
    values = dataclasses.asdict(room) | {"max_body": room.max_body * MIB}
    limits = Limits(**values)
    limits.check()
    return limits


def check_listening(access: Access) -> None:
    """Raises UsageError VIT-203 for options of which one has no effect."""
    if access.uds is not None and (access.host, access.port) != (Access.host, Access.port):
        raise UsageError(
            "VIT-203", "--uds excludes --host and --port.", hint="Keep the one or the other."
        )
    if (access.tls_cert is None) != (access.tls_key is None):
        raise UsageError(
            "VIT-203", "--tls-cert and --tls-key belong together.", hint="Give both, or none."
        )


def require_serve() -> None:
    """Raises EnvironmentFault VIT-520 without the packages of the extra."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise lacking("serving", "starlette and uvicorn", "serve") from error


def run(
    wanted: list[Wanted],
    limits: Limits,
    access: Access,
    running: Running,
    output: Output,
    *,
    engines: int,
    decoders: int,
) -> int:
    """Listen until the end; 0, or 1 where something accepted was not answered in time.

    Raises EnvironmentFault VIT-524, VIT-526, what loading raises.
    """
    from vitrail.serve.limits import read_token
    from vitrail.serve.listening import Address, SocketFile, tls_context, url_of
    from vitrail.serve.routes.app import application
    from vitrail.serve.server import Server, is_busy
    from vitrail.serve.service import Service

    token = None if access.token_file is None else read_token(access.token_file)
    tls = None
    if access.tls_cert is not None and access.tls_key is not None:
        tls = tls_context(access.tls_cert, access.tls_key)
    place = Address(access.host, access.port) if access.uds is None else SocketFile(access.uds)
    listener = place.listen()
    url = url_of(listener, is_tls=tls is not None)

    async def main() -> bool:
        service = Service(wanted, limits, engines=engines, decoders=decoders)
        app = application(
            service,
            hosts=(access.host, *access.allow_host),
            token=token,
            say=say_aside if running.access_log else None,
        )
        names = [one.name for one in wanted]
        uds = None if access.uds is None else str(access.uds)
        record = {"url": url, "uds": uds, "models": names, **dataclasses.asdict(limits)}
        server = Server(app, service, running.drain_delay, tls, lambda: output.note(READY))
        server.take_signals()
        output.result(record, lines_of(url, uds, names, limits))
        await server.run_on(listener)
        return server.is_cut

    code = int(asyncio.run(main()))
    if is_busy(LINGER_SECS):  # python would wait for it
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    return code


def lines_of(url: str, uds: str | None, names: list[str], limits: Limits) -> list[str]:
    """What is printed at the start."""
    by, through = (f" by {uds}", f"--unix-socket {uds} ") if uds else ("", "")
    page = [f"  page      {url}/"] * (uds is None)
    return [
        f"serving {', '.join(names)} at {url}{by}",
        *page,
        f"  classify  curl {through}-H 'Content-Type: image/jpeg' --data-binary @IMAGE "
        f"{url}/v1/classify",
        f"  limits    {count(limits.queue, 'image')} waiting, batches of {limits.batch}, "
        f"{limits.max_body // MIB} MiB a request, {limits.deadline_ms / 1000:g} s each",
        "  stop      Ctrl-C or SIGTERM; load the models again: SIGHUP",
    ]
