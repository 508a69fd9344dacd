"""What `vitrail eval` and `Classifier.evaluate` measure, in one place.

A classifier is known by what computes its logits; what it is shown, and what is said of it to
people, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.data.sources.source import Source
from vitrail.errors import UsageError
from vitrail.evaluation.calibrate import Calibration, calibration_of, fit_temperature
from vitrail.evaluation.evaluate import Outputs, evaluate, outputs_of
from vitrail.evaluation.paired import Comparison, compare
from vitrail.evaluation.record import Evaluation
from vitrail.evaluation.robustness.corruptions import corruptions_named, severities_of
from vitrail.evaluation.robustness.measure import Robustness, robustness
from vitrail.runtime.runtime import Logits

ALL_SEVERITIES = "1-5"
Tta = Literal["none", "flip"]
Tell = Callable[[int, int], None]  # images done, of how many
Progress = Callable[[str], AbstractContextManager[Tell]]  # of work that is named


def silent(what: str) -> AbstractContextManager[Tell]:
    """Nobody is told how far it is."""
    return nullcontext(lambda done, total: None)


@dataclass(frozen=True)
class Measuring:
    """A classifier and how it is shown images. device: where the batches are wanted; progress:
    hears how far each piece of work is; by_torch: whether they are tensors, else arrays.
    """

    logits: Logits
    preprocess: Preprocess
    classes: Sequence[str] = ()
    temperature: float = 1.0
    device: str = "cpu"
    batch_size: int = 64
    workers: int = 0
    max_pixels: int = MAX_PIXELS
    progress: Progress = silent
    by_torch: bool = True

    def evaluate(self, source: Source) -> Evaluation:
        """Every image of `source`, once. Raises as `evaluate.evaluate`, DataError VIT-301."""
        with self.progress(f"images of {source.name}") as tell:
            return evaluate(
                self.logits,
                self._batches(source, tell),
                self.preprocess,
                self.classes or source.classes,
                temperature=self.temperature,
                source_id=source.source_id,
            )

    def outputs(self, source: Source) -> Outputs:
        """The logits of every image of `source`, before any temperature."""
        with self.progress(f"images of {source.name}") as tell:
            return outputs_of(
                self.logits,
                self._batches(source, tell),
                self.preprocess,
                self.classes or source.classes,
                source_id=source.source_id,
            )

    def corrupted(
        self, source: Source, names: Sequence[str], severities: Sequence[int]
    ) -> Robustness:
        """Every corruption of every image of `source`. Raises UsageError VIT-287."""
        self.preprocess.require_one_size("--corruptions")
        total = len(source) * len(names) * len(severities)
        with self.progress("corrupted images") as tell:
            return robustness(
                self.logits,
                self._batches(source),
                self.preprocess,
                names,
                severities,
                progress=lambda done: tell(done, total),
            )

    def calibrated(self, val: Source, source: Source) -> Calibrated:
        """The temperature that fits `val` best, judged on `source`. Raises DataError VIT-363."""
        fitted = self.outputs(val)
        old, new = self.temperature, fit_temperature(fitted.logits, fitted.labels)
        fit = calibration_of(fitted.scored(old), fitted.scored(new), "val")
        judged = self.outputs(source)
        return Calibrated(fit, judged.scored(old), judged.scored(new))

    def _batches(self, source: Source, tell: Tell = lambda done, total: None) -> Iterator[Batch]:
        """Every image once, in order; `tell` hears how many there were."""
        done = 0
        for batch in self._all_batches(source):
            yield batch
            done += len(batch.images)
            tell(done, len(source))

    def _all_batches(self, source: Source) -> Iterator[Batch]:
        if not self.by_torch:
            from vitrail.data.loading.numpy_batches import numpy_batches

            return numpy_batches(
                source,
                self.preprocess,
                batch_size=self.batch_size,
                workers=self.workers,
                max_pixels=self.max_pixels,
            )
        from vitrail.data.loading.batching import Batching
        from vitrail.data.loading.loader import make_loader

        loader = make_loader(
            source,
            self.preprocess,
            None,
            Batching(
                batch_size=self.batch_size,
                workers=self.workers,
                max_pixels=self.max_pixels,
                device=self.device,
            ),
        )
        return loader.eval_batches(self.batch_size)


@dataclass(frozen=True)
class Calibrated:
    """A temperature fitted on validation images, and the judged ones with the old and the new."""

    fit: Calibration
    before: Evaluation
    after: Evaluation

    def to_json(self) -> dict[str, Any]:
        """The object "calibration" of metrics.json."""
        judged = {"nll_before": self.before.nll, "nll": self.after.nll}
        judged |= {"ece_before": self.before.ece, "ece": self.after.ece}
        return {**self.fit.to_json(), "judged": judged}


@dataclass(frozen=True)
class Beside:
    """Two models on the images that neither was trained on. left_out: how many others there are;
    other: what the second model did on those that were compared.
    """

    comparison: Comparison
    other: Evaluation
    left_out: int

    def to_json(self, name: str) -> dict[str, Any]:
        """The object "against" of metrics.json."""
        facts = {"model": name, "trained_on": self.left_out, "n": self.other.n}
        return {**facts, **self.comparison.to_json()}


def beside(found: Evaluation, other: Evaluation, unseen: NDArray[np.bool_]) -> Beside:
    """`found` compared with `other`, of the same images; unseen (n,): by both models."""
    left_out = int((~unseen).sum())
    if left_out:
        found, other = found.only(unseen), other.only(unseen)
    return Beside(compare(found, other), other, left_out)


def corruptions_json(found: Evaluation, result: Robustness) -> dict[str, Any]:
    """The object "corruptions" of metrics.json."""
    return {"clean_top1": found.top1, **result.to_json()}


def check_request(
    split: str, *, calibrate: bool, tta: str, corruptions: str | None, severity: str | None
) -> None:
    """Raise UsageError VIT-280 to VIT-283 for what cannot be measured together."""
    if severity is not None and corruptions is None:
        raise UsageError(
            "VIT-282",
            f"--severity {severity} has no effect without --corruptions.",
            hint="Add --corruptions all, or leave it out.",
        )
    if calibrate and tta != "none":
        raise UsageError(
            "VIT-282",
            "--calibrate and --tta: the temperature is stored for predictions of one view.",
            hint="Use one of them at a time.",
        )
    if calibrate and split == "val":
        raise UsageError(
            "VIT-283",
            "--calibrate fits on the validation images, so it is not evaluated on them.",
            hint="Judge it on others: --split test",
        )
    if corruptions is not None:
        corruptions_asked(corruptions, severity)


def corruptions_asked(
    corruptions: str, severity: str | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and severities. Raises UsageError VIT-280, VIT-281."""
    return corruptions_named(corruptions), severities_of(severity or ALL_SEVERITIES)
