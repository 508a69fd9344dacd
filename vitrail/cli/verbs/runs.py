"""`vitrail runs [FOLDER]`: the runs of a folder, one line each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.api.run_list import Runs

app = app_of("vitrail runs")


@app.default
def runs(
    folder: Path = Path("runs"), /, *, output: Annotated[Output, Parameter(parse=False)]
) -> int:
    """List runs: status, dataset, model, best top-1, time since the last change; newest first.

    Parameters
    ----------
    folder
        A folder of runs, or one run. Default: runs
    """
    from vitrail.api.run_list import runs

    found = runs(folder)
    record = [dataclasses.asdict(entry) for entry in found]
    output.result({"folder": folder, "runs": record}, lines_of(found, folder))
    return 0


def lines_of(found: Runs, folder: Path) -> list[str]:
    """A table, with a line below it for each run that has something to say."""
    from vitrail.api.run_list import HEAD

    if not found:
        return [f"no runs in {folder}; the first: vitrail train DATA"]
    notes = [f"{entry.name}: {entry.note}" for entry in found if entry.note]
    go_on = [entry for entry in found if entry.status in ("interrupted", "stopped", "failed")]
    more = (
        [f"{count(len(go_on), 'run')} can be continued: vitrail train --resume {go_on[0].path}"]
        if go_on
        else []
    )
    return [*table([HEAD, *found.rows()], left=4), *notes, *more]
