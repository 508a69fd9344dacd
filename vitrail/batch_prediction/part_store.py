"""The folder next to a table in which its parts lie until it is whole: OUT.parts.

    job.json             what the parts belong to; once the table is made, its sha256
    part-00007-KEY.jsonl answers, a line an image; the last line counts them
    _SUCCESS.json        what came out, when the table has its name; the parts are then removed

A part appears whole or not at all (`files.py`), under a name that says what it answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from vitrail.batch_prediction.parts import Part
from vitrail.batch_prediction.records import Record, line_of
from vitrail.documents import parse_json
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.files import whole_file
from vitrail.folder import Folder
from vitrail.runs.lock import RunLock

JOB, SUCCESS = "job.json", "_SUCCESS.json"
MAX_BYTES = 1_000_000
WHOLE = "whole"
LEFT = (".tmp-", "part-", WHOLE)  # what a name of ours begins with
MAX_LINE = 100_000_000


@dataclass(frozen=True)
class Counts:
    """Rows of a part or of a table, how many of them have an error, classes in the longest."""

    rows: int = 0
    errors: int = 0
    most: int = 1

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows, self.errors + other.errors, max(self.most, other.most)
        )

    def with_row(self, record: Record) -> Counts:
        """With one row more."""
        return self + Counts(1, record["error"] is not None, len(record["top"]))


class PartStore:
    """The parts of the table `out`."""

    def __init__(self, out: Path) -> None:
        self.folder = Folder(out.with_name(f"{out.name}.parts"))

    def lock(self) -> RunLock:
        """Raises EnvironmentFault VIT-504 where another process is at this table."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        return RunLock(
            self.folder.path, "is at this table", "to write another one: another --out FILE"
        )

    def document(self, name: str) -> dict[str, object]:
        """A document of the folder; {} where there is none that can be read."""
        try:
            found = parse_json(self.folder.read(name, MAX_BYTES))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, document: object) -> None:
        """Write a document whole. Raises EnvironmentFault VIT-506."""
        self.folder.write(name, json.dumps(document, indent=1) + "\n")

    def keep(self, parts: Sequence[Part]) -> None:
        """Remove what a kill left behind, and parts that belong to other images or models."""
        names = {part.name for part in parts}
        for name in self.folder.names():
            if name.startswith(LEFT) and name not in names:
                self.folder.at(name).unlink(missing_ok=True)

    def commit(self, part: Part, records: Iterable[Record]) -> Counts:
        """Write a part. Raises EnvironmentFault VIT-506."""
        counts, digest = Counts(), hashlib.sha256()
        with whole_file(self.folder.at(part.name), replace=True) as temporary:
            with open(temporary, "wb") as stream:
                for record in records:
                    counts = counts.with_row(record)
                    line = line_of(record).encode()
                    digest.update(line)
                    stream.write(line)
                stream.write(_last_line(counts, digest.hexdigest()))
        return counts

    def counts_of(self, part: Part) -> Counts | None:
        """What lies in the file of a part; None where it is not there or not as it was written."""
        counts, digest, last = Counts(), hashlib.sha256(), b""
        try:
            with self.folder.open(part.name) as stream:
                for line in _lines(stream):
                    if last:
                        digest.update(last)
                        counts = counts.with_row(json.loads(last))
                    last = line
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_whole = counts.rows == len(part) and last == _last_line(counts, digest.hexdigest())
        return counts if is_whole else None

    def records(self, parts: Iterable[Part]) -> Iterator[Record]:
        """The rows of parts that are whole, in order. Raises ModelError VIT-409."""
        for part in parts:
            with self.folder.open(part.name) as stream:
                for _, line in zip(range(len(part)), _lines(stream), strict=False):
                    yield self._record(part, line)

    def _record(self, part: Part, line: bytes) -> Record:
        try:
            record: Record = json.loads(line)
        except ValueError as error:
            raise ModelError(
                "VIT-409",
                f"{self.folder.path / part.name} has changed while it was read.",
                hint="Start the command again: the part is computed again.",
            ) from error
        return record


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE):
        yield line


def _last_line(counts: Counts, sha256: str) -> bytes:
    return (json.dumps({**asdict(counts), "sha256": sha256}) + "\n").encode()


def lost(part: Part, why: object) -> EnvironmentFault:
    """The error for a part whose process ended."""
    return EnvironmentFault(
        "VIT-510",
        f"the process that computed part {part.index} was lost: {why}",
        hint="Repeat the command to continue.",
    )
