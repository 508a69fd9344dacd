"""Where the evaluations of a run are kept: each in a folder of its own, none written over.

RUN/eval/test is what the run found at its end. A later evaluation goes to RUN/eval/NAME, where NAME
says what it is: the split, or "on", the other data, and the split where that has one; then what was
asked for: tokens, patch, flip, calibrated, corruptions, real, against; then a number where that is
there and is not the very same evaluation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitrail.errors import EnvironmentFault, ModelError, UsageError
from vitrail.evaluation.eval_files import predictions_text
from vitrail.evaluation.eval_set import Opened
from vitrail.evaluation.record import Evaluation
from vitrail.folder import Folder
from vitrail.runs import documents

MOST = 10_000
MAX_BYTES = 2**30
# What differs between two evaluations of the same, or was not recorded by the run itself.
VARIES = {"images_per_s", "pictures", "judged", "tta", "data_notes"}


def name_of(opened: Opened, split: str, more: Mapping[str, Any], run: Path) -> str:
    """The name of an evaluation, without a number."""
    if opened.how == "recorded":
        parts = [split]
    else:
        data = re.sub(r"[^\w.-]+", "-", opened.listed.name).strip("-.") or "data"
        parts = ["on", data[:80]] + ([split] if opened.how != "all" else [])
    if not is_finished(run):
        parts.append("unfinished")
    asked = {
        "calibration": "calibrated",
        "corruptions": "corruptions",
        "real": "real",
        "against": "against",
    }
    parts += [f"tokens-{more['tokens']:g}"] if "tokens" in more else []
    parts += [f"patch-{'x'.join(map(str, more['patch']))}"] if "patch" in more else []
    parts += ["flip"] if more.get("tta") == "flip" else []
    return "-".join([*parts, *(word for key, word in asked.items() if key in more)])


def is_finished(run: Path) -> bool:
    """Whether the run has come to its end: only then is its own record there."""
    try:
        return bool(documents.read(Folder(run), "run.json")["status"] == "finished")
    except ModelError:
        return True


def keep(run: Path, name: str, found: Evaluation, more: Mapping[str, Any]) -> tuple[Path, bool]:
    """Write the evaluation into a new folder of RUN/eval; the folder and whether it was written: an
    equal one that is there stays. Raises EnvironmentFault VIT-506.
    """
    document, folder = found.document(more), Folder(run)
    for number in range(1, MOST):
        place = f"eval/{name}" if number == 1 else f"eval/{name}-{number}"
        if not folder.lies(place):
            with suppress(UsageError):  # another process has just made it
                found.write(run / place, more, is_new=True)
                return run / place, True
        if _is_same(folder, place, document, predictions_text(found)):
            return run / place, False
    raise EnvironmentFault(
        "VIT-506",
        f"{run / 'eval'} holds too many evaluations of the name {name}.",
        hint="Choose another folder: --out DIR",
    )


def _is_same(folder: Folder, place: str, document: Mapping[str, Any], predictions: str) -> bool:
    try:
        old = json.loads(folder.read(f"{place}/metrics.json", MAX_BYTES))
        if folder.read(f"{place}/predictions.csv", MAX_BYTES) != predictions.encode(
            "utf-8", "backslashreplace"
        ):
            return False
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(old, dict):
        return False
    new = json.loads(json.dumps(document))
    keys = ({*old} | {*new}) - VARIES
    return all(old.get(key) == new.get(key) for key in keys)
