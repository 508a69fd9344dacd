"""The tables of this folder: CSV files with a head, part of the package."""

from __future__ import annotations

import csv
from importlib.resources import files


def table(name: str) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns."""
    text = files("vitrail.checkpoints.catalogue").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
