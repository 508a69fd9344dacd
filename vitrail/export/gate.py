"""Whether an exported model answers as the model it came from, on real images.

Accuracy alone is a bad gate: an int8 model calibrated with noise keeps it and loses its calibration
(docs/decisions.md). So probabilities, answers, accuracy, NLL and ECE are compared, each with a
limit that stands in the export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import GateError
from vitrail.evaluation.metrics.single_label import ece, reliability
from vitrail.evaluation.paired import newcombe
from vitrail.spelling import count

Floats = NDArray[Any]
TINY = 1e-12  # below it a probability's logarithm is no figure any more


@dataclass(frozen=True)
class Limits:
    """The most that an export may differ; None: no limit. max_dp, p99_dp: of an image's largest
    difference of probabilities; changed: other answers where the two best of torch differ by more
    than `margin`; accuracy_drop in percentage points; nll_rise in nats; batch_dp: of an answer
    alone and in a batch.
    """

    max_dp: float | None
    p99_dp: float | None
    changed_with_margin: int | None
    margin: float
    accuracy_drop: float
    nll_rise: float
    ece_rise: float
    batch_dp: float = 1e-5


EXACT = Limits(1e-5, 1e-5, 0, 1e-4, 0.1, 1e-4, 1e-3)  # engines that compute in float32
BFLOAT16 = Limits(0.1, 0.03, 0, 0.1, 0.3, 0.01, 0.01, batch_dp=0.03)  # 8 bits of 24
LIMITS = {"float32": EXACT, "bfloat16": BFLOAT16}


@dataclass(frozen=True)
class Comparison:
    """An export against torch on `images` images. Differences as `Limits` has them; figures of
    accuracy only where labels are known. drop_interval: 95 %, of `accuracy_drop`; not for images of
    several labels, which are not independent.
    """

    images: int
    max_dp: float
    p99_dp: float
    changed: int
    changed_with_margin: int
    accuracy: tuple[float, float] | None = None  # of torch, of the export
    nll: tuple[float, float] | None = None
    ece: tuple[float, float] | None = None
    drop_interval: tuple[float, float] | None = None

    @property
    def accuracy_drop(self) -> float | None:
        """In percentage points."""
        return None if self.accuracy is None else 100 * (self.accuracy[0] - self.accuracy[1])

    @property
    def nll_rise(self) -> float | None:
        """In nats."""
        return None if self.nll is None else self.nll[1] - self.nll[0]

    @property
    def ece_rise(self) -> float | None:
        return None if self.ece is None else self.ece[1] - self.ece[0]

    def to_json(self) -> dict[str, Any]:
        """What export.json says of it."""
        rises = ("accuracy_drop", "nll_rise", "ece_rise")
        return asdict(self) | {name: getattr(self, name) for name in rises}

    def rows(self, limits: Limits) -> list[tuple[str, str, str, str]]:
        """What was compared, the figure, its limit, and "ok" or "missed"."""
        found = []
        for field, title in TITLES.items():
            value, limit = getattr(self, field), getattr(limits, field)
            if value is None:
                continue
            fits = limit is None or value <= limit  # NaN does not
            state = "" if limit is None else "ok" if fits else "missed"
            text = shown(value) + (self._interval() if field == "accuracy_drop" else "")
            found.append((title, text, "" if limit is None else shown(limit), state))
        return found

    def _interval(self) -> str:
        if self.drop_interval is None:
            return ""
        low, high = self.drop_interval
        return f" (95 % {low:.2g} to {high:.2g})"

    def missed(self, limits: Limits) -> list[str]:
        """The limits that do not hold, in words."""
        return [
            f"{title}: {value} (limit {limit})"
            for title, value, limit, state in self.rows(limits)
            if state == "missed"
        ]


TITLES = {
    "max_dp": "largest difference of a probability",
    "p99_dp": "99th percentile of differences",
    "changed_with_margin": "changed answers, ties left out",
    "accuracy_drop": "accuracy drop (points)",
    "nll_rise": "NLL rise (nats)",
    "ece_rise": "ECE rise",
}


def shown(value: float) -> str:
    """A figure of the table."""
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def compare(
    before: Floats,
    after: Floats,
    labels: NDArray[Any] | None,
    *,
    scores: Literal["softmax", "sigmoid"] = "softmax",
    margin: float = EXACT.margin,
) -> Comparison:
    """Probabilities (n, K) of torch and of an export; labels: (n,) or (n, K) of the same images."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    apart = np.abs(before - after).max(axis=1)  # (n,)
    is_changed, is_clear = changes(before, after, scores, margin)
    figures = (
        {}
        if labels is None
        else {
            name: (value, other)
            for (name, value), other in zip(
                quality(before, labels).items(), quality(after, labels).values(), strict=True
            )
        }
    )
    return Comparison(
        images=len(before),
        max_dp=float(apart.max()),
        p99_dp=float(np.quantile(apart, 0.99)),
        changed=int(is_changed.sum()),
        changed_with_margin=int((is_changed & is_clear).sum()),
        drop_interval=drop_interval(before, after, labels),
        **figures,
    )


def drop_interval(
    before: Floats, after: Floats, labels: NDArray[Any] | None
) -> tuple[float, float] | None:
    """Of the accuracy drop in points, by Newcombe's method for paired shares."""
    if labels is None or labels.ndim != 1:
        return None
    right, still = (p.argmax(axis=1) == labels for p in (before, after))
    both, neither = int((right & still).sum()), int((~right & ~still).sum())
    low, high = newcombe(both, int((right & ~still).sum()), int((~right & still).sum()), neither)
    return 100 * low, 100 * high


def changes(
    before: Floats, after: Floats, scores: str, margin: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each image: whether the answer is another, and whether torch's was clear."""
    if scores == "sigmoid":
        is_changed = np.asarray(((before > 0.5) != (after > 0.5)).any(axis=1))
        return is_changed, np.asarray((np.abs(before - 0.5) > margin).all(axis=1))
    best = np.sort(before, axis=1)
    gap = best[:, -1] - best[:, -2] if best.shape[1] > 1 else np.ones(len(best))
    is_changed = np.asarray(before.argmax(axis=1) != after.argmax(axis=1))
    return is_changed, np.asarray(gap > margin)


def quality(p: Floats, labels: NDArray[Any]) -> dict[str, float]:
    """Accuracy, NLL and ECE of probabilities (n, K); for labels (n, K) each label counts."""
    if labels.ndim == 2:
        given = labels > 0.5
        losses = -np.log(np.maximum(np.where(given, p, 1 - p), TINY))
        confidence, correct = np.maximum(p, 1 - p).ravel(), ((p > 0.5) == given).ravel()
    else:
        losses = -np.log(np.maximum(p[np.arange(len(p)), labels], TINY))
        confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    bins = reliability(np.minimum(confidence, 1.0), correct)
    return {"accuracy": float(correct.mean()), "nll": float(losses.mean()), "ece": ece(bins)}


def require(found: Comparison, limits: Limits, what: str, *, code: str, hint: str) -> None:
    """Raise GateError `code` where a limit does not hold."""
    missed = found.missed(limits)
    if missed:
        lines: Sequence[str] = [f"  {one}" for one in missed]
        raise GateError(
            code,
            f"{what} does not answer as torch on {count(found.images, 'image')}; nothing is "
            "written.\n" + "\n".join(lines),
            hint=hint,
            details={"parity": found.to_json(), "limits": asdict(limits)},
        )
