"""The Open Inference Protocol, version 2: as clients of KServe and Triton ask."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vitrail import __version__
from vitrail.serve.routes.asked import RAW
from vitrail.serve.routes.body import read_body, unless_gone
from vitrail.serve.routes.classify import engine_of
from vitrail.serve.routes.endpoint import (
    BINARY,
    JSON,
    OF_BODIES,
    Endpoint,
    admitted,
    media_type,
    service_of,
    unanswered,
)
from vitrail.serve.routes.tensors import (
    ENCODED,
    HEADER,
    IMAGE,
    LABEL,
    PROBABILITIES,
    inference_body,
    read_inference,
)
from vitrail.serve.served_model import ServedModel


async def server(request: Request) -> Response:
    """GET /v2."""
    extensions = ["binary_tensor_data"]
    return JSONResponse({"name": "vitrail", "version": __version__, "extensions": extensions})


async def metadata(request: Request) -> Response:
    """GET /v2/models/NAME."""
    with service_of(request).using(request.path_params["name"]) as model:
        return JSONResponse(
            {
                "name": model.name,
                "platform": f"vitrail_{model.classifier.runtime.info.engine}",
                "inputs": [
                    _tensor(IMAGE, "FP32", -1, *_input_of(model)),
                    _tensor(ENCODED, "BYTES", -1),
                ],
                "outputs": [
                    _tensor(PROBABILITIES, "FP32", -1, len(model.classifier.classes) or -1),
                    _tensor(LABEL, "BYTES", -1),
                ],
            }
        )


def _tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _input_of(model: ServedModel) -> tuple[int, int, int]:
    preprocess = model.classifier.preprocess
    return preprocess.channels, preprocess.height, preprocess.width


def _check_kind(request: Request) -> None:
    """Raises Problem 415. tritonclient names no type; a page of another origin, which may send a
    body without one, names its origin.
    """
    if "content-type" in request.headers or "origin" in request.headers:
        media_type(request, JSON, RAW)


async def infer(request: Request) -> Response:
    """POST /v2/models/NAME/infer."""
    _check_kind(request)
    service, room = admitted(request)
    deadline = service.deadline()
    with service.using(request.path_params["name"]) as model, room as ticket:
        body = await read_body(request, service.limits, ticket)
        asked = await asyncio.to_thread(
            read_inference,
            body,
            request.headers.get(HEADER),
            _input_of(model),
            service.limits.queue,
        )
        ticket.take(images=len(asked.images))
        request.state.images = len(asked.images)
        rows = await unless_gone(request, service.rows(model, asked.images, deadline))
        for index, row in enumerate(rows):
            if isinstance(row, str):
                raise unanswered(row, f"{asked.name}[{index}]")
        labels = [model.best(row, 1)[0]["label"] for row in rows if not isinstance(row, str)]
        answer, size = inference_body(asked, model.name, np.stack(rows), labels)
        more = {} if size is None else {HEADER: str(size)}
        return Response(
            answer, media_type=JSON if size is None else RAW, headers=engine_of(model) | more
        )


TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"enum": ["FP32", "BYTES"]},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
TENSORS = {"type": "array", "items": TENSOR}
REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": TENSORS | {"minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
}
ANSWER = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "outputs": TENSORS,
    },
}

ENDPOINTS = [
    Endpoint("GET", "/v2", server, "The server and its extensions."),
    Endpoint("GET", "/v2/models/{name}", metadata, "The tensors of a model.", refuses=(404,)),
    Endpoint(
        "POST",
        "/v2/models/{name}/infer",
        infer,
        "Probabilities for tensors, or for the files of images.",
        takes={JSON: REQUEST, RAW: BINARY},
        gives={JSON: ANSWER, RAW: BINARY},
        refuses=(404, *OF_BODIES),
    ),
]
