"""A model on a split: every image once, in order, the last partial batch too."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch, normalise
from vitrail.errors import ModelError
from vitrail.evaluation.many_classes import KeptProbabilities
from vitrail.evaluation.metrics import multi_label, single_label
from vitrail.evaluation.record import Evaluation
from vitrail.runtime.runtime import Array, Logits, as_numpy
from vitrail.spelling import count

FLUSH_BYTES = 64 * 2**20  # logits kept on the device before they are moved to memory
MANY_CLASSES = 4096
SCORED = 2**21  # logits of many classes that are scored at once
IN_CACHE = 2**18  # of them in float64 at a time: 2 MiB, which a core's cache holds


def evaluate(
    logits_of: Logits,
    batches: Iterable[Batch],
    preprocess: Preprocess,
    classes: Sequence[str],
    *,
    temperature: float = 1.0,
    source_id: Callable[[int], str] | None = None,
) -> Evaluation:
    """Show `batches` (a loader's eval_batches) to a model (`Runtime.logits`) and score it; logits
    are divided by `temperature`.

    `source_id` names an image by its index. Raises ModelError VIT-442 where an output is not
    finite, VIT-443 where the model has another number of outputs than there are classes.
    """
    started = time.perf_counter()
    kept = KeptProbabilities([], [])
    losses: list[NDArray[np.float64]] = []
    indices: list[NDArray[np.int64]] = []
    n = 0
    for logits, targets, places in _outputs(logits_of, batches, preprocess):
        _check_outputs(logits, classes)
        for run in _runs(logits):
            probabilities, loss = _score(logits[run] / temperature, targets[run], first=n)
            kept.add(probabilities, targets[run])
            losses.append(loss)
            n += len(loss)
        indices.append(places)
    seconds = max(time.perf_counter() - started, 1e-9)
    if not losses:
        empty = np.zeros((0, len(classes)), np.float32)
        return Evaluation(
            tuple(classes), empty, np.zeros(0, np.int64), np.zeros(0), temperature=temperature
        )
    ids = tuple(source_id(int(i)) for i in np.concatenate(indices)) if source_id else ()
    return Evaluation(
        classes=tuple(classes),
        probabilities=kept.joined(),
        labels=np.concatenate(kept.labels),
        losses=np.concatenate(losses),
        ids=ids,
        images_per_s=n / seconds,
        temperature=temperature,
    )


def _runs(logits: NDArray[np.float32]) -> Iterator[slice]:
    """Images that are scored at once: of many classes few, as scores take several times as much
    memory as logits.
    """
    size = len(logits) if logits.shape[1] < MANY_CLASSES else max(1, SCORED // logits.shape[1])
    yield from (slice(first, first + size) for first in range(0, len(logits), size))


@dataclass(frozen=True)
class Outputs:
    """What a model says of n images: logits (n, K) float32, labels (n,) or (n, K), names."""

    classes: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[Any]
    ids: tuple[str, ...]
    images_per_s: float

    def scored(self, temperature: float) -> Evaluation:
        """The evaluation at a temperature; as `evaluate` gives it. Raises ModelError VIT-442."""
        probabilities, losses = _score(self.logits / temperature, self.labels, first=0)
        return Evaluation(
            self.classes,
            probabilities,
            self.labels,
            losses,
            self.ids,
            self.images_per_s,
            temperature,
        )


def outputs_of(
    logits_of: Logits,
    batches: Iterable[Batch],
    preprocess: Preprocess,
    classes: Sequence[str],
    *,
    source_id: Callable[[int], str] | None = None,
) -> Outputs:
    """The logits of at least one image, kept: for asking what another temperature would do."""
    started = time.perf_counter()
    chunks = list(_outputs(logits_of, batches, preprocess))
    logits, labels, indices = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    seconds = max(time.perf_counter() - started, 1e-9)
    _check_outputs(logits, classes)
    ids = tuple(source_id(int(i)) for i in indices) if source_id else ()
    return Outputs(tuple(classes), logits, labels, ids, len(indices) / seconds)


def _outputs(
    logits_of: Logits, batches: Iterable[Batch], preprocess: Preprocess
) -> Iterator[tuple[NDArray[np.float32], Any, NDArray[np.int64]]]:
    """Logits (m, K), labels (m,) or (m, K) and indices (m,) in memory, in chunks of several
    batches.
    """
    logits: list[Array] = []
    waiting: list[Batch] = []
    for batch in batches:
        logits.append(logits_of(normalise(batch.images, preprocess)))  # (B, K)
        waiting.append(batch)
        most = FLUSH_BYTES if logits[0].shape[1] < MANY_CLASSES else FLUSH_BYTES // 4
        if sum(4 * math.prod(part.shape) for part in logits) >= most:
            yield _chunk(logits, waiting)
            logits, waiting = [], []
    if waiting:
        yield _chunk(logits, waiting)


def _chunk(
    logits: list[Array], waiting: list[Batch]
) -> tuple[NDArray[np.float32], Any, NDArray[np.int64]]:
    labels = np.concatenate([as_numpy(batch.labels) for batch in waiting])
    indices = np.concatenate([as_numpy(batch.indices) for batch in waiting])
    return np.concatenate([as_numpy(part) for part in logits]), labels, indices


def _check_outputs(logits: NDArray[np.float32], classes: Sequence[str]) -> None:
    if logits.shape[1] != len(classes):
        raise ModelError(
            "VIT-443",
            f"the model has {count(logits.shape[1], 'output')}, which are no classes of this "
            "data: it has "
            f"{len(classes)}.",
            hint="Train a head for them: vitrail train DATA --from MODEL",
        )


def _score(
    logits: NDArray[np.float32], labels: Any, *, first: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Probabilities (m, K) float32 and losses (m,) in nats; softmax for labels (m,), sigmoid for
    labels (m, K).
    """
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise ModelError(
            "VIT-442",
            f"the model gives outputs that are not finite for {int((~finite).sum())} of "
            f"{count(len(logits), 'image')}, the first being image "
            f"{first + int(np.argmin(finite))}.",
            hint="Its weights are damaged or training diverged: load an earlier checkpoint, "
            "or use --precision float32.",
        )
    if labels.ndim == 2:
        x = logits.astype(np.float64)
        log_p, log_not_p = -np.logaddexp(0, -x), -np.logaddexp(0, x)
        return np.exp(log_p).astype(np.float32), multi_label.cross_entropy(log_p, log_not_p, labels)
    probabilities, losses = np.empty(logits.shape, np.float32), np.empty(len(logits))
    size = max(1, IN_CACHE // max(1, logits.shape[1]))
    for start in range(0, len(logits), size):
        rows = slice(start, start + size)
        log_p = single_label.log_softmax(logits[rows])
        losses[rows] = -np.take_along_axis(log_p, labels[rows, None], axis=1)[:, 0]
        probabilities[rows] = np.exp(log_p)
    return probabilities, losses
