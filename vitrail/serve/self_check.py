"""Before a model answers anybody: warm at every batch size that will occur, and found consistent.

One image, the same for every model, is computed alone and as each member of full batches: the
probabilities must be finite, sum to 1 where they should, and be the same wherever it stood; those
of an export must be those that torch gave when it was made. A broken engine, other weights, damaged
memory or an engine whose answers depend on batch mates is found so.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from vitrail.classifier import Classifier
from vitrail.errors import ModelError, UsageError
from vitrail.model_folder.golden import distance, fixed_image, tolerance
from vitrail.spelling import count

PLENTY_MS = 10_000  # a deadline from which on nobody measures
LARGEST_DIFFERENCE = 1e-4  # between probabilities, alone and in a batch; float32 has about 1e-7


def sizes_to(batch: int) -> list[int]:
    """1, 2, 4, ... and `batch` itself."""
    sizes = [1]
    while sizes[-1] * 2 < batch:
        sizes.append(sizes[-1] * 2)
    return [*sizes, batch] if batch > 1 else sizes


def check_engine(classifier: Classifier, batch: int, name: str) -> NDArray[np.float32]:
    """Probabilities (K,) of the fixed image. Raises ModelError VIT-474."""
    image = fixed_image(classifier.preprocess)
    alone = classifier.probabilities(image[None])
    classes = len(classifier.classes) or alone.shape[1]
    if alone.shape != (1, classes) or not np.isfinite(alone).all():
        raise _failed(name, f"it answers {alone.shape[-1]} values, not all of them finite numbers")
    if classifier.meta.scores == "softmax" and abs(float(alone.sum()) - 1) > LARGEST_DIFFERENCE:
        raise _failed(name, f"its probabilities sum to {float(alone.sum()):.6f}")
    check_golden(classifier, alone[0], name)
    for size in sizes_to(batch):
        others = np.linspace(1, -1, size, dtype=np.float32)[:, None, None, None]
        images = image * others  # the first is the image, the others are its batch mates
        difference = float(np.abs(classifier.probabilities(images)[0] - alone[0]).max())
        if not difference <= LARGEST_DIFFERENCE:
            raise _failed(
                name, f"an answer changes by {difference:.2g} in a batch of {count(size, 'image')}"
            )
    return np.asarray(alone[0])


def check_golden(classifier: Classifier, p: NDArray[np.float32], name: str) -> None:
    """p: (K,), of the fixed image. Raises ModelError VIT-474 where an export answered otherwise
    when it was made.
    """
    if classifier.export is None:
        return
    info, about = classifier.runtime.info, classifier.export.about
    allowed = tolerance(about, info.engine, info.precision)
    found = distance(about.golden, p)
    if not found <= allowed:
        raise _failed(
            name,
            f"a probability of the check image differs by {found:.2g} from the one at export; "
            f"{allowed:.2g} is allowed",
        )


def secs_of_batch(classifier: Classifier, batch: int) -> float:
    """How long a full batch takes, without others at work; the better of two."""
    images = np.repeat(fixed_image(classifier.preprocess)[None], batch, axis=0)

    def once() -> float:
        began = time.monotonic()
        classifier.probabilities(images)
        return time.monotonic() - began

    return min(once(), once())


def check_deadline(classifier: Classifier, batch: int, deadline_ms: int) -> None:
    """Raises UsageError VIT-297 where a full batch takes longer than a request may."""
    if deadline_ms >= PLENTY_MS:
        return
    took = 1000 * secs_of_batch(classifier, batch)
    if took > deadline_ms:
        raise UsageError(
            "VIT-297",
            f"--deadline-ms {deadline_ms} is less than a batch of {batch} takes here "
            f"({took:.0f} ms): under load nothing would be answered in time.",
            hint=f"--deadline-ms {math.ceil(took) * 4}, or a smaller --batch",
        )


def _failed(name: str, why: str) -> ModelError:
    return ModelError(
        "VIT-474",
        f"model {name} failed its check before serving: {why}.",
        hint="Take another engine or precision, or export the model again.",
    )
