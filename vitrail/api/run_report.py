"""The report of a run, written again."""

from __future__ import annotations

from pathlib import Path

from vitrail.classifier import load
from vitrail.report.run_report import write_report
from vitrail.training.finish import inside_of
from vitrail.training.storage.run_dir import open_run


def report(run: str | Path) -> list[Path]:
    """Write report.html and report.md of a run directory, over older ones; their paths.

    Raises ModelError VIT-406 and VIT-407 where there is no run, VIT-433 to VIT-441 where its model
    is damaged; EnvironmentFault VIT-506 where nothing can be written.
    """
    run_dir = open_run(Path(run))
    has_model = run_dir.folder.has("model/model.json")
    return write_report(run_dir.path, inside=inside_of(load(run_dir.model)) if has_model else None)
