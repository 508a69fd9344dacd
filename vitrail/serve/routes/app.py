"""The application: the table of endpoints, and the gate before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from vitrail.serve.gate import Gate
from vitrail.serve.routes import classify, explain, health, infer, models, page
from vitrail.serve.routes.endpoint import Endpoint
from vitrail.serve.routes.openapi import described
from vitrail.serve.service import Service

OTHERS: list[Endpoint] = [
    *classify.ENDPOINTS,
    *explain.ENDPOINTS,
    *models.ENDPOINTS,
    *health.ENDPOINTS,
    *infer.ENDPOINTS,
    *page.ENDPOINTS,
]
ENDPOINTS = [*OTHERS, described(OTHERS)]
OPEN_PATHS = tuple(one.path for one in ENDPOINTS if one.is_open)


class _Routed:
    """The routes without starlette's own error pages: what goes wrong is for the gate."""

    def __init__(self, service: Service) -> None:
        self.state = SimpleNamespace(service=service)
        self._router = Router([one.route for one in ENDPOINTS], redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._router(scope, receive, send)


def application(
    service: Service,
    *,
    hosts: Sequence[str] = (),
    token: str | None = None,
    say: Callable[[str], None] | None = None,
) -> ASGIApp:
    """Everything that is served. hosts: names that are allowed beside addresses and localhost;
    token: what clients have to send, None for everybody; say: takes each line of the access log.
    """
    return Gate(
        _Routed(service),
        service.metrics,
        hosts=hosts,
        token=token,
        open_paths=OPEN_PATHS,
        closing=lambda: service.phase in ("stopping", "draining"),
        say=say,
    )
