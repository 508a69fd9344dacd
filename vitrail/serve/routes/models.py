"""GET /v1/models and GET /metrics: what is served, and how that goes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from vitrail.serve.routes.endpoint import JSON, TEXT, Endpoint, service_of

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


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
    return PlainTextResponse(service.metrics.text(), media_type=PROMETHEUS)


FACTS = {
    "type": "object",
    "required": ["name", "classes", "input", "engine", "precision", "explains", "methods"],
    "properties": {
        "name": {"type": "string"},
        "classes": {"type": "array", "items": {"type": "string"}},
        "input": {
            "type": "object",
            "properties": {side: {"type": "integer"} for side in ("channels", "height", "width")},
        },
        "explains": {"type": "boolean"},
        "methods": {"type": "array", "items": {"type": "string"}},
    },
}

ENDPOINTS = [
    Endpoint(
        "GET",
        "/v1/models",
        models,
        "The models: classes, input, engine.",
        gives={JSON: {"type": "array", "items": FACTS}},
    ),
    Endpoint("GET", "/metrics", metrics, "Figures for Prometheus.", gives={TEXT: {}}),
]
