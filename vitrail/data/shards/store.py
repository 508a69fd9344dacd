"""Bytes of shards: a place in a file, read without a position that processes could share.

Descriptors are opened when they are first needed and kept, a bounded number of them in each
process; `os.pread` leaves nothing behind, so forked workers and threads may read at once. A shard
that is not as long as its index says is refused by its name.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

from vitrail.errors import DataError
from vitrail.spelling import printable

MOST_OPEN = 256  # descriptors of a process


class Shard(NamedTuple):
    """A file of images: its name below the root of the store, its length and sha256."""

    name: str
    num_bytes: int
    sha256: str


class Store(Protocol):
    """Where shards lie."""

    def read(self, shard: Shard, offset: int, size: int) -> bytes: ...


class Descriptor:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC
        self._close = os.close  # still there when the interpreter ends
        self.number = os.open(path, flags)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            self._close(self.number)


@lru_cache(maxsize=MOST_OPEN)
def local_file(path: str, num_bytes: int, _: int) -> Descriptor:
    """Of a regular file of that length. Raises OSError, ValueError."""
    found = Descriptor(path)
    facts = os.fstat(found.number)
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is no file")
    if facts.st_size != num_bytes:
        raise ValueError(f"{facts.st_size:,} bytes; when it was indexed it had {num_bytes:,}")
    return found


@dataclass(frozen=True)
class LocalStore:
    """Shards in a folder. opened: when, so that a file that took another's place is opened anew."""

    root: str
    opened: int = field(default_factory=lambda: int.from_bytes(os.urandom(7)))

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        """Some bytes of a shard. Raises DataError VIT-333 where it is not what was indexed."""
        path = os.path.join(self.root, shard.name)
        try:
            file = local_file(path, shard.num_bytes, self.opened)
            data = os.pread(file.number, size, offset)
        except OSError as error:
            raise differs(path, f"cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise differs(path, str(error)) from error
        if len(data) != size:
            raise differs(path, f"it ends before byte {offset + size:,}")
        return data


def differs(path: str, why: str) -> DataError:
    """A shard is not what its index says."""
    return DataError(
        "VIT-333",
        f"shard {printable(path)}: {why}.",
        hint="Put the shard back that was indexed, or index the shards again: "
        "vitrail data index SHARDS --out IDX",
    )
