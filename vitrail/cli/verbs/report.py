"""`vitrail report RUN`: write report.html and report.md of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.errors import UsageError

app = app_of("vitrail report")


@app.default
def report(
    run: Path,
    /,
    *,
    watch: Annotated[bool, Parameter(negative=())] = False,
    port: int | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Write one page about a run: figures, classes, calibration, mistakes explained, data problems.

    Parameters
    ----------
    run
        A run directory.
    watch
        Show the page of now on loopback and refresh it while the run trains, until Ctrl-C; no file
        is written.
    port
        --watch: where it listens. Default: any that is free.
    """
    if watch:
        return show_live(run, port or 0, output)
    if port is not None:
        raise UsageError(
            "VIT-202", "--port has no effect without --watch.", hint="Add --watch, or leave it out."
        )
    from vitrail.api.run_report import report

    pages = [run / page.name for page in report(run)]
    output.result({"run": run, "files": pages}, [str(page) for page in pages])
    return 0


def show_live(run: Path, port: int, output: Output) -> int:
    """Serve the page until somebody ends it: KeyboardInterrupt, which is exit code 130."""
    from vitrail.api.run_report import live_report

    server = live_report(run, port)
    try:
        output.result({"run": run, "url": server.url}, [server.url])
        output.note("open it in a browser; it is refreshed while the run trains; end: Ctrl-C")
        server.serve()
    finally:
        server.close()
    return 0
