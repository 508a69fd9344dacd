"""`vitrail models FILE`: what a checkpoint holds, where every number is from, how to convert it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.cli.display.output import Output, table
from vitrail.cli.display.told import fact_rows
from vitrail.cli.read_as import ReadAs
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.checkpoints.inspection import CheckpointInspection

NOT_CONVERTIBLE = 4


def inspect_file(path: Path, read_as: ReadAs, output: Output) -> int:
    """Print what is at `path`; 0 where it could be converted as it stands, otherwise 4."""
    from vitrail.checkpoints.inspection import ReadingOptions, inspect
    from vitrail.open_model import find_model, is_ours

    place = find_model(path)
    if is_ours(place):
        return _own(path, output)
    found = inspect(place, ReadingOptions(read_as.settings, read_as.origin, read_as.table))
    output.result(found.to_json(), lines_of(found))
    return NOT_CONVERTIBLE if found.error else 0


def _own(path: Path, output: Output) -> int:
    """A model of vitrail says everything itself."""
    from vitrail.checkpoints.mapping.fact import described
    from vitrail.classifier import load

    classifier = load(path)
    parameters = sum(value.numel() for value in classifier.model.parameters())
    record = {
        "path": str(path),
        "format": "vitrail",
        "model": classifier.meta.name,
        "parameters": parameters,
        "classes": {"names": classifier.classes},
        "preprocess": classifier.preprocess.to_json(),
        "convertible": True,
    }
    rows = [
        ("file", f"{path}: a model of vitrail"),
        ("model", f"{classifier.meta.name}, {parameters:,} parameters"),
        ("classes", f"{len(classifier.classes)} named"),
        ("prepared", described(classifier.preprocess)),
    ]
    output.result(record, table(rows, left=2))
    return 0


def lines_of(found: CheckpointInspection) -> list[str]:
    """The inspection for people."""
    record = found.to_json()
    dtypes = ", ".join(f"{number} {name}" for name, number in record["dtypes"].items())
    rows = [
        ("file", f"{record['path']}: {record['format']}"),
        (
            "holds",
            f"{count(record['tensors'], 'tensor')}, {record['numbers']:,} numbers ({dtypes})",
        ),
    ]
    if record["table"]:
        others = ", ".join(record["other_tables"])
        rows.append(("table", record["table"] + (f"; not taken: {others}" if others else "")))
    rows += _tried(found)
    rows += _read(found, record) if found.foreign else _refused(record)
    rows.append(("convert", record["command"]))
    return table(rows, left=2)


def _tried(found: CheckpointInspection) -> list[tuple[str, str]]:
    """A row for each layout whose names are there, and one for all others."""
    from vitrail.checkpoints.inspection import NO_NAMES

    others = [one.origin for one in found.tried if one.why == NO_NAMES]
    rows = [
        ("tried", f"{one.origin}: {one.why or 'fits'}")
        for one in found.tried
        if one.why != NO_NAMES
    ]
    return rows + ([("tried", f"{', '.join(others)}: {NO_NAMES}")] if others else [])


def _read(found: CheckpointInspection, record: dict[str, Any]) -> list[tuple[str, str]]:
    assert found.foreign is not None
    names, outputs = record["classes"]["names"], record["classes"]["count"]
    named = f"named {', '.join(names[:3])} ..." if names else "without names"
    rows = [
        ("read as", f"{record['origin']}: {record['model']}, {record['parameters']:,} parameters"),
        ("classes", f"{count(outputs, 'output')}, {named}" if outputs else "no head"),
    ]
    rows += [("prefix", f"{record['prefix']} (taken off)")] if record["prefix"] else []
    rows += fact_rows(found.foreign.facts)
    rows += [("note", note) for note in record["notes"]]
    return rows + [("left out", f"{one['name']}: {one['kind']}") for one in record["left_out"]]


def _refused(record: dict[str, Any]) -> list[tuple[str, str]]:
    error = record["error"]
    lines = [*error["message"].splitlines(), *error["hint"].splitlines()]
    rows = [(error["code"] if not number else "", line) for number, line in enumerate(lines)]
    for fact in record["facts"]:
        choices = ", ".join(map(str, fact["possible"]))
        rows.append(("unknown", f"{fact['field']}" + (f": one of {choices}" if choices else "")))
    return rows
