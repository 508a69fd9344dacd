"""site.json: what the page has to know, and what it has to answer before it answers anybody.

The self-check is one made-up image, the same for every model, and what `vitrail predict` says of
it: no image of the training or validation data leaves with the page.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.classifier import Classifier
from vitrail.export.web.ort_web import FILES, VERSION, WASM
from vitrail.model_folder.export_record import EngineFile

SCHEMA = 1
CHECK_SIZE = (83, 61)  # of the made-up image: (height, width), primes, higher than wide
LIMITS: Mapping[str, float] = {"float32": 1e-3, "int8": 0.05}  # of a probability
# int8: other processors round or saturate otherwise in the middle of the network


def check_image(height: int, width: int) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) that page/in_browser/self_check.js makes too."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return np.asarray((7 * x + 13 * y + 29 * c + x * y) & 255, np.uint8)


def site_record(name: str, classifier: Classifier, engine: EngineFile) -> dict[str, Any]:
    """The document. classifier: that of the exported folder, computed by its own engine."""
    made = classifier.preprocess
    return {
        "schema": SCHEMA,
        "name": name,
        "architecture": classifier.meta.name,
        "classes": list(classifier.classes),
        "scores": classifier.meta.scores,
        "input": {"channels": made.channels, "height": made.height, "width": made.width},
        "engine": f"onnxruntime-web {VERSION}",
        "precision": engine.precision,
        "metrics": classifier.meta.metrics,
        "preprocess": made.to_json(),
        "model": {"file": engine.name, "bytes": engine.size},
        "wasm": {"file": f"ort/{WASM}", "bytes": FILES[WASM][0]},
        "check": check_of(classifier, engine.precision),
    }


def check_of(classifier: Classifier, precision: str) -> dict[str, Any]:
    """Size of the made-up image, CRC-32 of what the model is shown (float32, 0 to 255), and the
    probabilities.
    """
    height, width = CHECK_SIZE
    pixels = check_image(height, width)
    shown = classifier.preprocess.values(pixels).transpose(2, 0, 1)  # (C, h, w)
    scores = classifier.probabilities(classifier.preprocess.floats(pixels)[None])[0]
    return {
        "height": height,
        "width": width,
        "input": zlib.crc32(np.ascontiguousarray(shown, dtype="<f4").tobytes()),
        "scores": [float(one) for one in scores],
        "limit": LIMITS.get(precision, LIMITS["int8"]),
    }
