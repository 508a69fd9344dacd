"""Models behind HTTP by another process, as `vitrail serve` starts it.

A notebook has an event loop already, and a script wants to go on: the server answers until `stop`,
the end of a `with` block, or the end of the process that started it.
"""

from __future__ import annotations

import atexit
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

from vitrail.api.options import shows_options
from vitrail.errors import EnvironmentFault, UsageError, fault_of
from vitrail.notebook import open_page, show, table
from vitrail.system import background
from vitrail.system.child_process import python_command

START_SECS = 300.0  # to load all models
STOP_SECS = 60.0  # to answer what was accepted
READY = "ready"  # what it says then (cli/verbs/serve.py)
LAST_LINES = 5  # of what the process printed, in a message


class ServeOptions(TypedDict, total=False):
    """The options of `vitrail serve`; docs/cli.md says what each does."""

    host: str
    port: int
    token_file: str | Path
    no_auth: bool
    allow_host: Sequence[str]
    batch: int
    wait_ms: int
    queue: int
    deadline_ms: int
    max_body: int
    max_pixels: int
    engines: int
    decoders: int
    threads: int
    engine: Literal["auto", "torch", "onnx", "openvino"]
    precision: str
    device: str


class Serving:
    """A server that runs. url: its address, the page for people; models: their names there, the
    first is the default; limits: what it accepts.
    """

    def __init__(self, process: background.Background, folder: Any, record: dict[str, Any]) -> None:
        self.url = str(record.pop("url"))
        self.models: list[str] = record.pop("models")
        self.limits = {key: one for key, one in record.items() if key != "uds"}
        self._process, self._folder = process, folder
        atexit.register(self.stop)

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._process.is_running

    def stop(self, secs: float = STOP_SECS) -> int:
        """Accept nothing more, answer what was accepted, and end; its exit code, 0 where nothing
        was lost. secs: how long that may take.
        """
        atexit.unregister(self.stop)
        (code,) = self._process.end(secs)
        self._folder.cleanup()
        return code

    def show(self, *, browser: bool = False) -> None:
        """Show the address in the notebook; elsewhere print it. browser=True opens the page."""
        if browser:
            open_page(self.url + "/")
        else:
            show(self, self.rows())

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        state = "running" if self.is_running else "ended"
        classify = f"POST an image to {self.url}/v1/classify"
        page = ("page", f"{self.url}/")
        return [("server", state), ("models", ", ".join(self.models)), page, ("classify", classify)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return (
            f"Serving({', '.join(self.models)} at {self.url}{'' if self.is_running else ', ended'})"
        )

    def _repr_html_(self) -> str:
        return table(self.rows(), title="Server")


def options_of(options: Mapping[str, Any]) -> list[str]:
    """The words of the command for keyword arguments: a port of 0 takes any that is free."""
    words = []
    for name, value in {"port": 0, **options}.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] * value
        elif isinstance(value, list | tuple):
            words += [word for one in value for word in (option, str(one))]
        elif value is not None:
            words += [option, str(value)]
    return words


@partial(shows_options, options=ServeOptions)
def serve(*models: str | Path, **options: Unpack[ServeOptions]) -> Serving:
    """Serve models over HTTP, by another process, which answers when this returns.

    models: runs, model folders or checkpoints; the first is the default. options: those of the
    command `vitrail serve` (extra "serve"); without a port any that is free is taken. `with
    vitrail.serve("runs/photos-1") as server:` ends it at the end of the block; `server.url` is its
    address.

    Raises UsageError VIT-201, VIT-202, VIT-203, VIT-211, VIT-296, VIT-297; EnvironmentFault
    VIT-520, VIT-524 also where it is not ready within 5 minutes, VIT-526; what loading raises.
    """
    unknown = sorted(set(options) - set(ServeOptions.__annotations__))
    if unknown:
        known = ", ".join(ServeOptions.__annotations__)
        raise UsageError("VIT-211", f"unknown option {unknown[0]}.", hint=f"Known: {known}")
    folder = tempfile.TemporaryDirectory(prefix="vitrail-serve-")
    words = [*python_command("vitrail"), "serve", *map(str, models), *options_of(options)]
    log = Path(folder.name) / "log"
    process = background.start([*words, "--json"], [{}], Path.cwd(), log)
    try:
        return Serving(process, folder, _record_of(process, log))
    except BaseException:
        process.kill()
        folder.cleanup()
        raise


def _record_of(process: background.Background, log: Path) -> dict[str, Any]:
    """What the server printed, once it answers. Raises what it ended with."""

    def lines() -> list[str]:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()

    def is_over() -> bool:
        return READY in lines() or not process.is_running

    came = background.wait(is_over, time.monotonic() + START_SECS)
    records = [json.loads(line) for line in lines() if line.startswith("{") and line[-1] == "}"]
    for record in records:
        if "code" in record:
            raise fault_of(record)
    if READY in lines() and records:
        found: dict[str, Any] = records[0]
        return found
    what = "ended" if came else "is not ready"
    raise EnvironmentFault("VIT-524", f"the server {what}: {' '.join(lines()[-LAST_LINES:])}")
