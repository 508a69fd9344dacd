"""The weights of the catalogue for `vitrail models`: listed, described, downloaded on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vitrail.api.model_list import weights_record
from vitrail.cli.display.output import Output, table

if TYPE_CHECKING:
    from vitrail.checkpoints.catalogue.weights import Weights


def weights_table(rows: Sequence[Weights]) -> list[str]:
    """A line each, under a head."""
    head = ["weights", "origin", "image", "classes", "top-1 %", "by", "cached", "licence"]
    return table([head, *(_cells(row) for row in rows)], left=2)


def _cells(row: Weights) -> list[str]:
    record = weights_record(row)
    return [
        row.name,
        row.origin,
        str(row.image_size[0]),
        str(row.num_classes or "-"),
        f"{100 * row.top1:.2f}" if row.top1 else "-",
        row.reported_by or "-",
        "yes" if record["downloaded"] else "-",
        "see source" if "/" in row.licence else row.licence,
    ]


def weights_lines(row: Weights) -> list[str]:
    """One row, a fact a line."""
    record = weights_record(row)
    rule = row.preprocess
    how = f"resize {rule.resize}, {rule.crop} crop, {rule.interpolation}" if rule else "in the file"
    rows = [
        ("weights", row.name),
        ("model", f"{row.model}, {row.image_size[0]} px, {row.num_classes or 'no'} classes"),
        ("trained on", row.trained_on),
        ("top-1", f"{100 * row.top1:.2f} % ({row.reported_by})" if row.top1 else "not reported"),
        ("preprocess", how),
        ("licence", row.licence),
        ("origin", row.origin),
        ("address", row.address),
        ("sha256", f"begins with {row.sha256_start}" if row.sha256_start else "not published"),
        ("cached", record["downloaded"] or "no"),
    ]
    return [f"{key:<14} {value}" for key, value in rows]


def get(name: str, output: Output) -> dict[str, Any]:
    """Download weights by any of their names, or check those that are here; what came of it."""
    from vitrail.api.model_list import download
    from vitrail.cli.display.progress import progress_of

    return download(name, progress=progress_of(output)).to_json()


def get_lines(record: dict[str, Any]) -> list[str]:
    """What was downloaded."""
    rows = [
        ("weights", record["name"]),
        ("path", record["path"]),
        ("size", f"{record['bytes'] / 1e6:,.1f} MB"),
        *([("sha256", record["sha256"])] if record["sha256"] else []),
        ("licence", record["licence"] or "see source"),
    ]
    return [f"{key:<14} {value}" for key, value in rows]
