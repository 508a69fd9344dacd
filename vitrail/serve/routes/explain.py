"""POST /v1/explain: what an answer rests on, as numbers or drawn over the image."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from vitrail.serve.problem import Problem
from vitrail.serve.routes.asked import RAW
from vitrail.serve.routes.body import read_body, unless_gone
from vitrail.serve.routes.classify import MODEL, engine_of
from vitrail.serve.routes.endpoint import (
    BINARY,
    JSON,
    OF_BODIES,
    PNG,
    Endpoint,
    admitted,
    media_type,
    unanswered,
)
from vitrail.serve.service import How

if TYPE_CHECKING:
    from vitrail.explain.explanation import Explanation

LONGEST = 200  # letters of a parameter
STYLES = ("heat", "spotlight")


async def explain(request: Request) -> Response:
    """POST /v1/explain."""
    media_type(request, RAW)
    how = _how(request)
    service, room = admitted(request)
    deadline = service.deadline()
    with service.using(request.query_params.get("model")) as model, room as ticket:
        _ = model.classifier.model  # raises ModelError VIT-444 where another engine computes
        body = await read_body(request, service.limits, ticket)
        ticket.take(images=1)
        request.state.images = 1
        found = await unless_gone(request, service.explanation(model, body, how, _drawn, deadline))
        if isinstance(found, str):
            raise unanswered(found)
        return Response(found, media_type=PNG if how.is_drawing else JSON, headers=engine_of(model))


def _how(request: Request) -> How:
    """Raises Problem 422 VIT-202, VIT-278 for a parameter that cannot be read."""
    given = request.query_params
    style = given.get("style", "heat")
    if style not in STYLES:
        raise Problem(422, "VIT-278", f"style: expected {' or '.join(STYLES)}")
    if any(len(value) > LONGEST for value in given.values()):
        raise Problem(422, "VIT-202", f"a parameter has more than {LONGEST} letters")
    head = _number(given.get("head"))
    if isinstance(head, str):
        raise Problem(422, "VIT-202", "head: expected a number from 0")
    return How(
        method=given.get("method"),
        layer=_number(given.get("layer")),
        head=head,
        target=given.get("target"),
        style=style,
        is_drawing=wants_drawing(request.headers.get("accept", "")),
    )


def wants_drawing(accept: str) -> bool:
    """Whether an Accept header names PNG, or any image, and JSON not with a higher quality
    (RFC 9110, section 12.5.1).
    """
    qualities: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        given = [word[2:] for word in parameters if re.fullmatch(r"q=[01](\.[0-9]{0,3})?", word)]
        qualities[kind] = float(given[0]) if given else 1.0
    drawing = qualities.get(PNG, qualities.get("image/*", 0.0))
    return drawing > 0 and drawing >= qualities.get("application/json", 0.0)


def _number(text: str | None) -> int | str | None:
    """The number in a text that is one."""
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,6}", text) else text


def _drawn(found: Explanation, how: How) -> bytes:
    """The body of the answer; takes long, so it is not called on the event loop."""
    if not how.is_drawing:
        record: dict[str, Any] = found.to_json() | {"values": found.grid.tolist()}
        del record["source"]
        return json.dumps(record).encode()
    buffer = io.BytesIO()
    found.overlay(how.style).save(buffer, "PNG")
    return buffer.getvalue()


GRID = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
ANSWER = {
    "type": "object",
    "required": ["method", "target", "label", "grid", "values"],
    "properties": {
        "method": {"type": "string"},
        "target": {"type": ["integer", "null"]},
        "label": {"type": "string"},
        "grid": {"type": "array", "items": {"type": "integer"}},
        "values": GRID,
    },
}
TEXT = {"type": "string", "maxLength": LONGEST}

ENDPOINTS = [
    Endpoint(
        "POST",
        "/v1/explain",
        explain,
        "What the answer for an image rests on: values by patch, or a drawing (Accept: image/png).",
        query={
            "model": MODEL,
            "method": TEXT | {"description": "A name of `methods` of /v1/models."},
            "layer": TEXT | {"description": "A block from 0, from the last one -1; or a name."},
            "head": {"type": "integer", "minimum": 0},
            "target": TEXT | {"description": "The class; the model's first choice if left out."},
            "style": {"enum": list(STYLES), "default": "heat"},
        },
        takes={"image/*": BINARY, RAW: BINARY},
        gives={JSON: ANSWER, PNG: BINARY},
        refuses=(404, *OF_BODIES),
    )
]
