"""Tables as CSV and as Parquet: a line a row, columns in order of appearance, empty where missing.

pyarrow is part of the extra [studies] and loaded by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitrail import files
from vitrail.errors import lacking
from vitrail.files import write_whole
from vitrail.spelling import as_utf8
from vitrail.studies.engine.row import Axis, Row

Line = Mapping[str, Axis | None]
_INT64 = 2**63


def write_tables(rows: Sequence[Row], folder: Path) -> None:
    """table.csv, and table.parquet where pyarrow is installed."""
    write_csv(rows, folder / "table.csv")
    if find_spec("pyarrow") is not None:
        write_parquet(rows, folder / "table.parquet")


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write a line a row; numbers read back as the same. Raises EnvironmentFault VIT-506."""
    write_whole(path, table_text([row.flat() for row in rows]), replace=True)


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write a line a row, columns typed. Raises EnvironmentFault VIT-506, VIT-520 (no pyarrow)."""
    write_whole(path, parquet_bytes([row.flat() for row in rows]), replace=True)


def columns(lines: Sequence[Line]) -> list[str]:
    """Every name that occurs in a line, in order of appearance."""
    return list(dict.fromkeys(name for line in lines for name in line))


def table_text(lines: Sequence[Line]) -> str:
    """The lines as CSV; None and what a line lacks are empty."""
    names = columns(lines)
    cells = ([line.get(name) for name in names] for line in lines)
    return files.csv_text(names, (["" if one is None else one for one in row] for row in cells))


def parquet_bytes(lines: Sequence[Line]) -> bytes:
    """The lines as a Parquet file. A column is int64 or double where all its cells are whole or
    numbers, else text. Raises EnvironmentFault VIT-520.
    """
    arrow, parquet = require_pyarrow()
    arrays = {name: _array(arrow, [line.get(name) for line in lines]) for name in columns(lines)}
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table(arrays), sink)
    return bytes(sink.getvalue())


def require_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises EnvironmentFault VIT-520."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise lacking("writing Parquet", "pyarrow", "studies", "write a CSV.") from error
    return pyarrow, pyarrow.parquet


def _array(arrow: Any, cells: Sequence[Axis | None]) -> Any:
    present = [cell for cell in cells if cell is not None]
    if present and all(isinstance(cell, int) and -_INT64 <= cell < _INT64 for cell in present):
        return arrow.array(cells, type=arrow.int64())
    if present and not any(isinstance(cell, str) for cell in present):
        numbers = [None if cell is None else float(cell) for cell in cells]
        return arrow.array(numbers, type=arrow.float64())
    texts = [None if cell is None else as_utf8(str(cell)) for cell in cells]
    return arrow.array(texts, type=arrow.string())
