"""The folder of a study: what was asked, and every finished cell's row, append-only.

    studies/NAME/
      study.json     the question, then the plan made for it, versions
      rows.jsonl     one object a finished cell, in the order in which they ended
      runs/KEY/      the run of a cell         log.txt   what workers printed
      table.csv table.parquet  FIGURE.png FIGURE.svg  verdict.json  study.html

A row is written and synced before anything else happens with it, so a kill loses none; half a line
that a kill left behind is cut off. study.json and every row end with a digest of themselves: the
plan, the tables and the verdict rest on them. Whoever asks the same question of the same images
again goes on in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from vitrail.documents import opened, parse_json, sealed
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.files import writing
from vitrail.folder import open_plain
from vitrail.runs.documents import reason_of, unreadable
from vitrail.runs.lock import RunLock
from vitrail.studies.engine.row import Row, row_from
from vitrail.training.storage.run_dir import RunDir

SCHEMA = 1
MOST_BYTES = 1 << 30  # of rows.jsonl
ANEW = "Begin anew in another folder: --out DIR"


class Store:
    """One study's folder; `with store.lock():` while cells are computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = RunDir(folder)

    @property
    def rows_file(self) -> Path:
        """rows.jsonl."""
        return self.folder / "rows.jsonl"

    def lock(self) -> RunLock:
        """Raises EnvironmentFault VIT-504 where another process computes this study."""
        return RunLock(
            self.folder, "is computing this study", "to compute in parallel: another --out DIR"
        )

    def record(self) -> dict[str, Any]:
        """study.json; {} before there is one. Raises ModelError VIT-409 where it is damaged."""
        if not self._files.folder.lies("study.json"):
            return {}
        try:
            return opened(self._files.read("study.json"))
        except ModelError as error:
            raise ModelError(error.code, error.message, hint=ANEW) from error
        except ValueError as error:
            raise unreadable(self.folder / "study.json", str(error), ANEW) from error

    def write(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a JSON document whole or not at all, with a digest of itself."""
        self._files.write(name, sealed(document))

    def write_text(self, name: str, text: str) -> None:
        """Write a text whole or not at all."""
        self._files.write(name, text)

    def rows(self) -> dict[str, Row]:
        """The finished cells by key. Raises ModelError VIT-409 for a line that is no row."""
        if not self._files.folder.lies("rows.jsonl"):
            return {}
        try:
            lines = self._files.folder.read("rows.jsonl", MOST_BYTES).split(b"\n")
        except OSError as error:
            raise unreadable(self.rows_file, reason_of(error), ANEW) from error
        found = {}
        for number, line in enumerate(lines[:-1], start=1):
            try:
                row = row_from(opened(parse_json(line)))
            except (ValueError, TypeError) as error:
                raise ModelError(
                    "VIT-409",
                    f"{self.rows_file}, line {number} is no row of a study: {error}",
                    hint="Remove that line: its cell is then computed again.",
                ) from error
            found[row.key] = row
        return found

    def append(self, row: Row) -> None:
        """Add a row, and have it on the disk. Raises EnvironmentFault VIT-506."""
        line = json.dumps(sealed(row.to_json()), allow_nan=False).encode() + b"\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with writing(self.rows_file), self._opened(flags, "ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def mend(self) -> None:
        """Cut off half a line that a kill left at the end of rows.jsonl."""
        if not self._files.folder.lies("rows.jsonl"):
            return
        with writing(self.rows_file), self._opened(os.O_RDWR, "r+b") as stream:
            data = stream.read()
            stream.truncate(data.rfind(b"\n") + 1)

    def _opened(self, flags: int, mode: str) -> IO[bytes]:
        return os.fdopen(open_plain(self.rows_file, flags), mode)


def question_of(facts: Mapping[str, Any]) -> str:
    """16 hex digits of what a study is asked."""
    text = json.dumps([SCHEMA, facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_store(parent: Path, name: str, question: str) -> Store:
    """The folder under `parent` in which `question` was asked before, or a new one: NAME, NAME-2...

    The question is written down at once: whoever is stopped before there is a plan, or plans at the
    same time, finds the right folder. Raises EnvironmentFault VIT-506 where it cannot be made.
    """
    for number in range(1, 10_000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        store = Store(folder)
        asked = store.record().get("question")
        if asked == question:
            return store
        if asked is None and _make(folder):
            store.write("study.json", {"schema": SCHEMA, "question": question})
            return store
    raise EnvironmentFault(
        "VIT-506",
        f"{parent} holds too many studies of the name {name}.",
        hint="Choose another folder: --out DIR",
    )


def _make(folder: Path) -> bool:
    """Make a study's folder, or take an empty one."""
    with writing(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        return not (folder / "study.json").exists()
