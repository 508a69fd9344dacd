"""ImageNet ReaL: accuracy against reassessed labels of the ImageNet validation images.

Source: Beyer et al., Are we done with ImageNet? (arXiv 2006.07159). The file `real.json` of
github.com/google-research/reassessed-imagenet is a list of 50,000 lists of class numbers 0..999;
list i is of the image ILSVRC2012_val_%08d.JPEG numbered i + 1, and empty where the raters agreed
on no class. Such images are left out; a prediction is right if it is one of the image's labels.
Class numbers follow the sorted WordNet ids (n01440764 ...).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.source import Source
from vitrail.errors import DataError, UsageError
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.record import Evaluation
from vitrail.folder import read_named

NUM_CLASSES = 1000
MAX_BYTES, MAX_IMAGES, MAX_LABELS = 64 * 2**20, 1_000_000, 100
NAME = re.compile(r"ILSVRC2012_val_(\d{8})\b")
WORDNET = re.compile(r"n\d{8}")
HINT = "It is real.json of github.com/google-research/reassessed-imagenet: get it again."

Labels = list[list[int]]


@dataclass(frozen=True)
class Real:
    """Accuracy against ReaL labels: on n images, of which `without` more have no label."""

    n: int
    correct: int
    without: int

    @property
    def top1(self) -> float:
        """Share of the images with labels whose best class is one of them."""
        return self.correct / self.n if self.n else 0.0

    def to_json(self) -> dict[str, Any]:
        """The object "real" of metrics.json."""
        return {
            "n": self.n,
            "without_label": self.without,
            "top1": self.top1,
            "top1_interval": list(wilson(self.correct, self.n)),
        }


def read_real(path: Path) -> Labels:
    """The labels of each image by its number - 1. Raises DataError VIT-364."""
    try:
        found = json.loads(read_named(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError("VIT-364", f"{path} cannot be read: {why}.", hint=HINT) from error
    if not isinstance(found, list) or not 0 < len(found) <= MAX_IMAGES:
        raise DataError("VIT-364", f"{path}: expected a list with a list an image.", hint=HINT)
    for number, labels in enumerate(found):
        if not _are_labels(labels):
            raise DataError(
                "VIT-364",
                f"{path}, entry {number}: expected a list of class numbers from 0 to 999, got "
                f"{str(labels)[:60]}.",
                hint=HINT,
            )
    return found


def _are_labels(labels: object) -> bool:
    return (
        isinstance(labels, list)
        and len(labels) <= MAX_LABELS
        and all(type(one) is int and 0 <= one < NUM_CLASSES for one in labels)
    )


def real_accuracy(evaluation: Evaluation, labels: Labels) -> Real:
    """Accuracy of ImageNet images, known by their file names.

    Raises UsageError VIT-284 where the classes are not ImageNet's, DataError VIT-365 for images
    of other names.
    """
    numbers = class_numbers(evaluation.classes)
    places = image_numbers(evaluation.ids, len(labels))
    correct = n = 0
    for place, predicted in zip(places, evaluation.predicted, strict=True):
        if labels[place]:
            n += 1
            correct += int(numbers[predicted]) in labels[place]
    return Real(n, correct, evaluation.n - n)


def check_pictures(source: Source, labels: Labels) -> None:
    """Raise before anything is computed what `real_accuracy` would raise."""
    class_numbers(source.classes)
    image_numbers([source.source_id(i) for i in range(len(source))], len(labels))


def class_numbers(classes: Sequence[str]) -> NDArray[np.int64]:
    """The ImageNet number of each of 1,000 classes: by WordNet id where that is their name, else
    their order. Raises UsageError VIT-284.
    """
    if len(classes) != NUM_CLASSES:
        raise UsageError(
            "VIT-284",
            f"--real-labels: expected a classifier of ImageNet's 1000 classes, got {len(classes)}.",
            hint="Measure without --real-labels.",
        )
    if all(WORDNET.fullmatch(name) for name in classes):
        return np.argsort(np.argsort(np.array(classes))).astype(np.int64)
    return np.arange(NUM_CLASSES)


def image_numbers(ids: Sequence[str], limit: int) -> list[int]:
    """The place in the file of each image. Raises DataError VIT-365."""
    found = [NAME.search(name.rpartition("/")[2]) for name in ids]
    places = [int(one[1]) - 1 if one else -1 for one in found]
    unknown = [name for name, at in zip(ids, places, strict=True) if not 0 <= at < limit]
    if unknown:
        more = f", ... ({len(unknown)} in all)" if len(unknown) > 10 else ""
        raise DataError(
            "VIT-365",
            f"--real-labels knows images ILSVRC2012_val_00000001 to {limit:08d}; "
            f"not {', '.join(unknown[:10])}{more}.",
            hint="Measure on the validation images of ImageNet, with their file names.",
        )
    return places
