"""The report of a run: written again, or as a page that follows the run while it trains."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path

from vitrail.classifier import load
from vitrail.errors import VitrailError
from vitrail.folder import Folder
from vitrail.report.run_images import NoImages, RunImages, open_images
from vitrail.report.run_page import report_page
from vitrail.report.run_record import read_run
from vitrail.report.run_report import write_report
from vitrail.runs.listing import entry_of
from vitrail.serve.live_page import Live, LiveServer
from vitrail.training.shipped_model import inside_of
from vitrail.training.storage.run_dir import open_run

FILES = ("run.json", "data.json", "metrics.jsonl", "audit.json", "report.html")
WRITTEN = "report.html"


def report(run: str | Path) -> list[Path]:
    """Write report.html and report.md of a run directory, over older ones; their paths.

    Raises ModelError VIT-406 and VIT-407 where there is no run, VIT-433 to VIT-441 where its model
    is damaged; EnvironmentFault VIT-506 where nothing can be written.
    """
    run_dir = open_run(Path(run))
    has_model = run_dir.folder.has("model/model.json")
    return write_report(run_dir.path, inside=inside_of(load(run_dir.model)) if has_model else None)


class LiveReport:
    """What is shown of the run at `path`: the page of now, without explanations, which would take
    the processor from the training; the report itself once the run has written it.
    """

    def __init__(self, path: Path) -> None:
        """Raises ModelError VIT-407 for no run, VIT-406 for a damaged one."""
        self.path = path
        self.images: RunImages | None = None
        read_run(path)

    def state(self) -> Hashable:
        """Sizes and times of the files that the page follows from."""
        found = []
        for name in FILES:
            try:
                stat = os.stat(self.path / name)
            except OSError:
                continue
            found.append((name, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def is_live(self) -> bool:
        """Whether a process trains it."""
        return entry_of(self.path).status == "running"

    def made(self) -> str:
        """The page. Raises ModelError VIT-406, VIT-407."""
        folder = Folder(self.path)
        if not self.is_live() and folder.lies(WRITTEN):
            return (self.path / WRITTEN).read_text(encoding="utf-8")
        record = read_run(self.path)
        if self.images is None:  # opened once: they do not change while the run trains
            try:
                self.images = open_images(record)
            except VitrailError as fault:
                self.images = NoImages(f"No images are shown: {fault.message}")
        return report_page(record, self.images, None)


def live_report(run: Path, port: int = 0) -> LiveServer:
    """A server of the page on loopback, which answers once its `serve` is called.

    Raises ModelError VIT-406, VIT-407; EnvironmentFault VIT-524 where the port is taken.
    """
    report = LiveReport(run)
    return LiveServer(Live(report.state, report.made, report.is_live), port)
