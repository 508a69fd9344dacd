"""Shards of an object store, by fsspec: whole shards in a folder of this machine, within a limit.

A shard is fetched in pieces, each with retries and growing pauses, checked against its length and
sha256, and only then given its name; processes share the folder, and room for a shard is taken
under a lock before its first byte. What was used longest ago gives way. fsspec and the client of a
store are an extra: vitrail[stores].
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitrail.data.shards.store import Shard
from vitrail.errors import DataError, EnvironmentFault, UsageError, install_command
from vitrail.files import cache_root, write_whole
from vitrail.folder import Folder
from vitrail.spelling import printable

ATTEMPTS = 6
FIRST_PAUSE_SECS = 0.2  # doubled each time
PIECE_BYTES = 8 * 2**20
MAX_BYTES = 100 * 10**9
LOG = "retries.log"
_WAIT_SECS = 0.1


def is_url(path: str) -> bool:
    """Whether `path` names a place in a store: s3://bucket/folder."""
    scheme, found, _ = path.partition("://")
    return bool(found) and scheme.isalnum() and scheme not in ("http", "https")


ROOM = "room.lock"  # held while files of the cache come and go


@dataclass(frozen=True)
class CachedStore:
    """Shards below `url`, kept in `folder`, at most `max_bytes` of them."""

    url: str
    folder: str
    max_bytes: int = MAX_BYTES

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        """Some bytes of a shard. Raises DataError VIT-335 where it cannot be fetched."""
        path = Path(self.folder) / f"{shard.sha256}.shard"
        while True:
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self._fetch(shard, path)
                continue
            try:
                os.utime(file)
                return os.pread(file, size, offset)
            finally:
                os.close(file)

    def _fetch(self, shard: Shard, path: Path) -> None:
        """Bring one shard, unless another process has brought it meanwhile."""
        with self._locked(f"{shard.sha256}.lock"):
            if path.exists():
                return
            temporary = path.with_suffix(f".{os.getpid()}.part")
            try:
                self._take_room(shard, temporary)
                self._download(shard, temporary)
                with self._locked(ROOM):
                    os.replace(temporary, path)
            finally:
                with self._locked(ROOM), suppress(FileNotFoundError):
                    temporary.unlink()

    def _download(self, shard: Shard, temporary: Path) -> None:
        place = f"{self.url.rstrip('/')}/{shard.name}"
        digest, done = hashlib.sha256(), 0
        with temporary.open("r+b") as stream:
            while done < shard.num_bytes:
                end = min(done + PIECE_BYTES, shard.num_bytes)
                piece = self._piece(place, done, end)
                digest.update(piece)
                stream.write(piece)
                done = end
        if digest.hexdigest() != shard.sha256:
            raise unfetched(place, 1, "it is not the shard that was indexed: its sha256 differs")

    def _piece(self, place: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a file. Raises DataError VIT-335 after ATTEMPTS."""
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                pause = FIRST_PAUSE_SECS * 2 ** (attempt - 1)
                note = f"{printable(place)} byte {start}, attempt {attempt}: {why}"
                Folder(Path(self.folder)).append(LOG, f"{note}; again in {pause:g} s\n")
                time.sleep(pause)
            try:
                system, path = file_system(place, os.getpid())
                data: bytes = system.cat_file(path, start=start, end=end)
            except (OSError, ValueError, RuntimeError, TimeoutError) as error:
                why = printable(f"{type(error).__name__} {error}".strip())
                continue
            if len(data) == end - start:
                return data
            why = f"it ends at byte {start + len(data):,} of {end:,}"
        raise unfetched(place, ATTEMPTS, why)

    def _take_room(self, shard: Shard, temporary: Path) -> None:
        """Make a file of the length of the shard within the limit, others giving way."""
        if shard.num_bytes > self.max_bytes:
            raise UsageError(
                "VIT-202",
                f"a shard of {shard.num_bytes:,} bytes; the cache may have {self.max_bytes:,}.",
                hint="Give it more: --data.cache-bytes 100000000000",
            )
        while True:
            with self._locked(ROOM):
                if self._is_made(shard.num_bytes):
                    with temporary.open("wb") as stream:
                        stream.truncate(shard.num_bytes)
                    return
            time.sleep(_WAIT_SECS)  # other processes fetch as much as there is room for

    def _is_made(self, need: int) -> bool:
        """Whether there is room for `need` bytes, shards that were used longest ago gone. Whoever
        adds, renames or removes a file holds the lock ROOM.
        """
        facts = {
            path: path.stat() for path in Path(self.folder).iterdir() if path.suffix != ".lock"
        }
        used = sum(one.st_size for path, one in facts.items() if path.name != LOG)
        ready = [path for path in facts if path.suffix == ".shard"]
        for path in sorted(ready, key=lambda path: facts[path].st_mtime_ns):
            if used + need <= self.max_bytes:
                break
            path.unlink()
            used -= facts[path].st_size
        return used + need <= self.max_bytes

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(Path(self.folder) / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


@lru_cache(maxsize=64)
def file_system(url: str, pid: int) -> tuple[Any, str]:
    """The store of a place and its path there, made anew in each process.

    Raises DataError VIT-303 for an unknown kind, EnvironmentFault VIT-520 where fsspec or the
    client of the store is not installed.
    """
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    except ValueError as error:
        raise DataError(
            "VIT-303",
            f"{printable(url)} cannot be opened: {error}.",
            hint="Addresses are those of fsspec: s3://BUCKET/FOLDER, gs://..., abfs://...",
        ) from error
    except ImportError as error:
        raise EnvironmentFault(
            "VIT-520",
            f"reading {printable(url)} needs a package: {error}.",
            hint=f"{install_command('stores')}; and s3fs, gcsfs or adlfs",
        ) from error
    return system, path


def folder_of(url: str, folder: str = "") -> str:
    """Where the shards of a store are kept: `folder`, or one in the user's cache."""
    root = Path(folder) if folder else cache_root() / "shards"
    return str(root / hashlib.sha256(url.encode()).hexdigest()[:16])


def fetched(url: str, name: str, folder: str) -> Path:
    """A small file next to the shards, brought anew. Raises DataError VIT-335, VIT-303."""
    place = f"{url.rstrip('/')}/{name}"
    try:
        system, path = file_system(place, os.getpid())
        size = int(system.info(path)["size"])
    except FileNotFoundError as error:
        raise DataError(
            "VIT-303",
            f"{printable(place)} is not there: expected shards with an index.",
            hint="Make them: vitrail data shard photos/ shards/, then copy the folder there",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise unfetched(place, 1, printable(str(error))) from error
    store = CachedStore(url, folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    starts = range(0, size, PIECE_BYTES)
    pieces = [store._piece(place, at, min(at + PIECE_BYTES, size)) for at in starts]
    return write_whole(Path(folder) / name, b"".join(pieces), replace=True)


def unfetched(place: str, attempts: int, why: str) -> DataError:
    """A file of a store could not be had."""
    return DataError(
        "VIT-335",
        f"{printable(place)} could not be fetched in {attempts} attempts: {why}.",
        hint="Look at the store and the network; a run goes on with: vitrail train --resume RUN",
    )
