"""The processes of one run, and the few words that they exchange.

torchrun, or `vitrail train --nproc`, starts them and says in the environment which one each is.
All that a clock, a signal or a disk decides is decided by one of them and told, because a process
that stops alone leaves the others waiting in a reduction. Words are JSON or arrays, never pickles.
An error of one is left in the store of the group before it goes; the others meet a closed
connection, look there, and end with the same error (`contact`).

torch.distributed is imported only where there is more than one process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from vitrail.errors import EnvironmentFault, UsageError, VitrailError, environment_fault
from vitrail.spelling import count
from vitrail.system.interrupts import Interrupted
from vitrail.training.ranks.launch import STORE

LONGEST = timedelta(hours=2)  # that one process may look at data while the others wait
LAST_SECS = 5.0  # that the process which holds the store waits for others to read it
FAULT = "vitrail/fault"
TOLD = "raised, and said, by another process of the run"
KINDS: dict[str, type[VitrailError]] = {
    kind.__name__: kind for kind in VitrailError.__subclasses__()
}


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `world`, and its place among the processes of its machine. is_sharded:
    whether each keeps a share of the network only.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    is_sharded: bool = False

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    @property
    def is_first(self) -> bool:
        """Whether this process plans, writes and speaks."""
        return self.rank == 0

    def agree(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64."""
        if self.is_alone:
            return list(values)
        import torch.distributed as dist

        sums = torch.tensor(values, dtype=torch.float64)
        with self.contact():
            dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def tell(self, word: Any = None) -> Any:
        """The JSON value that the first process gives, on every process."""
        if self.is_alone:
            return word
        content = json.dumps(word).encode() if self.is_first else b""
        return json.loads(self._broadcast(content))

    def collect(self, content: bytes) -> list[bytes]:
        """What each process gives, in their order, on the first process; nothing on the others."""
        if self.is_alone:
            return [content]
        import torch.distributed as dist

        sizes = [0] * self.world
        sizes[self.rank] = len(content)
        sizes = [int(size) for size in self.agree(sizes)]
        padded = torch.zeros(max(1, *sizes), dtype=torch.uint8)
        padded[: len(content)] = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[
            : len(content)
        ]
        found = [torch.empty_like(padded) for _ in sizes] if self.is_first else None
        with self.contact():
            dist.gather(padded, found)
        pairs = zip(found or (), sizes, strict=False)
        return [one[:size].numpy().tobytes() for one, size in pairs]

    def whole(self, flat: torch.Tensor) -> torch.Tensor:
        """The vectors (n,) of all processes as rows (world, n), on each process and its device."""
        if self.is_alone:
            return flat.unsqueeze(0)
        import torch.distributed as dist

        rows = [torch.empty_like(flat) for _ in range(self.world)]
        with self.contact():
            dist.all_gather(rows, flat)
        return torch.stack(rows)

    def wait(self) -> None:
        """Until every process is here."""
        self.agree([0.0])

    def _broadcast(self, content: bytes) -> bytes:
        import torch.distributed as dist

        with self.contact():
            size = torch.tensor([len(content)])
            dist.broadcast(size, 0)
            room = torch.zeros(int(size), dtype=torch.uint8)
            if self.is_first:
                room.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            dist.broadcast(room, 0)
        return room.numpy().tobytes()

    @contextmanager
    def contact(self) -> Iterator[None]:
        """What is done with the others: where they are gone, their error is raised here, or
        EnvironmentFault VIT-512.
        """
        try:
            yield
        except RuntimeError as error:
            if self.is_alone or not _is_lost(error):
                raise
            raise self.lost(error) from error

    def lost(self, error: Exception) -> BaseException:
        """Why another process has gone."""
        found = _fault_left()
        if found is not None:
            return rebuilt(found)
        text = str(error).splitlines()[0][:200]
        return EnvironmentFault(
            "VIT-512",
            f"process {self.rank} of {self.world}: another process of this run has gone or does "
            f"not answer ({text}).",
            hint="Its own output says why, or the system killed it (memory). The run goes on from "
            "its last checkpoint: vitrail train --resume RUN --nproc N",
        )


ALONE = Ranks()


def ranks_of_environment(environ: Mapping[str, str] | None = None) -> Ranks:
    """Which process this is, from the variables that torchrun sets; `ALONE` without them. Raises
    UsageError VIT-257 where they make no sense.
    """
    environ = os.environ if environ is None else environ
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    can_meet = STORE in environ or {"MASTER_ADDR", "MASTER_PORT"} <= environ.keys()
    if not can_meet or not all(name in environ for name in names):
        return ALONE
    try:
        rank, world, local_rank, local_world = (int(environ[name]) for name in names)
    except ValueError:
        rank, world, local_rank, local_world = -1, 0, -1, 0
    if not (0 <= rank < world and 0 <= local_rank < local_world <= world):
        said = ", ".join(f"{name}={environ[name]}" for name in names)
        raise UsageError(
            "VIT-257",
            f"the environment does not say which process of a run this is: {said}.",
            hint="torchrun or vitrail train --nproc N sets these; unset them to train alone.",
        )
    return Ranks(rank, world, local_rank, local_world)


def check_device(device: str, ranks: Ranks) -> None:
    """Raise UsageError VIT-258 where `device` cannot be that of several processes."""
    if ranks.is_alone or device == "cpu":
        return
    have = torch.cuda.device_count()
    if device == "cuda" and ranks.local_world <= have:
        return
    raise UsageError(
        "VIT-258",
        f"device {device}: each process needs a GPU of its own; this machine has {have} for "
        f"{count(ranks.local_world, 'process')}.",
        hint="Use as many processes as there are GPUs (--nproc) and --device cuda, or --device cpu",
    )


@contextmanager
def joined(ranks: Ranks) -> Iterator[Ranks]:
    """The processes find each other; an error of this one is left for the others. Raises
    EnvironmentFault VIT-512 where they do not meet.
    """
    if ranks.is_alone:
        yield ranks
        return
    import torch.distributed as dist

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(ranks.local_rank % torch.cuda.device_count())
    try:
        place = os.environ.get(STORE)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=file_store(place, ranks.world) if place else None,
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=LONGEST,
        )
    except (RuntimeError, ValueError) as error:
        raise ranks.lost(error) from error
    try:
        yield ranks
    except BaseException as error:
        _leave_fault(ranks, error)
        raise
    finally:
        with suppress(Exception):  # it is gone where an error was left
            dist.destroy_process_group()


def file_store(place: str, world: int) -> Any:
    """A store in a file, by which processes of one machine meet."""
    from torch import distributed

    return distributed.FileStore(place, world)  # type: ignore[attr-defined]


def is_told(error: BaseException) -> bool:
    """Whether another process has raised this error, and said it."""
    return TOLD in getattr(error, "__notes__", ())


def written(error: BaseException) -> dict[str, Any]:
    """An error as JSON: its class, and what it says."""
    if isinstance(error, KeyboardInterrupt):
        return {"kind": "Interrupted", "name": getattr(error, "name", "SIGINT")}
    known = error if isinstance(error, VitrailError) else None
    if known is None and isinstance(error, Exception):
        known = environment_fault(error)
    if known is None:
        known = VitrailError("VIT-100", f"internal error {type(error).__name__}: {error}"[:500])
    return {
        "kind": type(known).__name__,
        "code": known.code,
        "message": known.message,
        "hint": known.hint,
    }


def rebuilt(record: Mapping[str, Any]) -> BaseException:
    """The error that `written` made a record of, marked as told."""
    error: BaseException
    if record["kind"] == "Interrupted":
        error = Interrupted(str(record["name"]))
    else:
        kind = KINDS.get(str(record["kind"]), VitrailError)
        error = kind(str(record["code"]), str(record["message"]), hint=str(record["hint"]))
    error.add_note(TOLD)
    return error


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _leave_fault(ranks: Ranks, error: BaseException) -> None:
    """Leave `error` in the store, unless it came from there; the holder of the store waits a little
    for the others to read it.
    """
    if is_told(error):
        with suppress(Exception):
            _store().add(f"{FAULT}/seen", 1)
        return
    with suppress(Exception):
        store = _store()
        store.set(FAULT, json.dumps(written(error)))
        import torch.distributed as dist

        dist.destroy_process_group()
        if ranks.is_first:
            _wait_for_readers(store, ranks.world - 1)


def _wait_for_readers(store: Any, count: int) -> None:
    until = time.monotonic() + LAST_SECS
    while time.monotonic() < until and store.add(f"{FAULT}/seen", 0) < count:
        time.sleep(0.05)


def _fault_left() -> dict[str, Any] | None:
    """The error that another process left; None where it left none within a second."""
    try:
        store = _store()
        store.wait([FAULT], timedelta(seconds=1))
        found: dict[str, Any] = json.loads(store.get(FAULT))
    except Exception:
        return None
    return found


def _is_lost(error: RuntimeError) -> bool:
    """Whether a collective failed because of another process."""
    text = str(error)
    names = (
        "gloo",
        "NCCL",
        "Connection",
        "connection",
        "peer",
        "Broken pipe",
        "Timed out",
        "Socket",
    )
    return type(error).__name__.startswith("Dist") or any(name in text for name in names)
