"""GET / and the files of the page (`vitrail/page`): open to anybody, nothing of a model in them."""

from __future__ import annotations

from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response

from vitrail.page.assets import MEDIA_TYPES, PAGE, assets, served_model_script
from vitrail.serve.routes.endpoint import Endpoint

ICON = "page/icon.svg"
FILES = assets(served_model_script())
PATHS = {"/": PAGE, "/favicon.ico": ICON} | {f"/{name}": name for name in FILES if name != PAGE}


async def page_file(request: Request) -> Response:
    """GET of one of PATHS."""
    name = PATHS[request.scope["route"].path]
    return Response(FILES[name], media_type=_media_type(name))


def _media_type(name: str) -> str:
    return MEDIA_TYPES[PurePosixPath(name).suffix]


ENDPOINTS = [
    Endpoint(
        "GET",
        path,
        page_file,
        "The page." if path == "/" else "A file of the page.",
        gives={_media_type(name).split(";")[0]: {}},
        is_open=True,
    )
    for path, name in PATHS.items()
]
