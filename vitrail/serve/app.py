"""The application: routes, and the gate before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from vitrail.serve import health, page, routes
from vitrail.serve.gate import Gate
from vitrail.serve.service import Service

ROUTES: list[BaseRoute] = [*routes.ROUTES, *health.ROUTES, *page.ROUTES]


class _Routed:
    """The routes without starlette's own error pages: what goes wrong is for the gate."""

    def __init__(self, service: Service) -> None:
        self.state = SimpleNamespace(service=service)
        self._router = Router(ROUTES, redirect_slashes=False)

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
        open_paths=tuple(page.PATHS),
        closing=lambda: service.phase in ("stopping", "draining"),
        say=say,
    )
