"""The weights of the catalogue for `vitrail models`: listed, described, downloaded on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vitrail.cli.display.output import Output, table

if TYPE_CHECKING:
    from vitrail.checkpoints.catalogue.weights import Weights


def rows_of(model: str | None) -> list[Weights]:
    """Published weights of an architecture in any of its spellings, or all of them."""
    from vitrail.checkpoints.catalogue.weights import ROWS
    from vitrail.models.names import parse_name

    wanted = parse_name(model) if model else None
    return [row for row in ROWS if model is None or parse_name(row.model) == wanted]


def weights_record(row: Weights) -> dict[str, Any]:
    """One row as plain values. downloaded: the file, where it is in the cache; null where it is
    not, or lies in the hub's own cache.
    """
    from vitrail.checkpoints.hub.download import cached_path

    is_hub = row.address.startswith("hf:")
    place = None if is_hub else cached_path(row.address)
    return {
        "name": row.name,
        "model": row.model,
        "origin": row.origin,
        "address": row.address,
        "image_size": list(row.image_size),
        "num_classes": row.num_classes,
        "trained_on": row.trained_on,
        "top1": row.top1,
        "reported_by": row.reported_by or None,
        "licence": row.licence,
        "sha256": row.sha256_start or None,
        "preprocess": row.preprocess.to_json() if row.preprocess else None,
        "downloaded": str(place) if place and place.is_file() else None,
    }


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
    """Download weights by any of their names, or check those that are here; what came of it.

    Raises UsageError VIT-202 where `name` is a path, and what `resolve_weights` raises.
    """
    from vitrail.checkpoints.catalogue.meant import way_out
    from vitrail.checkpoints.hub.download import verify
    from vitrail.checkpoints.hub.resolve import address_of, catalogue_entry, resolve_weights
    from vitrail.cli.display.progress import progress_of
    from vitrail.errors import UsageError

    address = address_of(name)
    if not address:
        raise UsageError(
            "VIT-202",
            f"--get {name}: expected a name of the catalogue, google:FILE or hf:OWNER/NAME.",
            hint=way_out(name) or "All weights: vitrail models --weights",
        )
    row = catalogue_entry(address)
    place = resolve_weights(name, progress=progress_of(output))
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    expected = row.sha256_start if row else ""
    return {
        "name": name,
        "address": address,
        "path": str(place),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": None if place.is_dir() else verify(place, expected),
        "licence": row.licence if row else None,
    }


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
