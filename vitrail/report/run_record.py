"""What a run directory says, read for its report: nothing here needs torch, and what is missing is
simply left out of the report.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vitrail.documents import Count, DocumentPart, Made, Number, Share, checked, parse_document
from vitrail.errors import ModelError
from vitrail.folder import Folder
from vitrail.report import run_schema
from vitrail.spelling import label_cell

MAX_BYTES, MAX_LINE_BYTES = 2**28, 2**20  # of a document, of a line of metrics.jsonl
Curve = dict[str, float | str | bool | None]
CURVES = TypeAdapter(Curve)


@dataclass(frozen=True)
class PredictionRow:
    """A row of predictions.csv."""

    source: str
    label: str
    predicted: str
    p_label: Share
    p_predicted: Share
    loss: Number

    @property
    def is_right(self) -> bool:
        """Whether the best class is the label, or one of the labels."""
        return self.predicted == self.label or self.predicted in self.label.split("|")


@dataclass(frozen=True)
class Confused:
    """A row of confusion.csv."""

    label: str
    predicted: str
    n: Count


@dataclass(frozen=True)
class SplitRecord:
    """The files of eval/SPLIT/."""

    name: str
    metrics: Mapping[str, Any]
    rows: list[PredictionRow] = field(default_factory=list)
    confusion: dict[tuple[str, str], int] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of top1."""
        low, high = self.metrics.get("top1_interval") or (0.0, 1.0)
        return float(low), float(high)

    def figure(self, key: str) -> float | None:
        """A metric, or None where it is missing."""
        value = self.metrics.get(key)
        return value if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass(frozen=True)
class RunRecord:
    """A run: run.json, data.json, config.toml, the curves, the evaluated splits, test first, and
    audit.json, what was found in the data.
    """

    path: Path
    run: Mapping[str, Any]
    data: Mapping[str, Any]
    config: str
    curves: list[Mapping[str, Any]]
    splits: list[SplitRecord]
    audit: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.resolve().name

    @property
    def classes(self) -> list[str]:
        """Names in the order of the outputs, as the tables have them."""
        return [label_cell([str(one)]) for one in self.data.get("classes", [])]

    @property
    def baselines(self) -> dict[str, float]:
        """Top-1 of what does not learn, best first."""
        found = self.run.get("baselines") or {}
        pairs = [(str(k), float(v)) for k, v in found.items() if isinstance(v, int | float)]
        return dict(sorted(pairs, key=lambda item: -item[1]))

    def curve(self, key: str) -> list[tuple[float, float]]:
        """(epoch, value) of a metric."""
        return [
            (where, value)
            for one in self.curves
            if (value := _finite(one.get(key))) is not None
            and (where := _finite(one.get("epoch", one.get("step", 0)))) is not None
        ]


def _finite(value: object) -> float | None:
    """A number of a curve that can be drawn; a run that diverged has others too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= 1e39 else None  # type: ignore[arg-type]


def read_run(path: Path) -> RunRecord:
    """Read the run at `path`. Raises ModelError VIT-407 for no run, VIT-406 for a damaged file."""
    folder = Folder(path)
    if not folder.lies("run.json"):
        raise ModelError(
            "VIT-407",
            f"{path} is not a run directory: it has no run.json.",
            hint="A run directory is written by vitrail train, for instance runs/photos-1",
        )
    splits = [read_split(folder, name) for name in _evaluated(folder)]
    order = {"test": 0, "val": 1}
    return RunRecord(
        path,
        _document(folder, "run.json", run_schema.Run),
        _document(folder, "data.json", run_schema.Data),
        _content(folder, "config.toml").decode("utf-8", "replace"),
        list(_curves(folder, "metrics.jsonl")),
        sorted(splits, key=lambda split: (order.get(split.name, 2), split.name)),
        _document(folder, "audit.json", run_schema.AuditForm),
    )


def _evaluated(folder: Folder) -> list[str]:
    """The folders in eval/ with a split."""
    files = ("metrics.json", "predictions.csv")
    with _reading(folder.path / "eval"):
        return [
            name
            for name in folder.names("eval")
            if not name.startswith(".")  # half of one that is being written
            and any(folder.lies(f"eval/{name}/{file}") for file in files)
        ]


def read_split(folder: Folder, name: str) -> SplitRecord:
    """The files of one evaluated split, in `eval/NAME` of a run. Raises ModelError VIT-406."""
    place = f"eval/{name}"
    rows = list(_table(folder, f"{place}/predictions.csv", TypeAdapter(PredictionRow)))
    cells = _table(folder, f"{place}/confusion.csv", TypeAdapter(Confused))
    return SplitRecord(
        name,
        _document(folder, f"{place}/metrics.json", run_schema.Metrics),
        rows,
        {(cell.label, cell.predicted): cell.n for cell in cells},
        _document(folder, f"{place}/calibration.json", run_schema.CalibrationForm),
    )


def _document(folder: Folder, name: str, schema: type[DocumentPart]) -> dict[str, Any]:
    content = _content(folder, name)
    with _reading(folder.path / name):
        return parse_document(content, schema) if folder.lies(name) else {}


def _content(folder: Folder, name: str) -> bytes:
    with _reading(folder.path / name):
        return folder.read(name, MAX_BYTES) if folder.lies(name) else b""


def _table(folder: Folder, name: str, schema: TypeAdapter[Made]) -> Iterator[Made]:
    """The lines of a CSV file under its head."""
    with _reading(folder.path / name):
        if not folder.lies(name):
            return
        with folder.open(name) as stream, io.TextIOWrapper(stream, "utf-8", "replace", "") as text:
            lines = csv.DictReader(text)
            for line in lines:
                try:
                    yield checked(line, schema)
                except ValueError as error:
                    raise ValueError(f"line {lines.line_num}: {error}") from None


def _curves(folder: Folder, name: str) -> Iterator[Curve]:
    """The records of metrics.jsonl; half a line at its end, torn by a crash, is left out."""
    with _reading(folder.path / name):
        if not folder.lies(name):
            return
        with folder.open(name) as stream:
            for number in itertools.count(1):
                line = stream.readline(MAX_LINE_BYTES)
                if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                    return
                try:
                    yield _curve(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"line {number}: {error}") from None


def _curve(line: bytes) -> Curve:
    record = checked(json.loads(line, parse_int=_number), CURVES)
    for key in ("step", "epoch"):
        if key in record and _finite(record[key]) is None:
            raise ValueError(f"{key}: expected a number, got {str(record[key])[:40]}")
    return record


def _number(digits: str) -> float:
    """A whole number of a curve; one that no float holds is infinite, like its neighbours."""
    return int(digits) if len(digits) <= 18 else float(digits)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a file is not becomes ModelError VIT-406 with its name."""
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ModelError(
            "VIT-406",
            f"{path} cannot be read: {reason or error}",
            hint="Copy it again, or evaluate again: vitrail eval RUN. Without the file the report "
            "is made without what it says.",
        ) from error
