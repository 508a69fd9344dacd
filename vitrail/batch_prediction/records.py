"""Answers as plain records, and as tables: JSON lines, CSV or Parquet, a few thousand at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from vitrail.files import csv_text, encoded, whole_file
from vitrail.prediction import Prediction
from vitrail.spelling import as_utf8
from vitrail.studies.results.tables import require_pyarrow

ROWS = 10_000  # held at a time; those of a row group of Parquet
Record = dict[str, Any]


def record_of(prediction: Prediction) -> Record:
    """The object of `predict --json`: source, label, score, top, error."""
    top = [{"label": as_utf8(one.label), "score": one.score} for one in prediction.top]
    first: Record = top[0] if top else {"label": None, "score": None}
    error = None if prediction.error is None else as_utf8(prediction.error)
    return {"source": as_utf8(prediction.source), **first, "top": top, "error": error}


def line_of(record: Record) -> str:
    """The record as a line of JSON."""
    return json.dumps(record) + "\n"


def write_table(path: Path, records: Iterable[Record], most: int, *, replace: bool = False) -> None:
    """Write `path`, of the kind that its ending names. A record of CSV and Parquet is a row of
    source, label, score, error, label_2, score_2 ...; most: classes in the longest record.

    Raises UsageError VIT-206 where it exists and may not be replaced, EnvironmentFault VIT-506,
    VIT-520 for Parquet without its library.
    """
    suffix = path.suffix.lower()
    with whole_file(path, replace=replace) as temporary:
        if suffix == ".parquet":
            _write_parquet(temporary, _rows(records, most), columns_of(most))
            return
        texts = map(line_of, records) if suffix == ".jsonl" else _csv_texts(records, most)
        with open(temporary, "wb") as stream:
            stream.writelines(map(encoded, texts))


def _csv_texts(records: Iterable[Record], most: int) -> Iterator[str]:
    yield csv_text(columns_of(most), ())
    for rows in _chunks(_rows(records, most)):
        cells = (["" if one is None else one for one in row] for row in rows)
        yield csv_text(next(cells), cells)


def columns_of(most: int) -> list[str]:
    """The columns of a table of records of at most `most` classes."""
    more = [f"{name}_{place}" for place in range(2, most + 1) for name in ("label", "score")]
    return ["source", "label", "score", "error", *more]


def _rows(records: Iterable[Record], most: int) -> Iterator[list[Any]]:
    for record in records:
        row = [record[name] for name in ("source", "label", "score", "error")]
        for place in range(1, most):
            item = record["top"][place] if place < len(record["top"]) else {}
            row += [item.get("label"), item.get("score")]
        yield row


def _chunks(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    while chunk := list(islice(rows, ROWS)):
        yield chunk


def _write_parquet(path: Path, rows: Iterator[list[Any]], columns: Sequence[str]) -> None:
    arrow, parquet = require_pyarrow()
    numbers, texts = arrow.float64(), arrow.string()
    kinds = [numbers if name.startswith("score") else texts for name in columns]
    schema = arrow.schema(list(zip(columns, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(rows):
            cells = [
                [_text(one) for one in column] if kind == texts else list(column)
                for column, kind in zip(zip(*chunk, strict=True), kinds, strict=True)
            ]
            writer.write_table(arrow.table(cells, schema=schema))


def _text(cell: str | None) -> str | None:
    return None if cell is None else as_utf8(cell)
