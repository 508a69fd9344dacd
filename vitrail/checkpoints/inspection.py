"""What a file of another library holds, said without writing anything (`vitrail models FILE`).

A file that can be read is read, so that what is said is what `convert` would do, damage and shapes
included; of one that cannot, the header says what it is, and every layout that was tried why it
does not fit, best fit first.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.checkpoints.external import ExternalCheckpoint, read_external, with_known
from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.mapping.fact import fact_rows
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.mapping.stated import read_settings
from vitrail.checkpoints.mapping.unsupported import part_of
from vitrail.checkpoints.mapping.wrappers import views
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.checkpoints.recognise import ask
from vitrail.errors import ModelError
from vitrail.spelling import count

NO_NAMES = "its names are not there"


class ReadingOptions(NamedTuple):
    """As of `vitrail convert`."""

    settings: tuple[str, ...] = ()
    origin: str | None = None
    table: str | None = None


class Tried(NamedTuple):
    """A layout. num_open: tensors without a place; why: it does not fit, "" where it does."""

    origin: str
    num_open: int
    why: str


class CheckpointInspection(NamedTuple):
    """foreign: None where it cannot be read, for the reason in `error`."""

    path: Path
    header: Header
    tried: tuple[Tried, ...]
    foreign: ExternalCheckpoint | None
    error: ModelError | None
    asked: ReadingOptions

    @property
    def command(self) -> str:
        """That converts it, with what is still missing as `...`."""
        words = [shlex.quote(str(self.path)), "OUT", "--to", "vitrail"]
        missing = self.error.details.get("asked", []) if self.error else []
        assert isinstance(missing, list)
        for item in (*self.asked.settings, *(f"{fact['field']}=..." for fact in missing)):
            words += ["--set", item]
        words += ["--origin", self.asked.origin] if self.asked.origin else []
        words += ["--table", self.asked.table] if self.asked.table else []
        return " ".join(["vitrail convert", *words])

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        record = self.to_json()
        dtypes = ", ".join(f"{number} {name}" for name, number in record["dtypes"].items())
        held = f"{count(record['tensors'], 'tensor')}, {record['numbers']:,} numbers ({dtypes})"
        rows = [("file", f"{record['path']}: {record['format']}"), ("holds", held)]
        if record["table"]:
            others = ", ".join(record["other_tables"])
            rows.append(("table", record["table"] + (f"; not taken: {others}" if others else "")))
        rows += _tried_rows(self.tried)
        rows += _read_rows(self.foreign, record) if self.foreign else _refused_rows(record)
        return [*rows, ("convert", record["command"])]

    def to_json(self) -> dict[str, Any]:
        """As `vitrail models FILE --json` prints it."""
        torch: Mapping[str, Any] = self.header.metadata.get("torch", {})
        shapes = self.header.shapes
        return {
            "path": str(self.path),
            "format": format_of(self.header),
            "tensors": len(shapes),
            "numbers": sum(prod(shape) for shape in shapes.values()),
            "dtypes": dict(Counter(self.header.dtypes.values())),
            "table": torch.get("wrapped"),
            "other_tables": list(torch.get("more", ())),
            "tried": [one._asdict() for one in self.tried],
            "convertible": self.error is None,
            "command": self.command,
            **(_of_foreign(self.foreign) if self.foreign else _of_error(self.error)),
        }


def inspect(path: Path, asked: ReadingOptions) -> CheckpointInspection:
    """What is at `path`. Raises what `open_tensors` raises, UsageError VIT-202, VIT-211."""
    given = read_settings(asked.settings)
    with closing(open_tensors(path, table=asked.table or "")) as source:
        header = with_known(source.header, path, given, asked.origin)
        tried = _tried(header, asked.origin)
    try:
        foreign = read_external(path, origin=asked.origin, given=given, table=asked.table)
    except ModelError as error:
        return CheckpointInspection(path, header, tried, None, error, asked)
    return CheckpointInspection(path, header, tried, foreign, None, asked)


def format_of(header: Header) -> str:
    """The kind of file, and what lies beside it."""
    beside = [name for name in header.metadata if name.endswith(".json")]
    kind = "PyTorch" if "torch" in header.metadata else "tensors"
    suffix = header.name.rsplit(".", 1)[-1] if "." in header.name else ""
    named = {"safetensors": "safetensors", "npz": "NumPy arrays"}.get(suffix, kind)
    return named + (f", with {', '.join(beside)}" if beside else "")


def _tried(header: Header, wanted: str | None) -> tuple[Tried, ...]:
    """Every layout on the view of the file that it fits best; best fit first."""
    names = [wanted] if wanted else list(ORIGINS)
    found = [
        min((_try(name, view.header) for view in views(header)), key=_openness) for name in names
    ]
    return tuple(sorted(found, key=_openness))


def _openness(tried: Tried) -> tuple[bool, int]:
    return tried.why == NO_NAMES, tried.num_open


def _try(name: str, header: Header) -> Tried:
    num = len(header.shapes)
    try:
        found = ask(ORIGINS[name], header)
    except ModelError as error:
        return Tried(name, num, f"{error.code}: {error.message.splitlines()[0]}")
    if found is None:
        return Tried(name, num, NO_NAMES)
    known = {theirs for rule in found.rules for theirs in rule.theirs}
    missing = [theirs for theirs in known if theirs not in header.shapes]
    over = [theirs for theirs in header.shapes if theirs not in known]
    why = f"missing: {min(missing)}" if missing else f"without a place: {over[0]}" if over else ""
    return Tried(name, len(missing) + len(over), why)


def _of_foreign(foreign: ExternalCheckpoint) -> dict[str, Any]:
    classes = list(foreign.classes)
    return {
        "origin": foreign.origin,
        "model": foreign.name,
        "prefix": foreign.report.prefix,
        "parameters": sum(value.numel() for value in foreign.model.parameters()),
        "facts": [fact.to_json() for fact in foreign.facts],
        "classes": {"count": foreign.config.num_classes, "names": classes},
        "preprocess": foreign.preprocess.to_json(),
        "notes": list(foreign.notes),
        "left_out": [{"name": name, "kind": kind} for name, kind in foreign.report.left_out],
        "error": None,
    }


def _of_error(error: ModelError | None) -> dict[str, Any]:
    assert error is not None
    unused = error.details.get("unused", [])
    assert isinstance(unused, Sequence)
    kinds = [
        {"name": str(name), "kind": part_of(str(name)) or "may change the function"}
        for name in unused
    ]
    return {
        "facts": error.details.get("asked", []),
        "missing": error.details.get("missing", []),
        "unused": kinds,
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
    }


def _tried_rows(tried: Sequence[Tried]) -> list[tuple[str, str]]:
    """A row for each layout whose names are there, and one for all others."""
    others = [one.origin for one in tried if one.why == NO_NAMES]
    rows = [("tried", f"{one.origin}: {one.why or 'fits'}") for one in tried if one.why != NO_NAMES]
    return rows + ([("tried", f"{', '.join(others)}: {NO_NAMES}")] if others else [])


def _read_rows(foreign: ExternalCheckpoint, record: dict[str, Any]) -> list[tuple[str, str]]:
    names, outputs = record["classes"]["names"], record["classes"]["count"]
    named = f"named {', '.join(names[:3])} ..." if names else "without names"
    rows = [
        ("read as", f"{record['origin']}: {record['model']}, {record['parameters']:,} parameters"),
        ("classes", f"{count(outputs, 'output')}, {named}" if outputs else "no head"),
    ]
    rows += [("prefix", f"{record['prefix']} (taken off)")] if record["prefix"] else []
    rows += fact_rows(foreign.facts)
    rows += [("note", note) for note in record["notes"]]
    return rows + [("left out", f"{one['name']}: {one['kind']}") for one in record["left_out"]]


def _refused_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    error = record["error"]
    lines = [*error["message"].splitlines(), *error["hint"].splitlines()]
    rows = [(error["code"] if not number else "", line) for number, line in enumerate(lines)]
    for fact in record["facts"]:
        choices = ", ".join(map(str, fact["possible"]))
        rows.append(("unknown", f"{fact['field']}" + (f": one of {choices}" if choices else "")))
    return rows
