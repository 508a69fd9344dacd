"""What a run directory says, read for its report: nothing here needs torch, and what is missing is
simply left out of the report.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.errors import ModelError
from vitrail.spelling import label_cell


@dataclass(frozen=True)
class Row:
    """A row of predictions.csv."""

    source: str
    label: str
    predicted: str
    p_label: float
    p_predicted: float
    loss: float

    @property
    def is_right(self) -> bool:
        """Whether the best class is the label, or one of the labels."""
        return self.predicted == self.label or self.predicted in self.label.split("|")


@dataclass(frozen=True)
class SplitRecord:
    """The files of eval/SPLIT/."""

    name: str
    metrics: Mapping[str, Any]
    rows: list[Row] = field(default_factory=list)
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
            (float(one.get("epoch", one.get("step", 0))), float(one[key]))
            for one in self.curves
            if isinstance(one.get(key), int | float) and math.isfinite(one[key])
        ]


def read_run(path: Path) -> RunRecord:
    """Read the run at `path`. Raises ModelError VIT-407 for no run, VIT-406 for a damaged file."""
    if not (path / "run.json").is_file():
        raise ModelError(
            "VIT-407",
            f"{path} is not a run directory: it has no run.json.",
            hint="A run directory is written by vitrail train, for instance runs/photos-1",
        )
    config = path / "config.toml"
    folders = sorted((path / "eval").glob("*/metrics.json"))
    splits = [read_split(one.parent) for one in folders]
    order = {"test": 0, "val": 1}
    return RunRecord(
        path,
        _read_json(path / "run.json"),
        _read_json(path / "data.json"),
        config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        list(_read_lines(path / "metrics.jsonl")),
        sorted(splits, key=lambda split: (order.get(split.name, 2), split.name)),
        _read_json(path / "audit.json"),
    )


def read_split(folder: Path) -> SplitRecord:
    """The files of one evaluated split. Raises ModelError VIT-406."""
    try:
        rows = [
            Row(r["source"], r["label"], r["predicted"], float(r["p_label"]),
                float(r["p_predicted"]), float(r["loss"]))
            for r in _read_table(folder / "predictions.csv")
        ]  # fmt: skip
        cells = {(r["label"], r["predicted"]): int(r["n"])
                 for r in _read_table(folder / "confusion.csv")}  # fmt: skip
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise _damaged(folder, f"a table is not as vitrail writes it ({error})") from error
    metrics = _read_json(folder / "metrics.json")
    return SplitRecord(folder.name, metrics, rows, cells, _read_json(folder / "calibration.json"))


def _read_table(path: Path) -> Iterator[dict[str, str]]:
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            yield from csv.DictReader(stream)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(document, dict):
        raise _damaged(path, "expected an object")
    return document


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole records of metrics.jsonl; a line that was torn by a crash is left out."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        "VIT-406",
        f"{path} cannot be read: {why}",
        hint="Evaluate the model again: vitrail eval RUN",
    )
