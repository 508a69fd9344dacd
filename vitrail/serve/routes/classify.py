"""POST /v1/classify: images in, classes out."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vitrail.serve.batcher import Row
from vitrail.serve.routes.asked import MAX_TOP, RAW, asked
from vitrail.serve.routes.body import read_body, unless_gone
from vitrail.serve.routes.endpoint import (
    BINARY,
    JSON,
    OF_BODIES,
    Endpoint,
    admitted,
    code_of,
    media_type,
    unanswered,
)
from vitrail.serve.served_model import ServedModel


async def classify(request: Request) -> Response:
    """POST /v1/classify."""
    kind = media_type(request, JSON, RAW)
    service, room = admitted(request)
    deadline = service.deadline()
    with service.using(request.query_params.get("model")) as model, room as ticket:
        body = await read_body(request, service.limits, ticket)
        wanted = asked(kind, body, request.query_params.get("top"))
        ticket.take(images=len(wanted.images))
        request.state.images = len(wanted.images)
        rows = await unless_gone(request, service.rows(model, wanted.images, deadline))
        if not wanted.is_list and isinstance(rows[0], str):
            raise unanswered(rows[0])
        answers = [_answer(model, row, wanted.top) for row in rows]
        return JSONResponse(answers if wanted.is_list else answers[0], headers=engine_of(model))


def _answer(model: ServedModel, row: Row | str, top: int) -> Any:
    """The best classes of one image; what is wrong with it, where it stands among others."""
    if isinstance(row, str):
        return {"error": row, "code": code_of(row)}
    return model.best(row, top)


def engine_of(model: ServedModel) -> dict[str, str]:
    """Headers: what computed an answer."""
    info = model.classifier.runtime.info
    return {"Vitrail-Engine": f"{info.engine}; {info.precision}"}


BASE64 = {"type": "string", "contentEncoding": "base64"}
DOCUMENT = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "inputs": {"oneOf": [BASE64, {"type": "array", "minItems": 1, "items": BASE64}]},
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"top_k": {"type": "integer", "minimum": 1, "maximum": MAX_TOP}},
        },
    },
}
SCORES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["label", "score"],
        "properties": {
            "label": {"type": "string"},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
        },
    },
}
ITEM_ERROR = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
}
ANSWER = {"oneOf": [SCORES, {"type": "array", "items": {"oneOf": [SCORES, ITEM_ERROR]}}]}
TOP = {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 5}
MODEL = {"type": "string", "description": "A name of /v1/models; the first one if left out."}

ENDPOINTS = [
    Endpoint(
        "POST",
        "/v1/classify",
        classify,
        "The best classes of one image, or of each of several.",
        query={"top": TOP, "model": MODEL},
        takes={"image/*": BINARY, RAW: BINARY, JSON: DOCUMENT},
        gives={JSON: ANSWER},
        refuses=(404, *OF_BODIES),
    )
]
