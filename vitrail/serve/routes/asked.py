"""What a request to /v1/classify asks for: raw bytes of one image, or JSON with one or several."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from vitrail.serve.problem import Problem, malformed

MAX_TOP = 100_000
RAW = "application/octet-stream"


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
    try:
        document = _Document.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][:2])
        raise malformed(f"{place or 'body'}: {first['msg']}"[:200]) from None
    given = document.inputs
    images = [from_base64(one) for one in ([given] if isinstance(given, str) else given)]
    if not images:
        raise malformed("inputs: no image")
    wanted = document.parameters.top_k
    return Asked(images, _top(_number(top) if wanted is None else wanted), isinstance(given, list))


def from_base64(text: str) -> bytes:
    """The bytes. Raises Problem 400 VIT-910."""
    try:
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
