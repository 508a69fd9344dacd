"""metrics.jsonl: one JSON object a line, appended; durable at each checkpoint, cut back to it at
resume.

A checkpoint records how long the file was and its sha256 (`mark`). What a run wrote after its last
checkpoint is written again by the resumed run, so it is cut off first: the curves hold neither
replayed nor torn lines. Where the rest is not what the checkpoint recorded, it is told, and lines
that are no records are taken out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.errors import EnvironmentFault
from vitrail.folder import Folder
from vitrail.runs.documents import AnyForm, reason_of, unreadable
from vitrail.runs.filesystem import FILES, LocalFiles, write_all

NAME = "metrics.jsonl"
LAST_BYTES = 1 << 14  # some ten records
LINE_BYTES = 1 << 20  # a record has some hundred


class Mark(NamedTuple):
    """What a checkpoint records of the file."""

    offset: int
    sha256: str


class MetricsLog:
    """The open log of a run. Raises EnvironmentFault VIT-506 where the disk refuses."""

    def __init__(self, path: Path, *, fs: LocalFiles = FILES) -> None:
        self.path = path
        self._fs = fs
        self._fd: int | None = None
        self._hash: Any = None  # sha256 of the file so far, once it is known

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; it is in the file at once, durable after `sync`."""
        line = (json.dumps(dict(record), ensure_ascii=True) + "\n").encode()
        try:
            write_all(self._fs, self._open(), line)
        except OSError as error:
            raise self._fault(error) from error
        if self._hash is not None:
            self._hash.update(line)

    def sync(self) -> Mark:
        """Make every record so far durable; the file's length and hash for the checkpoint."""
        self.flush()
        return self.mark()

    def mark(self) -> Mark:
        """The file's length and hash for the checkpoint, durable after `flush`."""
        try:
            self._open()
            if self._hash is None:
                self._hash, _ = self._hash_of(self._fs.size(self.path))
            return Mark(self._fs.size(self.path), self._hash.hexdigest())
        except OSError as error:
            raise self._fault(error) from error

    def flush(self) -> None:
        """Make every record so far durable; another thread may do that while records are added."""
        try:
            self._fs.sync(self._open())
        except OSError as error:
            raise self._fault(error) from error

    def cut_back(self, offset: int, sha256: str = "") -> str:
        """Cut the file to what a checkpoint recorded; what is wrong with the rest, "" normally.

        Lines that are no whole records are taken out of a file that is not as recorded.
        """
        self.close()
        self._hash = None
        try:
            size = self._fs.size(self.path)
            if size > offset:
                self._fs.truncate(self.path, offset)
            elif size == offset == 0:
                return ""
            self._hash, is_whole = self._hash_of(offset)
            if size >= offset and (sha256 == self._hash.hexdigest() if sha256 else is_whole):
                return ""
            self._hash = None
            return self._mend(size, offset)
        except FileNotFoundError:
            return "" if not offset else f"{self.path} is missing: the curves begin anew."
        except OSError as error:
            raise self._fault(error) from error

    def _mend(self, size: int, offset: int) -> str:
        lines = list(self._lines(offset))
        kept = [line for line in lines if _is_record(line)]
        temporary = self.path.with_name(f".tmp-{self.path.name}-{os.urandom(8).hex()}")
        fd = self._fs.create(temporary)
        try:
            write_all(self._fs, fd, b"".join(kept))
            self._fs.sync(fd)
        finally:
            self._fs.close(fd)
        self._fs.rename(temporary, self.path)
        self._fs.sync_dir(self.path.parent)
        short = f"{size} of {offset} bytes" if size < offset else "other content"
        return (
            f"{self.path} is not as the checkpoint recorded it ({short}): "
            f"{len(kept)} whole records stay, {len(lines) - len(kept)} torn or damaged go."
        )

    def _lines(self, offset: int) -> Iterator[bytes]:
        """The lines of the first `offset` bytes, with their ends."""
        rest, seen = b"", 0
        for piece in self._fs.chunks(self.path):
            piece = piece[: offset - seen]
            seen += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in whole)
            rest = rest[: LINE_BYTES + 1]
        if rest:
            yield rest

    def _hash_of(self, offset: int) -> tuple[Any, bool]:
        """sha256 of the first `offset` bytes, and whether they end with a line."""
        digest, left, end = hashlib.sha256(), offset, b"\n"
        for piece in self._fs.chunks(self.path) if offset else ():
            part = piece[:left]
            digest.update(part)
            left -= len(part)
            end = part[-1:] or end
        return digest, end == b"\n"

    def close(self) -> None:
        """Give the file back; the next `write` opens it again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            try:
                self._fs.close(fd)
            except OSError as error:
                raise self._fault(error) from error

    def _open(self) -> int:
        if self._fd is None:
            self._fd = self._fs.append(self.path)
            self._fs.sync_dir(self.path.parent)
        return self._fd

    def _fault(self, error: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            "VIT-506",
            f"{self.path} could not be written: {error.strerror or error}.",
            hint=f"Check the disk, then go on with --resume {self.path.parent}",
        )


def last_records(folder: Folder) -> list[dict[str, Any]]:
    """Some ten records at the end of a run's log; lines that are none are left out."""
    try:
        with folder.open(NAME) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - LAST_BYTES))
            lines = stream.read(LAST_BYTES).splitlines(keepends=True)
    except OSError:
        return []
    return [json.loads(line) for line in lines if _is_record(line)]


def all_records(folder: Folder) -> Iterator[dict[str, Any]]:
    """The records of a run's log; lines that are none are left out. Raises ModelError VIT-409 where
    it is no plain file.
    """
    try:
        with folder.open(NAME) as stream:
            while line := stream.readline(LINE_BYTES + 1):
                if _is_record(line):
                    yield json.loads(line)
    except OSError as error:
        raise unreadable(folder.path / NAME, reason_of(error)) from error


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n") or len(line) > LINE_BYTES:
        return False
    try:
        AnyForm.model_validate_json(line)
    except ValueError:
        return False
    return True
