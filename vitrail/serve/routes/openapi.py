"""GET /openapi.json: the table of endpoints as OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vitrail import __version__
from vitrail.serve.problem import TITLES
from vitrail.serve.routes.endpoint import ALWAYS, Endpoint

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "pattern": "^VIT-[0-9]{3}$"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def described(endpoints: Sequence[Endpoint]) -> Endpoint:
    """The endpoint that describes these, and itself."""

    async def openapi(request: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(document)

    found = Endpoint("GET", "/openapi.json", openapi, "This document.")
    document = openapi_of([*endpoints, found])
    return found


def openapi_of(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "vitrail serve", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": one.summary,
        "parameters": [*_path_parameters(one), *_query_parameters(one)],
        "responses": {"200": {"description": "The answer.", "content": _content(one.gives)}},
        "security": [] if one.is_open else [{"token": []}, {}],
    }
    refuses = {*ALWAYS, *one.refuses} - ({401} if one.is_open else set())
    found["responses"] |= {str(status): _refusal(status) for status in sorted(refuses)}
    if one.takes:
        found["requestBody"] = {"required": True, "content": _content(one.takes)}
    return found


def _path_parameters(one: Endpoint) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", one.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]


def _query_parameters(one: Endpoint) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in one.query.items()]


def _content(schemas: Any) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in schemas.items()}


def _refusal(status: int) -> dict[str, Any]:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {"description": TITLES[status], "content": {"application/problem+json": problem}}
