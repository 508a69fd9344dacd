"""`vitrail runs [FOLDER]`: the runs of a folder, one line each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.errors import UsageError
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.runs.listing import RunEntry

app = app_of("vitrail runs")
DEFAULT = Path("runs")
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@app.default
def runs(folder: Path = DEFAULT, /, *, output: Annotated[Output, Parameter(parse=False)]) -> int:
    """List runs: status, dataset, model, best top-1, time since the last change; newest first.

    Parameters
    ----------
    folder
        A folder of runs, or one run. Default: runs
    """
    from vitrail.runs.listing import list_runs

    try:
        found = list_runs(folder)
    except FileNotFoundError as error:
        if folder != DEFAULT:
            raise UsageError("VIT-202", str(error), hint="List those here: vitrail runs") from error
        found = []
    record = [dataclasses.asdict(entry) for entry in found]
    output.result({"folder": folder, "runs": record}, lines_of(found, folder))
    return 0


def lines_of(found: list[RunEntry], folder: Path) -> list[str]:
    """A table, with a line below it for each run that has something to say."""
    if not found:
        return [f"no runs in {folder}; the first: vitrail train DATA"]
    head = ["run", "status", "data", "model", "top-1", "changed"]
    rows = [
        [entry.name, entry.status, entry.data, entry.model, _figure(entry), _ago(entry.age_secs)]
        for entry in found
    ]
    notes = [f"{entry.name}: {entry.note}" for entry in found if entry.note]
    go_on = [entry for entry in found if entry.status in ("interrupted", "stopped", "failed")]
    more = (
        [f"{count(len(go_on), 'run')} can be continued: vitrail train --resume {go_on[0].path}"]
        if go_on
        else []
    )
    return [*table([head, *rows], left=4), *notes, *more]


def _figure(entry: RunEntry) -> str:
    return "-" if entry.best is None else f"{entry.best:.4f} {entry.judged}"


def _ago(seconds: float) -> str:
    """3 h ago."""
    unit, size = next((one for one in UNITS if seconds >= one[1]), UNITS[-1])
    return f"{int(seconds // size)} {unit} ago"
