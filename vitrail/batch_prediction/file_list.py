"""A list of images in a file: one path a line, or a CSV table with a column of paths."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from vitrail.data.sources.table import PATH_COLUMNS
from vitrail.errors import DataError
from vitrail.folder import NotPlain, TooLarge, read_named
from vitrail.spelling import PREFIX, unescaped

MAX_BYTES = 2**30


def listed_images(path: Path) -> list[str]:
    """The paths that `path` lists, in its order. A line is a path from the working directory; in a
    .csv the column "path" holds paths from the table's folder, and other columns are not read.

    Raises DataError VIT-310 where it cannot be read, VIT-311 for a name that cannot be one,
    VIT-361 where it lists nothing.
    """
    text = _text(path)
    found = _of_table(path, text) if path.suffix.lower() == ".csv" else _of_lines(text)
    if not found:
        raise DataError("VIT-361", f"{path} lists no images.", hint="One path a line.")
    if wrong := next((one for one in found if "\0" in one), None):
        raise DataError("VIT-311", f"{path} lists {wrong[:80]!r}, which is no path.")
    return found


def _text(path: Path) -> str:
    try:
        return os.fsdecode(read_named(path, MAX_BYTES).removeprefix(b"\xef\xbb\xbf"))
    except (NotPlain, TooLarge, OSError) as error:
        raise DataError(
            "VIT-310",
            f"{path} cannot be read: {error.strerror or error}.",
            hint="Expected one path a line, or a .csv with a column path",
        ) from error


def _of_lines(text: str) -> list[str]:
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _of_table(path: Path, text: str) -> list[str]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError("VIT-310", f"{path} line {reader.line_num}: {error}.") from error
    heads = [cell.strip().lower() for cell in rows[0]] if rows else []
    places = [place for place, head in enumerate(heads) if head in PATH_COLUMNS]
    if len(places) != 1:
        raise DataError(
            "VIT-310",
            f"{path}: expected one column of paths, called {', '.join(PATH_COLUMNS)}; "
            f"got {len(places)} of them in {', '.join(heads[:20]) or 'an empty table'}.",
            hint="Name the column path in the first line",
        )
    cells = (row[places[0]].strip() if places[0] < len(row) else "" for row in rows[1:])
    return [_place(path, cell) for cell in cells if cell]


def _place(path: Path, cell: str) -> str:
    """A cell as a path from the working directory."""
    try:
        name = unescaped(cell) if cell.startswith(PREFIX) else cell
    except ValueError as error:
        raise DataError("VIT-311", f"{path}: {cell}: {error}.") from error
    return os.path.join(path.parent, name)
