"""The report of a run: report.html, one file that can be mailed, and report.md, its text."""

from __future__ import annotations

from pathlib import Path

from vitrail.files import write_together
from vitrail.report.explanations import ModelExplanations
from vitrail.report.run_images import RunImages, open_images
from vitrail.report.run_markdown import report_markdown
from vitrail.report.run_page import report_page
from vitrail.report.run_record import read_run

FILES = ("report.html", "report.md")


def write_report(
    run_dir: Path, images: RunImages | None = None, inside: ModelExplanations | None = None
) -> list[Path]:
    """Write the report into `run_dir`, over an older one, and return its files.

    `pictures` are the run's own data by default, opened again as the run opened them; a report
    without images says why. `inside` is the run's model, which explains its mistakes. Raises
    ModelError VIT-406, VIT-407, EnvironmentFault VIT-506.
    """
    record = read_run(run_dir)
    images = images or open_images(record)
    documents = (report_page(record, images, inside), report_markdown(record))
    return write_together(run_dir, dict(zip(FILES, documents, strict=True)), replace=True)
