"""The run directory: its files, its name, and what run.json says (docs/run_directory.md)."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.errors import EnvironmentFault, ModelError, UsageError
from vitrail.spelling import printable

SCHEMA = 1


@dataclass(frozen=True)
class RunDir:
    """The paths of one run."""

    path: Path

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
        try:
            document: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                "VIT-409",
                f"{self.path / name} cannot be read: {error}",
                hint="Start again from the data: vitrail train DATA",
            ) from error
        return document

    def write(self, name: str, document: Mapping[str, Any] | str) -> None:
        """Write `name` by a temporary file and a rename: a reader never meets half of it."""
        text = document if isinstance(document, str) else json.dumps(document, indent=1) + "\n"
        target = self.path / name
        temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        except OSError as error:
            raise EnvironmentFault(
                "VIT-506",
                f"{target} cannot be written: {error.strerror or error}",
                hint="Free some disk space, or choose another place: --out DIR",
            ) from error

    def log(self, text: str) -> None:
        """Add one line to log.txt."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {printable(text)}\n")

    def update(self, **fields: Any) -> None:
        """Change fields of run.json."""
        self.write("run.json", {**self.read("run.json"), **fields})


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
    if not (path / "run.json").is_file():
        raise ModelError(
            "VIT-407",
            f"{path} is not a run directory: it has no run.json.",
            hint="A run directory is written by vitrail train, for instance runs/photos-1",
        )
    return RunDir(path)
