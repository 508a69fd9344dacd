"""Settings as TOML: read from a file, written with the meaning of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.config import FIELDS, TrainConfig, flatten, meaning
from vitrail.documents import parse_toml
from vitrail.errors import UsageError
from vitrail.folder import read_named
from vitrail.spelling import printable

MAX_TOML_BYTES = 1_000_000


def read_toml(path: Path) -> dict[str, Any]:
    """Flat dotted settings of a TOML file. Raises UsageError VIT-215 where it cannot be read."""
    fresh = "Correct that line, or write a fresh file: vitrail train DATA --print-config"
    return flatten(toml_document(path, fresh))


def toml_document(path: Path, hint: str) -> dict[str, Any]:
    """What a TOML file holds. Raises UsageError VIT-215 with `hint` where it cannot be read."""
    name = printable(str(path))
    try:
        return parse_toml(read_named(path, MAX_TOML_BYTES).decode("utf-8"))
    except OSError as error:
        raise UsageError(
            "VIT-215", f"{name} cannot be read: {error.strerror or error}.", hint=hint
        ) from error
    except ValueError as error:  # no UTF-8, no TOML
        raise UsageError(
            "VIT-215", f"{name}: cannot be read as TOML: {error}", hint=hint
        ) from error


def to_toml(config: TrainConfig) -> str:
    """The settings as TOML, each below its meaning."""
    return toml_lines(flatten(config))


def toml_lines(flat: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> str:
    """Flat dotted settings as TOML, each below its meaning: plain values first, then one table a
    section. sources: where values came from, said beside them.
    """
    tables: dict[str, list[str]] = {"": []}
    for key, value in flat.items():
        section, _, name = key.partition(".") if "." in key else ("", "", key)
        text = f"{name} = {_toml_value(value)}"
        if sources is not None:
            text = f"{text:<40}  # {sources.get(key, 'built-in')}"
        said = [f"# {meaning(FIELDS[key])}"] if key in FIELDS else []
        tables.setdefault(section, []).extend([*said, text])
    for section in [name for name in tables if name]:
        tables[""] += ["", f"[{section}]", *tables[section]]
    return "\n".join(tables[""]) + "\n"


def _toml_value(value: object) -> str:
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # JSON may hold a raw DEL, TOML may not
