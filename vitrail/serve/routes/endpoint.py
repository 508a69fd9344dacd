"""An endpoint: where it is, what it takes and gives. Routes and /openapi.json are made of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vitrail.errors import nearest
from vitrail.prediction import NOT_FINITE
from vitrail.serve.admission import Ticket
from vitrail.serve.problem import Problem, refused
from vitrail.serve.routes.body import length_of
from vitrail.serve.service import Service

Handler = Callable[[Request], Awaitable[Response]]
Schema = Mapping[str, Any]  # JSON Schema 2020-12
ALWAYS = (401, 421, 500)  # what any endpoint may answer; 401 where it is not open
OF_BODIES = (400, 408, 411, 413, 415, 422, 503, 504)
ONCE = ("content-type", "authorization", "inference-header-content-length")
JSON, PNG, TEXT = "application/json", "image/png", "text/plain"
BINARY: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}


@dataclass(frozen=True)
class Endpoint:
    """summary: one line; query: the parameters that it knows, by name; takes, gives: schemas of
    bodies by media type; refuses: other statuses than 200; is_open: needs no token.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    takes: Mapping[str, Schema] = field(default_factory=dict)
    gives: Mapping[str, Schema] = field(default_factory=lambda: {JSON: {}})
    refuses: tuple[int, ...] = ()
    is_open: bool = False

    @property
    def route(self) -> Route:
        """For the router."""
        handler = self._checked if self.takes else self.handler
        return Route(self.path, handler, methods=[self.method])

    async def _checked(self, request: Request) -> Response:
        """Raises Problem 422 VIT-202 for a parameter that has no meaning here, or is given twice;
        400 for such a header.
        """
        names = [name for name, _ in request.query_params.multi_items()]
        if len({*names}) < len(names):
            raise Problem(422, "VIT-202", "a parameter is given twice")
        for name in ONCE:
            if len(request.headers.getlist(name)) > 1:
                raise refused(400, f"{name} is given twice", closes=True)
        for name in names:
            if name not in self.query:
                hint = nearest(name[:50], self.query) if self.query else "There is none."
                raise Problem(422, "VIT-202", f"unknown parameter {name[:50]!r}. {hint}")
        return await self.handler(request)


def service_of(request: Request) -> Service:
    """The state behind the routes."""
    found: Service = request.app.state.service
    return found


def admitted(request: Request) -> tuple[Service, Ticket]:
    """Room for a request, by its headers alone. Raises Problem 411, 413, 503."""
    service = service_of(request)
    service.check_open()
    return service, service.admission.ticket(length_of(request, service.limits))


def media_type(request: Request, *known: str) -> str:
    """The kind of the body. Raises Problem 415 where it is neither an image nor one of `known`."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind.startswith("image/") or kind in known:
        return kind
    raise refused(
        415, "send Content-Type image/jpeg (or another image type) or application/json", closes=True
    )


def unanswered(reason: str, place: str = "") -> Problem:
    """An image that cannot be used, or that the model has no answer to. place: which of several."""
    return Problem(422, code_of(reason), f"{place}: {reason}" if place else reason)


def code_of(reason: str) -> str:
    """The code of what is wrong with an image, or with the answer to it."""
    return "VIT-442" if reason == NOT_FINITE else "VIT-330"
