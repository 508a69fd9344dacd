"""Before a model answers anybody: warm at every batch size that will occur, and found consistent.

One image, the same for every model, is computed alone and as each member of full batches: the
probabilities must be finite, sum to 1 where they should, and be the same wherever it stood. A
broken engine, damaged memory or an engine whose answers depend on batch mates is found so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.classifier import Classifier
from vitrail.errors import ModelError
from vitrail.spelling import count

LARGEST_DIFFERENCE = 1e-4  # between probabilities, alone and in a batch; float32 has about 1e-7


def fixed_image(classifier: Classifier) -> NDArray[np.float32]:
    """(C, H, W) as a model is shown it: colours that change smoothly, and fine detail."""
    height, width = classifier.preprocess.height, classifier.preprocess.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [128 + 60 * np.sin(x / (5 + c)) + 60 * np.cos(y / (7 + 2 * c)) for c in range(3)]
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    found: NDArray[np.float32] = classifier.preprocess.floats(pixels)
    return found


def sizes_to(batch: int) -> list[int]:
    """1, 2, 4, ... and `batch` itself."""
    sizes = [1]
    while sizes[-1] * 2 < batch:
        sizes.append(sizes[-1] * 2)
    return [*sizes, batch] if batch > 1 else sizes


def check_engine(classifier: Classifier, batch: int, name: str) -> NDArray[np.float32]:
    """Probabilities (K,) of the fixed image. Raises ModelError VIT-474."""
    image = fixed_image(classifier)
    alone = classifier.probabilities(image[None])
    classes = len(classifier.classes) or alone.shape[1]
    if alone.shape != (1, classes) or not np.isfinite(alone).all():
        raise _failed(name, f"it answers {alone.shape[-1]} values, not all of them finite numbers")
    if classifier.meta.scores == "softmax" and abs(float(alone.sum()) - 1) > LARGEST_DIFFERENCE:
        raise _failed(name, f"its probabilities sum to {float(alone.sum()):.6f}")
    for size in sizes_to(batch):
        others = np.linspace(1, -1, size, dtype=np.float32)[:, None, None, None]
        images = image * others  # the first is the image, the others are its batch mates
        difference = float(np.abs(classifier.probabilities(images)[0] - alone[0]).max())
        if not difference <= LARGEST_DIFFERENCE:
            raise _failed(
                name, f"an answer changes by {difference:.2g} in a batch of {count(size, 'image')}"
            )
    return np.asarray(alone[0])


def _failed(name: str, why: str) -> ModelError:
    return ModelError(
        "VIT-474",
        f"model {name} failed its check before serving: {why}.",
        hint="Take another engine or precision, or export the model again.",
    )
