"""Alive and ready: the health part of the Open Inference Protocol, version 2."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vitrail.serve.problem import Problem
from vitrail.serve.routes.endpoint import Endpoint, service_of


async def live(request: Request) -> Response:
    """GET /v2/health/live: the process answers; also while it warms up or ends."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """GET /v2/health/ready: 200 where new requests should be sent here, else 503."""
    service = service_of(request)
    if not service.is_ready:
        code = "VIT-913" if service.phase == "warming" else "VIT-912"
        raise Problem(503, code, f"not ready: {service.phase}", retry_secs=1)
    return JSONResponse({"ready": True})


async def model_ready(request: Request) -> Response:
    """GET /v2/models/NAME/ready."""
    service = service_of(request)
    with service.using(request.path_params["name"]):
        return await ready(request)


ENDPOINTS = [
    Endpoint("GET", "/v2/health/live", live, "The process answers.", is_open=True),
    Endpoint(
        "GET",
        "/v2/health/ready",
        ready,
        "New requests should be sent here.",
        refuses=(503,),
        is_open=True,
    ),
    Endpoint(
        "GET", "/v2/models/{name}/ready", model_ready, "A model is ready.", refuses=(404, 503)
    ),
]
