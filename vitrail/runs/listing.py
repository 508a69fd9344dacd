"""The runs of a folder: what each is, how far it came, when it was last written to.

Nothing here needs torch. A run that cannot be read is listed with the reason: it never hides the
others. A run that says running while no process holds its lock was interrupted.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.errors import ModelError
from vitrail.folder import Folder
from vitrail.runs import documents
from vitrail.runs.lock import holder_of


@dataclass(frozen=True)
class RunEntry:
    """One run. status: finished, running, interrupted (its process is gone), stopped, failed, or
    damaged. best: top-1, of the split that `judged` names. age_secs: since run.json was last
    written. note: why it failed, or what is damaged.
    """

    name: str
    path: Path
    status: str
    data: str = ""
    model: str = ""
    best: float | None = None
    judged: str = ""
    age_secs: float = 0.0
    note: str = ""


def list_runs(folder: Path) -> list[RunEntry]:
    """Every run in `folder`, newest first; `folder` itself where it is one.

    Raises FileNotFoundError where there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder.")
    if Folder(folder).lies("run.json"):
        return [entry_of(folder)]
    found = [entry_of(folder / name) for name in Folder(folder).names() if _is_run(folder / name)]
    return sorted(found, key=lambda entry: (entry.age_secs, entry.name))


def _is_run(path: Path) -> bool:
    """Links are listed, as what they are: they are not followed."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    if stat.S_ISLNK(mode):
        return Folder(path).lies("run.json")
    return stat.S_ISDIR(mode) and Folder(path).lies("run.json")


def entry_of(path: Path) -> RunEntry:
    """What one run says of itself."""
    age = _age(path / "run.json")
    if path.is_symlink():
        return RunEntry(path.name, path, "link", age_secs=age, note=f"to {os.readlink(path)}")
    try:
        run = documents.read(Folder(path), "run.json")
        data = documents.read(Folder(path), "data.json")
    except ModelError as error:
        return RunEntry(path.name, path, "damaged", age_secs=age, note=error.message)
    status = run["status"]
    if status == "running" and not holder_of(path):
        status = "interrupted"
    best, judged = _best(run)
    return RunEntry(
        name=path.resolve().name,
        path=path,
        status=status,
        data=str(data.get("name", "")),
        model=str(run.get("model", {}).get("name", "")),
        best=best,
        judged=judged,
        age_secs=age,
        note=str(run.get("reason") or ""),
    )


def _best(run: dict[str, Any]) -> tuple[float | None, str]:
    """Top-1 and its split: test where the run is finished, else the best on validation images."""
    for split in ("test", "val"):
        top1 = run.get("results", {}).get(split, {}).get("top1")
        if isinstance(top1, int | float):
            return float(top1), split
    top1 = run.get("best", {}).get("val/top1")
    return (float(top1), "val") if isinstance(top1, int | float) else (None, "")


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - os.lstat(path).st_mtime)
    except OSError:
        return 0.0
