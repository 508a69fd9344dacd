"""The data of a run, found again wherever it is asked for, and compared with what the run recorded.

A run records where its data lay as it was named, absolutely, and as seen from the folder of the
run; so it is found from any working directory, and after run and data were moved together. Which
images are which is told by their content (`data/sources/examples.py`), never by drawing the split
again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.sources.examples import (
    FILE,
    ROLES,
    Examples,
    Pool,
    codes_of,
    match,
    pool_of,
    read_examples,
)
from vitrail.data.sources.folder import some
from vitrail.data.sources.hub_data import is_name
from vitrail.data.sources.open_data import open_whole
from vitrail.data.sources.source import Indices, Source, Splits
from vitrail.errors import DataError, ModelError
from vitrail.folder import Folder
from vitrail.runs import documents
from vitrail.spelling import escaped, printable, unescaped

HINT = "Put it back. Every image of a dataset is measured with: vitrail eval RUN/model DATA"


def place_record(path: str, run: Path) -> dict[str, str]:
    """What data.json says of where the data lies: paths as `spelling.escaped` writes them."""
    if is_name(path):
        return {"path": path}
    full = os.path.abspath(unescaped(path))
    found = {"path": path, "absolute": escaped(full)}
    try:
        from_run = os.path.relpath(os.path.realpath(full), os.path.realpath(run))
    except ValueError:  # another drive
        return found
    return found | {"from_run": escaped(from_run)}


def facts_of(run: Path) -> dict[str, Any]:
    """data.json. Raises ModelError VIT-409."""
    return documents.read(Folder(run), "data.json", hint=HINT)


def record_of(run: Path) -> Examples:
    """examples.dat of a run. Raises ModelError VIT-409."""
    try:
        found = read_examples(run)
    except (OSError, ValueError) as error:
        raise _unreadable(run / FILE, str(error)) from error
    if found.label_codes is None:
        raise _unreadable(run / FILE, "it is that of a model, not of a run")
    with suppress(ModelError):
        names = facts_of(run).get("classes")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return replace(found, classes=tuple(names))
    return found


def _unreadable(path: Path, why: str) -> ModelError:
    return ModelError(
        "VIT-409",
        f"{path} cannot be read: {why}; without it nobody can tell which images the run has seen.",
        hint=HINT,
    )


def places_of(run: Path, facts: dict[str, Any], given: str | None = None) -> list[str]:
    """Where the data of a run may lie now, the likeliest first. Raises DataError VIT-303."""
    if given is not None:
        return [given]
    named = [facts.get(key) for key in ("absolute", "from_run", "path")]
    absolute, from_run, path = map(_read_back, named)
    if is_name(path):
        return [path]
    asked = [absolute, os.path.join(run, from_run) if from_run else "", path]
    if not any(asked):
        raise documents.unreadable(run / "data.json", "it does not say where the data lies", HINT)
    there = [one for one in asked if one and os.path.exists(one)]
    if there:
        return list({os.path.realpath(one): one for one in reversed(there)}.values())[::-1]
    looked = some(list(dict.fromkeys(os.path.normpath(one) for one in asked if one)))
    raise DataError(
        "VIT-303",
        f"the data {printable(path)} of {run} is not there; looked for at {looked}.",
        hint=f"If it was moved, say where it is: vitrail eval {run} DATA, "
        f"vitrail train DATA --resume {run}",
    )


def _read_back(recorded: object) -> str:
    """The path that data.json has; "" for what is none."""
    try:
        return unescaped(recorded) if isinstance(recorded, str) else ""
    except ValueError:
        return ""


def resumed(run: Path, given: str | None = None) -> Splits:
    """The splits of a run exactly as it began with them, each image in its old place.

    given: where the data lies now. Raises DataError VIT-322 naming what differs, VIT-303 where the
    data is not there, ModelError VIT-409.
    """
    facts, record = facts_of(run), record_of(run)
    failed: DataError | None = None
    for place in places_of(run, facts, given):
        try:
            return _same(run, place, facts, record)
        except DataError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _same(run: Path, place: str, facts: dict[str, Any], record: Examples) -> Splits:
    listed = open_whole(place, min_classes=1)
    classes = tuple(facts.get("classes", ()))
    if listed.classes != classes:
        gone, new = sorted(set(classes) - {*listed.classes}), sorted({*listed.classes} - {*classes})
        what = f"removed {some(gone) or 'none'}; new {some(new) or 'none'}"
        raise _other(run, place, f"the classes are others than at its start ({what})")
    how = str(facts.get("split", ""))
    if record.index:
        _check_index(run, place, listed, record)
        own = indexed_parts(record, listed, place)
        return _with_parts(run, listed, own, how)
    pool = pool_of(listed, record)
    found = match(record, pool)
    if differences := _differences(record, pool, found):
        raise _other(run, place, "; ".join(differences))
    parts: dict[str, Source] = {
        role: pool.take(found[record.roles == ROLES.index(role)], f"{place}:{role}")
        for role in ("train", "val", "test")
        if (record.roles == ROLES.index(role)).any()
    }
    return _with_parts(run, listed, parts, how)


def _with_parts(run: Path, listed: Splits, parts: Mapping[str, Source], how: str) -> Splits:
    """`listed` with the recorded splits in place of its own."""
    if "train" not in parts:
        raise _unreadable(run / FILE, "it names no training images")
    val, test = parts.get("val"), parts.get("test")
    return replace(listed, train=parts["train"], val=val, test=test, how=how)


def _check_index(run: Path, place: str, listed: Splits, record: Examples) -> None:
    """Raises DataError VIT-322 where very many images have another index than at the start."""
    if listed.index != record.index or sum(listed.counts().values()) != len(record):
        raise _other(run, place, "it has another index than the one that the run recorded")


def indexed_parts(record: Examples, listed: Splits, name: str) -> dict[str, Source]:
    """The recorded splits of an index, those that there are."""
    pieces = [*listed.parts().values()]
    rows = pieces[0] if len(pieces) == 1 else pieces[0].joined(pieces[1:], name)
    places = {
        role: np.flatnonzero(record.roles == ROLES.index(role)) for role in ("train", "val", "test")
    }
    return {role: rows.subset(own) for role, own in places.items() if len(own)}


def _other(run: Path, place: str, what: str) -> DataError:
    return DataError(
        "VIT-322",
        f"{printable(place)} does not hold the images that {run} was started with: {what}. "
        "It cannot be continued bit for bit.",
        hint=f"Put the old images back, or start a new run: vitrail train {printable(place)}",
    )


def _differences(record: Examples, pool: Pool, found: Indices) -> list[str]:
    """What differs, a phrase for each split and kind with the first names."""
    assert record.label_codes is not None
    places = {name: place for place, name in enumerate(pool.names)}
    codes = np.concatenate([codes_of(source.labels) for _, source in pool.parts])
    known = found >= 0
    named = np.array([places.get(name, -1) for name in record.names], np.int64)
    exchanged = known & (named >= 0) & (named != found)  # its content lies under another's name
    lost = (~known | exchanged) & (record.roles != ROLES.index("before"))
    moved = np.zeros(len(record), bool)
    moved[known] = (codes[found[known]] != record.label_codes[known]).any(axis=1)
    told, replaced = [], set()
    for number, role in enumerate(ROLES[:4]):
        rows = np.flatnonzero(lost & (record.roles == number))
        other = [record.names[row] for row in rows if named[row] >= 0]
        gone = [record.names[row] for row in rows if named[row] < 0]
        label = [record.names[row] for row in np.flatnonzero(moved & (record.roles == number))]
        replaced.update(other)
        told += _counted(role, {"changed": other, "removed": gone, "of another class": label})
    is_taken = np.zeros(len(pool.names), bool)
    is_taken[found[known]] = True
    new = [pool.names[k] for k in np.flatnonzero(~is_taken) if pool.names[k] not in replaced]
    return told + _counted("new", {"added": new})


def _counted(role: str, kinds: dict[str, Sequence[str]]) -> list[str]:
    return [
        f"{len(names):,} {role} images {kind} ({some(list(names), 3)})"
        for kind, names in kinds.items()
        if names
    ]


def parts_of(record: Examples, pool: Pool, name: str) -> tuple[dict[str, Source], dict[str, int]]:
    """The recorded splits that can be found in `pool` again, in the order of the data, and how many
    images of each cannot.
    """
    found = match(record, pool)
    parts, missing = {}, {}
    for role in ("train", "val", "test"):
        places = found[record.roles == ROLES.index(role)]
        missing[role] = int((places < 0).sum())
        if len(places) > missing[role]:
            parts[role] = pool.take(np.sort(places[places >= 0]), f"{name}:{role}")
    return parts, missing
