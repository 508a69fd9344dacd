"""The files of the page by the name that it asks for them; all names are relative to index.html.

`vitrail serve` and a page without a server show the same. They differ in one script, model.js:

    describe(say) -> [{name, classes, ...}]            as GET /v1/models; say: tells meanwhile
    classify(file, {model, top}) -> [{label, score}]   best first; throws an Error with its reason
    explain(file, {model, method}) -> Blob             an image; left out where nothing explains
    setToken(text)                                     left out where no token is asked for
    PROMISE                                            where images go, in one sentence
"""

from __future__ import annotations

from importlib import resources

from vitrail.figures.palette import COLOURS

PAGE = "index.html"
SCRIPTS = ("bars", "camera", "card", "csv", "errors", "files", "main", "sheet", "theme", "work")
LOCAL_SCRIPTS = (
    *("decode_image", "image_file", "pillow_resize", "png", "preprocess", "self_check"),
    *("tf_resize", "worker"),
)
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def assets(model_script: bytes) -> dict[str, bytes]:
    """Every file of the page; model_script: the content of page/model.js."""
    scripts = {f"page/{name}.js": _read(f"scripts/{name}.js") for name in SCRIPTS}
    return {
        PAGE: _read(PAGE),
        "page/icon.svg": _read("icon.svg"),
        "page/page.css": _read("page.css"),
        "page/colours.css": colours().encode(),
        **scripts,
        "page/model.js": model_script,
    }


def served_model_script() -> bytes:
    """The model.js that asks the server which the page came from."""
    return _read("scripts/served_model.js")


def local_scripts() -> dict[str, bytes]:
    """What computes the answers in the browser itself; its model.js is `local_model_script`."""
    return {f"page/in_browser/{name}.js": _read(f"in_browser/{name}.js") for name in LOCAL_SCRIPTS}


def local_model_script() -> bytes:
    """The model.js of a page without a server."""
    return _read("in_browser/model.js")


def colours() -> str:
    """The colours of the reports as variables, for both schemes."""
    lines = [f"  --{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items()]
    return ":root {\n" + "\n".join(lines) + "\n}\n"


def _read(name: str) -> bytes:
    return resources.files("vitrail.page").joinpath(name).read_bytes()
