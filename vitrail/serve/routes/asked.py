"""What a request to /v1/classify asks for: raw bytes of one image, or JSON with one or several."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vitrail.documents import no_repeats
from vitrail.serve.problem import Problem, malformed

MAX_TOP = 100_000
RAW = "application/octet-stream"
Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True)
class Asked:
    """Encoded images; how many classes of each; whether the answer is a list of one list each."""

    images: list[bytes]
    top: int
    is_list: bool


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    top_k: int | None = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    inputs: str | list[str]
    parameters: _Parameters = _Parameters()


def asked(kind: str, body: bytes, top: str | None) -> Asked:
    """The request in a body of that kind. Raises Problem 400, 422."""
    if kind != "application/json":
        return Asked([body], _top(_number(top)), False)
    document = read_document(body, _Document)
    given = document.inputs
    images = [from_base64(one) for one in ([given] if isinstance(given, str) else given)]
    if not images:
        raise malformed("inputs: no image")
    wanted = document.parameters.top_k
    if None not in (top, wanted) and top != str(wanted):
        raise Problem(422, "VIT-202", "top and parameters.top_k: expected one of them")
    return Asked(images, _top(_number(top) if wanted is None else wanted), isinstance(given, list))


def read_document(body: bytes, schema: type[Document]) -> Document:
    """The JSON of a body, as its schema has it. Raises Problem 400 VIT-910, also for a key that is
    given twice, of which nobody can say which one counts.
    """
    try:
        found = json.loads(body.decode(), object_pairs_hook=no_repeats)
        return schema.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][:4])
        raise malformed(f"{place or 'body'}: {first['msg']}"[:200]) from None
    except RecursionError:
        raise malformed("body: it is nested too deeply") from None
    except ValueError as error:
        raise malformed(f"body: {error}"[:200]) from None


def from_base64(text: str) -> bytes:
    """The bytes. Raises Problem 400 VIT-910."""
    try:
        if len(text) % 4:
            raise ValueError("not whole")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise malformed("inputs: not base64; addresses are never fetched") from None


def _number(text: str | None) -> int:
    if text is None:
        return 5
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(422, "VIT-202", f"top: expected a number from 1 to {MAX_TOP}")
    return int(text)


def _top(number: int) -> int:
    if not 1 <= number <= MAX_TOP:
        raise Problem(422, "VIT-202", f"top: expected a number from 1 to {MAX_TOP}")
    return number
