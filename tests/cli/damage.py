"""Every way in which a file of a folder may be damaged, hostile or odd."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    1e308,
    float("nan"),
    float("inf"),
    10**400,
    2**64,
    "",
    "x",
    "\udcff",
    "\u202e<b>",
    "9" * 5000,
    [],
    {},
    [None],
    [[1]],
    {"": None},
    ["x", 1],
    "a" * 70_000,
)
TEXTS = {
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "number": b"3",
    "true": b"true",
    "nan": b"NaN",
    "nothing": b"{}",
    "open": b"{",
    "binary": bytes(range(256)) * 9,
    "nul": b"\0\0",
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "twice": b'{"n":1,"n":{}}',
    "huge": b'{"n":' + b"9" * 100_000 + b"}",
    "float": b'{"n":1e999}',
    "page": b"<!doctype html>",
    "surrogate": b'"\\ud800"',
    "comma": b',,,,\n,\n"',
    "lines": b"x\n" * 1_000_000,
    "one line": b"a" * 3_000_000,
    "toml": b"a = [[[[\n",
    "deep toml": b"a = " + b"[" * 100_000,
    "pickle": b"\x80\x04\x95\x01\x00\x00\x00.",
    "zip": b"PK\x05\x06" + b"\0" * 18,
}


def whole_file_damages() -> dict[str, Damage]:
    """Damages of any file, by name."""
    found: dict[str, Damage] = {
        name: lambda path, text=text: _put(path, text)  # type: ignore[misc]
        for name, text in TEXTS.items()
    }
    return found | {
        "absent": lambda path: path.unlink(),
        "half": lambda path: _change(path, lambda data: data[: len(data) // 2]),
        "less": lambda path: _change(path, lambda data: data[:-1]),
        "more": lambda path: _change(path, lambda data: data + b"x"),
        "bom": lambda path: _change(path, lambda data: b"\xef\xbb\xbf" + data),
        "utf-16": lambda path: _change(path, lambda data: b"\xff\xfe" + data[:999]),
        "upper": lambda path: _change(path, bytes.upper),
        "bit": lambda path: _change(path, _flipped),
        "folder": lambda path: _replace(path, Path.mkdir),
        "pipe": lambda path: _replace(path, os.mkfifo),
        "link to nothing": lambda path: _replace(path, lambda it: it.symlink_to("nowhere")),
        "link to zeros": lambda path: _replace(path, lambda it: it.symlink_to("/dev/zero")),
        "link to itself": lambda path: _replace(path, lambda it: it.symlink_to(it.name)),
    }


def value_damages(path: Path) -> dict[str, Damage]:
    """One value of a JSON file, of a line of JSON, or of a cell of a table in another's place."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".csv":
        return _cells(text)
    first, *rest = text.splitlines() if path.suffix == ".jsonl" else (text,)
    try:
        document = json.loads(first)
    except ValueError:
        return {}
    below, where = "\n".join(["", *rest]), list(places(document))
    return {
        f"{place} = {str(value)[:12]}": _writes(json.dumps(changed(document, place, value)) + below)
        for place in where
        for value in VALUES
    } | {
        f"without {place}": _writes(json.dumps(without(document, place)) + below) for place in where
    }


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value can be put, two items of a list at most."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield (*above, key)
            yield from places(item, (*above, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield (*above, index)
            yield from places(item, (*above, index))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """`value` with `new` at `place`."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[place[0]] = changed(copy[place[0]], place[1:], new)
    return copy


def without(value: Any, place: tuple[Any, ...]) -> Any:
    """`value` without what is at `place`."""
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    if len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = without(copy[place[0]], place[1:])
    return copy


def sample(damages: Mapping[str, Damage], count: int, seed: str) -> dict[str, Damage]:
    """`count` of them, the same for the same seed."""
    names = sorted(damages)
    chosen = random.Random(seed).sample(names, min(count, len(names)))
    return {name: damages[name] for name in chosen}


def _cells(text: str) -> dict[str, Damage]:
    rows = list(csv.reader(io.StringIO(text)))
    found = {}
    for row in (0, 1, len(rows) - 1):
        for column in range(len(rows[row]) if row < len(rows) else 0):
            for value in ("", "x", "nan", "-1", "1e400", "9" * 5000, "\0", "a\nb", "a" * 200_000):
                cells = [list(line) for line in rows]
                cells[row][column] = value
                stream = io.StringIO()
                csv.writer(stream, lineterminator="\n").writerows(cells)
                found[f"{row}.{column} = {value[:9]!r}"] = _writes(stream.getvalue())
    return found


def _writes(text: str) -> Damage:
    return lambda path: _put(path, text.encode("utf-8", "surrogatepass"))


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _change(path: Path, how: Callable[[bytes], bytes]) -> None:
    path.write_bytes(how(path.read_bytes()))


def _replace(path: Path, make: Damage) -> None:
    path.unlink()
    make(path)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :] if data else b"\x04"
