"""JSON that somebody else may have made: parsed against a schema, refused with a line for people.

Numbers are finite and fit into 64 bits, so that whatever reads them later may compare, divide and
print them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

SHOWN = 5
MOST_LEVELS = 20  # of tables within tables
Made = TypeVar("Made")
Plain = str | int | float | bool | None
Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e39, le=1e39, allow_inf_nan=False)]  # float32 and its like


DIGEST = "digest"  # the field of a document that holds the sha256 of all its others
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
CHANGED = "it was changed or damaged after it was written (its digest differs)"
BY_HAND = f'Where the change is meant, remove the line that begins with "{DIGEST}".'


class DocumentPart(BaseModel):
    """An object of a document: what it does not name is left out, null is the same as absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def as_given(self) -> dict[str, Any]:
        """Plain values of what was there."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ValueError for anything that is not exactly that, and for
    tables in more than `MOST_LEVELS` others: a key `a.a.a` makes them without a bracket.
    """
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level: list[object] = [found]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        raise ValueError("it is nested too deeply")
    return found


def parse_json(data: bytes | str) -> object:
    """The value in a JSON text. Raises ValueError for anything that is not exactly that, and for an
    object that has a key twice.
    """
    try:
        return json.loads(
            data,
            parse_constant=_refuse,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=no_repeats,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_keys(data: bytes | str) -> None:
    """Raise ValueError where an object of a JSON text has a key twice, which pydantic's own parser
    reads without a word.
    """
    try:
        json.loads(data, object_pairs_hook=no_repeats)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for a key that it has twice: readers take the first or
    the last, so that two of them understand different things.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the key {twice[:60]!r} twice")
    return found


def digest_of(document: BaseModel) -> str:
    """sha256 of everything in a document but its digest, as 64 hex digits."""
    return _sha256(document.model_dump_json(by_alias=True, exclude={DIGEST}))


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of plain values, with the digest of all of them as its last."""
    rest = {name: value for name, value in document.items() if name != DIGEST}
    plain = json.loads(json.dumps(rest))  # as it is read again: every key a text
    return rest | {DIGEST: _sha256(json.dumps(plain, sort_keys=True))}


def opened(document: object) -> dict[str, Any]:
    """The values of a document that `sealed` made, without the digest. One that has none is older,
    or was changed by hand on purpose. Raises ValueError where a value is another by now.
    """
    if not isinstance(document, Mapping):
        raise ValueError("it is no object")
    if DIGEST in document and document != sealed(document):
        raise ValueError(CHANGED)
    return {name: value for name, value in document.items() if name != DIGEST}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parse_document(data: bytes | str, schema: type[DocumentPart]) -> dict[str, Any]:
    """The object in a JSON text, as its schema has it. Raises ValueError with what is wrong."""
    try:
        return schema.model_validate(parse_json(data)).as_given()
    except ValidationError as error:
        raise ValueError(problems(error)) from None


def checked(value: object, schema: TypeAdapter[Made]) -> Made:
    """`value` as its schema has it. Raises ValueError with what is wrong."""
    try:
        return schema.validate_python(value)
    except ValidationError as error:
        raise ValueError(problems(error)) from None


def problems(error: ValidationError) -> str:
    """What a schema refused, on one line: `counts.train: Input should be a valid integer`."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [
        f"{'.'.join(str(part)[:60] for part in item['loc'][:6]) or 'document'}: {item['msg'][:200]}"
        for item in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join(lines + more)


def _refuse(word: str) -> float:
    raise ValueError(f"it holds {word}, which is no number of JSON")


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"it holds a number of {len(text)} digits, which does not fit 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"it holds {re.sub('[0-9]{20,}', '...', text)[:40]}, which is too large")
    return value
