"""A classifier measured on one split, with all that was asked for beside the usual figures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from vitrail.data.sources.examples import Examples
from vitrail.data.sources.source import Source
from vitrail.evaluation.eval_set import EvalSet, Mask, Opened, both_unseen
from vitrail.evaluation.measuring.measuring import (
    Measuring,
    beside,
    corruptions_asked,
    corruptions_json,
)
from vitrail.evaluation.on_data import relabelled
from vitrail.evaluation.record import Evaluation


@dataclass(frozen=True)
class Rival:
    """Another model: how it is shown images, those of the split in its classes, and which of them
    neither of the two models was trained on, (n,).
    """

    name: str
    way: Measuring
    source: Source
    unseen: Mask


@dataclass(frozen=True)
class OnSplit:
    """A split of a dataset for a model that knows `classes`."""

    opened: Opened
    split: str
    classes: Sequence[str]

    @cached_property
    def judged(self) -> EvalSet:
        """The images. Raises UsageError VIT-240, DataError VIT-326."""
        return self.opened.judged(self.split)

    @cached_property
    def source(self) -> Source:
        """The images in the classes of the model. Raises ModelError VIT-403."""
        return relabelled(self.judged.source, self.classes, "the model")

    def rival(self, name: str, way: Measuring, known: Examples | str) -> Rival:
        """Another model, trained on `known`. Raises ModelError VIT-403, DataError VIT-326."""
        unseen = both_unseen(self.judged, known, ("the model", name))
        return Rival(name, way, relabelled(self.judged.source, way.classes, name), unseen)

    def measured(
        self,
        way: Measuring,
        *,
        calibrate: bool = False,
        rival: Rival | None = None,
        corruptions: str | None = None,
        severity: str | None = None,
    ) -> tuple[Evaluation, float]:
        """What `way` shows of the model, and its temperature, which `calibrate` fits first. Warns
        of images that it was trained on, and of labels that are others than its run recorded.
        """
        temperature, more = way.temperature, dict[str, Any]()
        if calibrate:
            held = self.opened.judged("val").source
            fitted = way.calibrated(relabelled(held, self.classes, "the model"), self.source)
            found, temperature = fitted.after, fitted.fit.temperature
            more["calibration"] = fitted.to_json()
        else:
            found = way.evaluate(self.source)
        if rival is not None:
            theirs = rival.way.evaluate(rival.source)
            more["against"] = beside(found, theirs, rival.unseen).to_json(rival.name)
        if corruptions is not None:
            asked = corruptions_asked(corruptions, severity)
            more["corruptions"] = corruptions_json(found, way.corrupted(self.source, *asked))
        without = self.judged.without_seen(found)
        if (without is not None and self.split != "train") or self.judged.label_changes():
            warnings.warn("; ".join(self.judged.sentences()), stacklevel=3)
        facts = self.judged.to_json() | ({"without": without} if without else {})
        return replace(found, judged=facts, more=more), temperature
