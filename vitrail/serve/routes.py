"""/v1/classify, /v1/models and /metrics: requests are read here, `service.py` computes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vitrail.serve.admission import Ticket
from vitrail.serve.asked import asked, media_type
from vitrail.serve.batcher import Row
from vitrail.serve.body import length_of, read_body, unless_gone
from vitrail.serve.problem import Problem
from vitrail.serve.served_model import ServedModel
from vitrail.serve.service import Service

Handler = Callable[[Request], Awaitable[Response]]


def service_of(request: Request) -> Service:
    """The state behind the routes."""
    found: Service = request.app.state.service
    return found


def admitted(request: Request) -> tuple[Service, Ticket]:
    """Room for a request, by its headers alone. Raises Problem 411, 413, 503."""
    service = service_of(request)
    service.check_open()
    return service, service.admission.ticket(length_of(request, service.limits))


async def classify(request: Request) -> Response:
    """POST /v1/classify."""
    kind = media_type(request)
    service, room = admitted(request)
    deadline = service.deadline()
    with service.using(request.query_params.get("model")) as model, room as ticket:
        body = await read_body(request, service.limits, ticket)
        wanted = asked(kind, body, request.query_params.get("top"))
        ticket.take(images=len(wanted.images))
        request.state.images = len(wanted.images)
        rows = await unless_gone(request, service.rows(model, wanted.images, deadline))
        if not wanted.is_list and isinstance(rows[0], str):
            raise undecodable(rows[0])
        answers = [_answer(model, row, wanted.top) for row in rows]
        return JSONResponse(answers if wanted.is_list else answers[0], headers=engine_of(model))


def _answer(model: ServedModel, row: Row | str, top: int) -> Any:
    """The best classes of one image; what is wrong with it, where it stands among others."""
    if isinstance(row, str):
        return {"error": row, "code": "VIT-330"}
    return model.best(row, top)


def undecodable(reason: str) -> Problem:
    """An image that cannot be used."""
    return Problem(422, "VIT-330", reason)


def engine_of(model: ServedModel) -> dict[str, str]:
    """Headers: what computed an answer."""
    info = model.classifier.runtime.info
    return {"Vitrail-Engine": f"{info.engine}; {info.precision}"}


async def models(request: Request) -> Response:
    """GET /v1/models."""
    return JSONResponse([one.facts() for one in service_of(request).models.values()])


async def metrics(request: Request) -> Response:
    """GET /metrics."""
    service = service_of(request)
    service.metrics.set("vitrail_ready", service.is_ready)
    service.metrics.clear("vitrail_model_info")
    for one in service.models.values():
        info = one.classifier.runtime.info
        labels = {"model": one.name, "engine": info.engine, "precision": info.precision}
        service.metrics.set("vitrail_model_info", 1, **labels)
    return PlainTextResponse(
        service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


ROUTES = [
    Route("/v1/classify", classify, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]
