"""What a model said of labelled images, and the figures that follow from it by arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.many_classes import ProbabilitySummary
from vitrail.evaluation.metrics import multi_label, selective, single_label
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.metrics.single_label import Bin, ClassScores


@dataclass(frozen=True)
class Predictions:
    """Of n images. probabilities (n, K) float32, of very many a `ProbabilitySummary`; labels (n,)
    int64, or (n, K) 0/1 for several labels an image; losses (n,) in nats; ids: the images' names,
    or empty.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]
    losses: NDArray[np.float64]
    ids: tuple[str, ...] = ()
    images_per_s: float = 0.0
    temperature: float = 1.0
    judged: Mapping[str, Any] | None = None  # which images these are, how many were trained on
    more: Mapping[str, Any] = field(default_factory=dict)  # what else was measured, by key

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.probabilities)

    def only(self, kept: NDArray[np.bool_]) -> Self:
        """The same of the images that are kept. kept: (n,)"""
        ids = tuple(name for name, is_kept in zip(self.ids, kept, strict=False) if is_kept)
        return replace(
            self,
            probabilities=self.probabilities[kept],
            labels=self.labels[kept],
            losses=self.losses[kept],
            ids=ids if self.ids else (),
        )

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The best class of each image. (n,)"""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the best class is the label, or one of the labels. (n,)"""
        if self.is_multi_label:
            return multi_label.hit_at_1(self.probabilities, self._y)
        return np.asarray(self.predicted == self.labels)

    @property
    def top1(self) -> float:
        """Share of images whose best class is right."""
        return float(self.correct.mean()) if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of top1."""
        return wilson(int(self.correct.sum()), self.n)

    @property
    def top5(self) -> float:
        """Share of images with the label among the best 5 classes (1.0 where there are at most
        5).
        """
        if self.is_multi_label:
            return multi_label.hit_at_k(self.probabilities, self._y, 5)
        if isinstance(self.probabilities, ProbabilitySummary):
            return float((self.probabilities.rank < 5).mean()) if self.n else 0.0
        return single_label.top_k(self.probabilities, self._labels, 5)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood, nats."""
        return float(self.losses.mean()) if self.n else 0.0

    @property
    def brier(self) -> float:
        """Mean squared error of the probabilities: summed over classes, or averaged over them for
        several labels.
        """
        if self.is_multi_label:
            return (
                float(((self.probabilities.astype(np.float64) - self._y) ** 2).mean())
                if self.n
                else 0.0
            )
        return float(np.mean(self.squares)) if self.n else 0.0

    @cached_property
    def p_label(self) -> NDArray[np.float32]:
        """The probability of the label of each image that has one. (n,)"""
        if isinstance(self.probabilities, ProbabilitySummary):
            return self.probabilities.own
        return np.take_along_axis(self.probabilities, self._labels[:, None], axis=1)[:, 0]

    @property
    def squares(self) -> NDArray[np.float64]:
        """Of each image with one label, the sum over classes of (p - y)^2. (n,)"""
        p = self.probabilities
        of_all = (
            p.squares
            if isinstance(p, ProbabilitySummary)
            else np.einsum("nk,nk->n", p, p, dtype=np.float64)
        )
        return np.asarray(of_all - 2 * self.p_label.astype(np.float64) + 1)

    @cached_property
    def bins(self) -> list[Bin]:
        """15 equal-width bins of confidence; with several labels, of every (image, class)."""
        if self.is_multi_label:
            return single_label.reliability(self.probabilities.ravel(), self._y.ravel() > 0)
        return single_label.reliability(self.probabilities.max(axis=1, initial=0.0), self.correct)

    @property
    def ece(self) -> float:
        """Expected calibration error over `bins`."""
        return single_label.ece(self.bins)

    @cached_property
    def class_scores(self) -> ClassScores:
        """Images, predictions, precision, recall and F1 of each class."""
        if self.is_multi_label:
            return multi_label.threshold_scores(self.probabilities, self._y)
        size = len(self.classes)
        return single_label.class_scores(
            np.bincount(self._labels[self.correct], minlength=size),
            np.bincount(self._labels, minlength=size),
            np.bincount(self.predicted, minlength=size),
        )

    @property
    def f1_macro(self) -> float:
        """Mean F1 of the classes that occur."""
        return single_label.f1_macro(self.class_scores)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have an image; several labels: mean of true positive and
        negative rates.
        """
        if self.is_multi_label:
            return multi_label.balanced_accuracy(self.probabilities, self._y)
        return single_label.balanced_accuracy(self.class_scores)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (K, K): row = label, column = prediction. Not defined for several labels a
        image.
        """
        if self.is_multi_label:
            raise ValueError("a confusion matrix needs one label an image")
        return single_label.confusion(self._labels, self.predicted, len(self.classes))

    @property
    def selective(self) -> dict[str, Any]:
        """How often it is wrong on its most confident images: area and points of the curve."""
        return selective.selective(self.probabilities.max(axis=1, initial=0.0), self.correct)

    @property
    def _labels(self) -> NDArray[np.int64]:
        return self.labels.astype(np.int64, copy=False)

    @property
    def _y(self) -> NDArray[np.float32]:
        return self.labels.astype(np.float32, copy=False)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data, in the order of the docs."""
        scores, (low, high) = self.class_scores, self.interval
        document: dict[str, Any] = {
            "n": self.n,
            "top1": self.top1,
            "top1_interval": [low, high],
            "top5": self.top5,
        }
        document |= {
            "nll": self.nll,
            "brier": self.brier,
            "ece": self.ece,
            "f1_macro": self.f1_macro,
        }
        document["balanced_accuracy"] = self.balanced_accuracy
        if self.is_multi_label:
            document["f1_micro"] = multi_label.f1_micro(self.probabilities, self._y)
            document["mean_average_precision"] = multi_label.mean_average_precision(
                self.probabilities, self._y
            )
        document["classes"] = {
            name: {
                "n": int(scores.n[i]),
                "precision": float(scores.precision[i]),
                "recall": float(scores.recall[i]),
                "f1": float(scores.f1[i]),
            }
            for i, name in enumerate(self.classes)
        }
        document["images_per_s"] = self.images_per_s
        return document
