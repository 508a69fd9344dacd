"""How often a model is right on corrupted images, by corruption and severity.

Source: Hendrycks and Dietterich (arXiv 1903.12261, section 4.2). Images are read once and every
corruption is made of what the model would be shown: after resize and crop, as ImageNet-C was. The
summary is the mean accuracy over severities, then over corruptions; the paper's mCE divides by the
errors of an AlexNet, which other data do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch, normalise
from vitrail.evaluation.metrics.bootstrap import percentile_interval, replicated
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.robustness.corruptions import GROUPS, corrupted
from vitrail.runtime.runtime import Logits, as_numpy

Progress = Callable[[int], None]  # how many images, times corruptions, were done


@dataclass(frozen=True)
class Robustness:
    """Which images are right (corruptions, severities, n)."""

    names: tuple[str, ...]
    severities: tuple[int, ...]
    correct: NDArray[np.bool_]
    seed: int = 0

    @property
    def n(self) -> int:
        """Images, each seen in every corruption and severity."""
        return int(self.correct.shape[2])

    def accuracy(self, name: str, severity: int) -> float:
        """Top-1 on one corruption."""
        return float(self._of(name, severity).mean())

    def mean(self, names: Sequence[str] = ()) -> float:
        """Top-1, the mean over severities and over `names` (all)."""
        chosen = [self.names.index(name) for name in names or self.names]
        return float(self.correct[chosen].mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `mean()`, bootstrapped over images, each with all its corruptions."""
        share = self.correct.mean(axis=(0, 1))  # (n,)
        values = replicated(
            lambda counts: {"mean": float(counts @ share) / self.n}, self.n, seed=self.seed
        )
        return percentile_interval(values["mean"])

    def to_json(self) -> dict[str, Any]:
        """The object "corruptions" of metrics.json."""
        groups = {
            group: [name for name in members if name in self.names]
            for group, members in GROUPS.items()
        }
        return {
            "n": self.n,
            "severities": list(self.severities),
            "mean_top1": self.mean(),
            "mean_top1_interval": list(self.interval),
            "groups": {group: self.mean(names) for group, names in groups.items() if names},
            "top1": {
                name: {str(level): self.accuracy(name, level) for level in self.severities}
                for name in self.names
            },
            "top1_interval": {
                name: {
                    str(level): list(wilson(int(self._of(name, level).sum()), self.n))
                    for level in self.severities
                }
                for name in self.names
            },
        }

    def _of(self, name: str, severity: int) -> NDArray[np.bool_]:
        row: NDArray[np.bool_] = self.correct[
            self.names.index(name), self.severities.index(severity)
        ]
        return row


def robustness(
    logits_of: Logits,
    batches: Iterable[Batch],
    preprocess: Preprocess,
    names: Sequence[str],
    severities: Sequence[int],
    *,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Robustness:
    """Top-1 of a model (`Runtime.logits`) on every corruption of every image of `batches` (a
    loader's eval_batches). Several labels an image: right if the best class is one of them.
    """
    parts: list[NDArray[np.bool_]] = []
    done = 0
    for batch in batches:
        pixels, indices = as_numpy(batch.images), as_numpy(batch.indices)
        found = np.zeros((len(names), len(severities), len(batch.images)), bool)
        for i, name in enumerate(names):
            for j, level in enumerate(severities):
                images = corrupted(pixels, indices, name, level, seed=seed)
                logits = logits_of(normalise(images, preprocess))
                found[i, j] = _right(as_numpy(logits), as_numpy(batch.labels))
                done += len(images)
                progress(done)
        parts.append(found)
    return Robustness(tuple(names), tuple(severities), np.concatenate(parts, axis=2), seed)


def _right(logits: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.bool_]:
    best = logits.argmax(axis=1)
    if labels.ndim == 2:
        return np.asarray(np.take_along_axis(labels, best[:, None], axis=1)[:, 0] > 0)
    return np.asarray(best == labels)
