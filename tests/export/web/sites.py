"""Exported pages for tests, and a server of static files as visitors have one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tests.export.exported import classifier_of, coloured_digits
from vitrail.classifier import Classifier
from vitrail.export.check_images import CheckImages
from vitrail.export.export_model import export_model
from vitrail.export.int8 import Int8
from vitrail.export.web.export_web import web_layout
from vitrail.export.web.ort_web import SCRIPT, WASM
from vitrail.model_folder.export_record import Precision

STUBS = {SCRIPT: b"export {};", WASM: b"\0asm"}  # what is never run


def exported_page(
    out: Path, ort: Mapping[str, bytes], precision: Precision = "float32"
) -> Classifier:
    """The classifier whose page was written to `out`."""
    classifier = classifier_of()
    images = coloured_digits(classifier, most=16)
    spread(classifier, images)
    int8 = Int8(images, max_drop=100) if precision == "int8" else None
    layout = web_layout(ort)
    export_model(classifier, out, images, precision=precision, int8=int8, layout=layout)
    return classifier


def spread(classifier: Classifier, images: CheckImages) -> None:
    """Change the head so that images get many different classes."""
    made, head = classifier.preprocess, cast(nn.Linear, classifier.model.head)
    with torch.no_grad():
        head.weight *= 20
        logits = classifier.model(torch.from_numpy(made.normalised(images.pixels)))
        head.bias.sub_(logits.mean(dim=0))


class Quiet(SimpleHTTPRequestHandler):
    """Without lines for every request; the types are those of this machine."""

    def log_message(self, *values: Any) -> None:
        pass


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """The address of a server of the files in `folder`, and of nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
