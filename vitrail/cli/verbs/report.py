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
    from vitrail.training.storage.run_dir import open_run

    run_dir = open_run(run)
    from vitrail.classifier import load
    from vitrail.report.run_report import write_report
    from vitrail.training.finish import inside_of

    has_model = run_dir.folder.has("model/model.json")
    write_report(run_dir.path, inside=inside_of(load(run_dir.model)) if has_model else None)
    pages = [run / "report.html", run / "report.md"]
    output.result({"run": run, "files": pages}, [str(page) for page in pages])
    return 0
