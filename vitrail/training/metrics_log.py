"""metrics.jsonl: one JSON object a line, appended; durable at each checkpoint, cut back to it at
resume.

A checkpoint records how long the file was (`sync`). What a run wrote after its last checkpoint is
written again by the resumed run, so it is cut off first: the curves hold neither replayed nor torn
lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.errors import EnvironmentFault
from vitrail.training.filesystem import FILES, FileSystem, write_all


class MetricsLog:
    """The open log of a run. Raises EnvironmentFault VIT-506 where the disk refuses."""

    def __init__(self, path: Path, *, fs: FileSystem = FILES) -> None:
        self.path = path
        self._fs = fs
        self._fd: int | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; it is in the file at once, durable after `sync`."""
        line = json.dumps(dict(record), ensure_ascii=True) + "\n"
        try:
            write_all(self._fs, self._open(), line.encode())
        except OSError as error:
            raise self._fault(error) from error

    def sync(self) -> int:
        """Make every record so far durable; returns the file's length for the checkpoint."""
        try:
            self._fs.sync(self._open())
            return self._fs.size(self.path)
        except OSError as error:
            raise self._fault(error) from error

    def truncate(self, offset: int) -> int:
        """Cut the file to the length a checkpoint recorded; returns how many bytes it is short of
        it (0 normally).
        """
        self.close()
        try:
            size = self._fs.size(self.path)
            if size > offset:
                self._fs.truncate(self.path, offset)
        except FileNotFoundError:
            return offset
        except OSError as error:
            raise self._fault(error) from error
        return max(0, offset - size)

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
