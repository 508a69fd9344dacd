"""`vitrail train --nproc N`: N processes of this machine train one run.

They are told apart by the variables of torchrun and meet through a file, in a folder of their own:
no port, and no address of an attempt before. A process that the system killed ends the others; the
run then goes on from its newest checkpoint, unless it has come no further since the last time. An
error that a process tells is the user's: nothing is started again, and its exit code is ours.
Several machines need torchrun, which starts the same processes (docs/many_processes.md).

No torch here: the processes load it, at the same time.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from vitrail.errors import EnvironmentFault
from vitrail.files import write_whole
from vitrail.system.child_process import python_command
from vitrail.system.process_group import run_group

STORE = "_VITRAIL_STORE"  # the file through which the processes meet
RUN_FILE = "_VITRAIL_RUN"  # where the first one writes which run it is
MOST_RESTARTS = 3  # without a new checkpoint
ASKED = (signal.SIGINT, signal.SIGTERM)

Say = Callable[[str], None]


def launch(words: Sequence[str], nproc: int, again: Callable[[Path], list[str]], say: Say) -> int:
    """Run `vitrail WORDS` in `nproc` processes; the exit code.

    again: the words that go on with a run; say: hears of restarts. Raises EnvironmentFault VIT-514
    where processes were killed once too often.
    """
    seen, restarts = "", 0
    with tempfile.TemporaryDirectory(prefix="vitrail-") as folder:
        run_file = Path(folder) / "run"
        for attempt in range(sys.maxsize):
            store = Path(folder) / f"store-{attempt}"
            codes = run_group(
                [*python_command("vitrail"), *words], environments(nproc, store, run_file)
            )
            killed = next((code for code in codes if code < 0 and -code not in ASKED), 0)
            if not killed:
                return next((code for code in codes if code > 0), 0)
            run = Path(run_file.read_text(encoding="utf-8")) if run_file.exists() else None
            newest = _newest(run)
            restarts = restarts + 1 if newest == seen else 1
            name = signal.Signals(-killed).name
            if run is None or not newest or restarts > MOST_RESTARTS:
                raise _lost(name, run, restarts - 1)
            say(f"a process was ended by {name}: the run goes on from {newest}")
            seen, words = newest, again(run)
    return 0


def note_run(path: str) -> None:
    """Tell who started this process, if that was `launch`, which run it trains."""
    if RUN_FILE in os.environ:
        write_whole(Path(os.environ[RUN_FILE]), path.encode(), replace=True)


def environments(nproc: int, store: Path, run_file: Path) -> list[dict[str, str]]:
    """What tells each of `nproc` processes which one it is, and where the others are met."""
    loopback = "lo" if sys.platform == "linux" else "lo0"
    return [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(nproc),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(nproc),
            "GLOO_SOCKET_IFNAME": loopback,
            STORE: str(store),
            RUN_FILE: str(run_file),
        }
        for rank in range(nproc)
    ]


def _newest(run: Path | None) -> str:
    """The newest checkpoint of a run by name; "" where it has none."""
    folder = run / "checkpoints" if run is not None else None
    if folder is None or not folder.is_dir():
        return ""
    return max((one.name for one in folder.iterdir() if one.name.startswith("step-")), default="")


def _lost(name: str, run: Path | None, restarts: int) -> EnvironmentFault:
    times = f" and again after {restarts} restarts" if restarts else ""
    way = f"vitrail train --resume {run} --nproc N" if run is not None else "the same command"
    return EnvironmentFault(
        "VIT-514",
        f"a process of the run was ended by {name}{times}.",
        hint="The system does that where memory is used up: use fewer processes, or more parts "
        f"(--optim.accumulate). Go on with {way}",
    )
