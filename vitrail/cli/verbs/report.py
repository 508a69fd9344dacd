"""`vitrail report RUN`: write report.html and report.md of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output

app = app_of("vitrail report")


@app.default
def report(run: Path, /, *, output: Annotated[Output, Parameter(parse=False)]) -> int:
    """Write one page about a run: figures, classes, calibration, mistakes explained, data problems.

    Parameters
    ----------
    run
        A run directory.
    """
    from vitrail.api.run_report import report

    pages = [run / page.name for page in report(run)]
    output.result({"run": run, "files": pages}, [str(page) for page in pages])
    return 0
