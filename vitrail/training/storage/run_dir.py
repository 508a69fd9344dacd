"""The run directory: its files, its name, and what run.json says (docs/run_directory.md)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.errors import (
    EnvironmentFault,
    ModelError,
    UsageError,
    VitrailError,
    environment_fault,
)
from vitrail.files import writing
from vitrail.folder import Folder
from vitrail.runs import documents
from vitrail.spelling import printable

SCHEMA = 1


@dataclass(frozen=True)
class RunDir:
    """The files of one run: plain ones of its own folder, nothing that a link leads to."""

    path: Path
    _run: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # run.json

    @property
    def folder(self) -> Folder:
        """The run's files by name."""
        return Folder(self.path)

    @property
    def metrics(self) -> Path:
        """metrics.jsonl: one object a record, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """What one shares: model.safetensors, model.json and the card."""
        return self.path / "model"

    def read(self, name: str) -> dict[str, Any]:
        """The JSON document `name` of this run. Raises ModelError VIT-409 where it is damaged."""
        return documents.read(self.folder, name)

    def write(self, name: str, document: Mapping[str, Any] | str) -> None:
        """Write `name` by a temporary file and a rename: a reader never meets half of it."""
        text = document if isinstance(document, str) else json.dumps(document, indent=1) + "\n"
        with writing(self.path / name):
            self.folder.write(name, text)
        if name == "run.json" and not isinstance(document, str):
            self._run.clear()
            self._run.update(document)

    def make(self, name: str) -> Path:
        """The folder `name` of this run. Raises EnvironmentFault VIT-506."""
        with writing(self.path / name):
            return self.folder.make(name)

    def log(self, text: str) -> None:
        """Add one line to log.txt."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        with writing(self.path / "log.txt"):
            self.folder.append("log.txt", f"{now} {printable(text)}\n")

    def update(self, **fields: Any) -> None:
        """Change fields of run.json, which is written anew where this process wrote it before: it
        may have become unreadable meanwhile.
        """
        self.write("run.json", {**(self._run or self.read("run.json")), **fields})


@contextmanager
def ending(run: RunDir) -> Iterator[None]:
    """However the block ends, run.json tells: an error of any kind is "failed", with its reason; a
    second Ctrl-C "stopped". Where that cannot be written either, the error itself is what counts.
    """
    try:
        yield
    except BaseException as error:
        status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(VitrailError, OSError):
            run.update(status=status, reason=reason_of(error))
        raise


def reason_of(error: BaseException) -> str:
    """An error in a line."""
    if isinstance(error, KeyboardInterrupt):
        name = getattr(error, "name", "SIGINT")
        return f"interrupted by {name} before a checkpoint could be written"
    known = error if isinstance(error, VitrailError) else None
    if known is None and isinstance(error, Exception):
        known = environment_fault(error)
    if known is not None:
        return f"{known.code}: {known.message.splitlines()[0]}"
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]


def create_run(parent: Path, name: str | None, data_name: str) -> RunDir:
    """A new directory `parent/name`, or `parent/DATA-1`, -2, ... where no name is given.

    Raises UsageError VIT-218 for a name that exists or is no file name, EnvironmentFault VIT-506
    where nothing can be written.
    """
    if name is not None and not re.fullmatch(r"[\w.-]{1,100}", name):
        raise UsageError(
            "VIT-218",
            f"run name {name!r}: expected letters, digits, '.', '_' and '-' only.",
            hint="For another folder than runs/: --out DIR",
        )
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if name is not None:
            (parent / name).mkdir()
            return RunDir(parent / name)
        stem = re.sub(r"[^\w.-]+", "-", data_name).strip("-.") or "run"
        for number in range(1, 100_000):
            try:
                (parent / f"{stem}-{number}").mkdir()
            except FileExistsError:
                continue
            return RunDir(parent / f"{stem}-{number}")
    except FileExistsError as error:
        if not parent.is_dir():
            raise _unwritable(parent, error) from error
        raise UsageError(
            "VIT-218",
            f"{parent / (name or '')} exists; a run is never overwritten.",
            hint=f"Go on with it: vitrail train --resume {parent / (name or '')}   "
            "or choose another --name",
        ) from error
    except OSError as error:
        raise _unwritable(parent, error) from error
    raise UsageError("VIT-218", f"{parent} holds too many runs of {data_name}.", hint="Use --name")


def _unwritable(folder: Path, error: OSError) -> EnvironmentFault:
    reason = "it is a file" if folder.is_file() else error.strerror or str(error)
    return EnvironmentFault(
        "VIT-506", f"{folder} cannot be written: {reason}.", hint="Choose another folder: --out DIR"
    )


def open_run(path: Path) -> RunDir:
    """The run directory at `path`. Raises ModelError VIT-407 where it is none."""
    if not Folder(path).lies("run.json"):
        raise ModelError(
            "VIT-407",
            f"{path} is not a run directory: it has no run.json.",
            hint="A run directory is written by vitrail train, for instance runs/photos-1",
        )
    return RunDir(path)
