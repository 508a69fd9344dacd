"""GET / and the files of the page (`vitrail/page`): open to anybody, nothing of a model in them."""

from __future__ import annotations

from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vitrail.page.assets import MEDIA_TYPES, PAGE, assets, served_model_script

ICON = "page/icon.svg"
FILES = assets(served_model_script())
PATHS = {"/": PAGE, "/favicon.ico": ICON} | {f"/{name}": name for name in FILES if name != PAGE}


async def page_file(request: Request) -> Response:
    """GET of one of PATHS."""
    name = PATHS[request.scope["route"].path]
    return Response(FILES[name], media_type=MEDIA_TYPES[PurePosixPath(name).suffix])


ROUTES = [Route(path, page_file, methods=["GET"]) for path in PATHS]
