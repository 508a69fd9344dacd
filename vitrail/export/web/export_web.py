"""`vitrail export --to web`: an ONNX export that is a page too, for any server of static files.

The page is that of `vitrail serve` with another model.js: a worker decodes, resizes and computes.
The gate of the graph is that of `--to onnx`; what runs in a browser is proved by the tests of
vitrail and, at each start of the page, by its self-check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import vitrail
from vitrail.errors import EnvironmentFault
from vitrail.export.layout import Finish, Job, Layout
from vitrail.export.web.ort_web import SCRIPT, VERSION, WASM
from vitrail.export.web.site_record import site_record
from vitrail.files import write_whole
from vitrail.model_folder.export_record import read_export
from vitrail.page.assets import PAGE, assets, local_model_script, local_scripts
from vitrail.spelling import printable

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'"
)
CHARSET = '<meta charset="utf-8">\n'
MAIN = "<main>\n"
LOST = (
    " Without: <code>vitrail predict MODEL IMAGE</code>, or the address /v1/classify of the server."
)
NEEDS_SERVER = (
    '  <p id="needs-server">This page has not started. Opened as a file, browsers forbid it to '
    "load its model: put the folder on any web server, or start one in it with "
    "<code>python -m http.server</code> and open http://localhost:8000. On a server: a script of "
    "the page is missing, or the browser is older than 2024.</p>\n"
)
MIT = """onnxruntime-web {version}, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
CARD = """
## The page

`index.html` classifies in the visitor's browser, on one thread, by onnxruntime-web {ort} (`ort/`,
MIT). Images stay on the visitor's device. Any server of static files will do, without special
headers; opened as a file it cannot load its model. To try it:

```
python -m http.server --directory path/to/this/folder
```

Proved when it was exported: the graph against torch on {images} images (export.json). Proved by
the tests of vitrail {vitrail}, not here: resize, crop and PNG bit for bit against `vitrail
predict`, and the answers in Chromium. Proved at each start, in the visitor's browser: the
self-check of `site.json`, one made-up image whose answer must differ by at most {limit:g}. A JPEG
or WebP may be decoded one level otherwise than by `vitrail predict`; TIFF and PNM are refused,
because browsers do not read them.
"""


def web_layout(ort: Mapping[str, bytes]) -> Layout:
    """The page beside the export; ort: the files of `ort_web_files`.

    Raises EnvironmentFault VIT-525 for a Pillow that resizes otherwise.
    """
    require_pillow()

    def files(job: Job) -> Finish:
        def finish(folder: Path) -> str:
            job.say("adding the page")
            return write_site(folder, printable(job.out.name), ort)

        return finish

    return Layout(files, is_public=True)


def require_pillow() -> None:
    """Raise EnvironmentFault VIT-525 before Pillow 13, which changed the order of its passes."""
    if int(version("pillow").split(".")[0]) < 13:
        raise EnvironmentFault(
            "VIT-525",
            f"the page resizes as Pillow 13 does; installed is {version('pillow')}.",
            hint="pip install --upgrade pillow",
        )


def write_site(folder: Path, name: str, ort: Mapping[str, bytes]) -> str:
    """Page, onnxruntime-web and site.json, into an ONNX export; the section of the card."""
    about = read_export(folder).about
    record = site_record(name, vitrail.load(folder, engine="onnx"), about.file)
    files = assets(local_model_script()) | local_scripts()
    files |= {
        PAGE: page(files[PAGE].decode()).encode(),
        "ort/ort.js": ort[SCRIPT],
        f"ort/{WASM}": ort[WASM],
        "ort/LICENSE": MIT.format(version=VERSION).encode(),
        "site.json": json.dumps(record, ensure_ascii=False, indent=1).encode() + b"\n",
    }
    for path, content in files.items():
        write_whole(folder / path, content)
    numbers = {"images": about.parity["images"], "limit": record["check"]["limit"]}
    return CARD.format(ort=VERSION, vitrail=vitrail.__version__, **numbers)


def page(text: str) -> str:
    """index.html with a policy of its own, and what it says where no script runs."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    text = replaced(text, CHARSET, CHARSET + policy)
    text = replaced(text, LOST, "")
    return replaced(text, MAIN, MAIN + NEEDS_SERVER)


def replaced(text: str, old: str, new: str) -> str:
    """With `new` in the only place of `old`."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def transfer_bytes(folder: Path) -> int:
    """Of what a visitor's browser loads."""
    loaded = [*(folder / "page").rglob("*.*"), *(folder / "ort").glob("*.*"), folder / PAGE]
    loaded += [folder / "site.json", *folder.glob("*.onnx")]
    return sum(one.stat().st_size for one in loaded)
