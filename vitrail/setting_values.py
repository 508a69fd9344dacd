"""How the value of a setting is written: numbers, sizes, times, lists; parsed and bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from vitrail.errors import UsageError
from vitrail.spelling import PREFIX, escaped

MOST = 2**53  # of any number; beyond, whole numbers and floats differ


NUMBER = r"[0-9]+\.?[0-9]*|\.[0-9]+"
SECS = rf"({NUMBER})\s*([smh]?)"


def parse_size(value: object) -> object:
    """(height, width) from 64, "64", "64x48" (height first) or a pair; "auto" is passed through."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}([x,][0-9]{1,9})?", value):
        numbers = [int(part) for part in re.split(r"[x,]", value)]
        return (numbers[0], numbers[-1])
    return (value, value) if isinstance(value, int) else value


def parse_number(value: object) -> object:
    """An integer from "3"; anything else is passed through."""
    is_number = isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value)
    return int(value) if isinstance(value, str) and is_number else value


def parse_secs(value: object) -> object:
    """Seconds from 90, "90", "90s", "10m", "1.5h"."""
    if isinstance(value, str) and (found := re.fullmatch(SECS, value)):
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    return value


def check_unit(name: str, value: object, *, key: str = "") -> None:
    """Refuse a time without a unit. name: of the option, which does not say the unit; key: under
    which a number counts seconds. Raises UsageError VIT-212.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(NUMBER, text):
        return
    seconds = f", or {key} = {text} in a file or --{key.replace('_', '-')} {text}" if key else ""
    raise UsageError(
        "VIT-212",
        f"{name} {text}: a time needs a unit: s, m or h.",
        hint=f"For instance {name} {text}s or {name} {text}m{seconds}",
    )


def parse_list(value: object) -> object:
    """A tuple of any length from "0.3,0.6", "0.3" or ""; anything else is passed through."""
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


def parse_tuple(value: object) -> object:
    """A tuple from "0.5,0.5"; anything else is passed through."""
    return tuple(value.split(",")) if isinstance(value, str) and "," in value else value


def parse_path(value: object) -> object:
    """A path as settings hold it: `escaped` where it cannot stand as it is in TOML and JSON."""
    if not isinstance(value, str) or value.startswith(PREFIX):
        return value
    return escaped(value)


@dataclass(frozen=True)
class Short:
    """Mark of a setting that has a short option beside `--SECTION.NAME`."""

    name: str


@dataclass(frozen=True)
class Only:
    """Mark of a setting that does something only where the setting `key` has one of `values`, or,
    without values, where that one is given at all. A user who sets it elsewhere is refused.
    """

    key: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class ReadOf:
    """Mark of a setting that concerns images in files, or shards in an object store, and no others:
    a user who sets it for others is told that nothing reads it.
    """

    kind: Literal["files", "store"]


def written(form: str) -> Any:
    """How a value is written on a command line, for help: of types that are more than a number."""
    return WithJsonSchema({"type": form})


Size = Annotated[
    tuple[Annotated[int, Field(ge=1, le=16384)], Annotated[int, Field(ge=1, le=16384)]],
    BeforeValidator(parse_size),
    written("64 or 64x48"),
]
TextPath = Annotated[str, BeforeValidator(parse_path), written("path")]
Secs = Annotated[float, Field(gt=0), BeforeValidator(parse_secs), written("time as 90s, 10m, 1.5h")]
Pair = Annotated[tuple[float, float], BeforeValidator(parse_tuple), written("two numbers a,b")]
Share = Annotated[float, Field(ge=0, le=1)]
Positives = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(parse_list), written("numbers a,b,c")
]
Sha256 = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
