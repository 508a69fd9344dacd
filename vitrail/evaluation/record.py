"""What a model did on a split: probabilities, labels and losses, and every figure that follows from
them.

`to_json` has the figures, `document` also their intervals and what is asked of the confidence: the
object of `vitrail eval --json` and of eval/SPLIT/metrics.json (docs/evaluation.md). With several
labels an image, top1 and top5 ask whether a label is among the best 1 or 5 classes, the other
figures are those of `multi_label.py`, and two more are given: f1_micro and mean_average_precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vitrail.evaluation import eval_files, shown, uncertainty
from vitrail.evaluation.predictions import Predictions
from vitrail.evaluation.uncertainty import Interval
from vitrail.notebook import show


@dataclass(frozen=True)
class Evaluation(Predictions):
    """What a model did on n images, with intervals, and as files."""

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % interval of each figure, bootstrapped where there is no closed form."""
        return uncertainty.intervals(self, self.ece_by_chance)

    @cached_property
    def ece_by_chance(self) -> Interval:
        """The middle 95 % of `ece` if every probability were true."""
        return uncertainty.ece_by_chance(self)

    def show(self) -> None:
        """Show figures, intervals and the confusion matrix in the notebook; elsewhere print the
        figures with their intervals.
        """
        rows = shown.figure_rows(self, self.intervals)
        show(self, [("images", f"{self.n:,}"), *((a, f"{b}  {c}") for a, b, c in rows)])

    def __repr__(self) -> str:
        return f"Evaluation({shown.one_line(self)})"

    def _repr_html_(self) -> str:
        return shown.evaluation_html(self, self.intervals)

    def write(
        self, folder: Path, more: Mapping[str, Any] | None = None, *, is_new: bool = False
    ) -> None:
        """Write metrics.json, predictions.csv, confusion.csv and calibration.json into `folder`
        (see eval_files.py). is_new: refuse one that exists, whoever made it meanwhile.

        Raises EnvironmentFault VIT-506; UsageError VIT-206 where a new folder exists.
        """
        eval_files.write_evaluation(self, folder, self.document(more), is_new=is_new)

    def document(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`to_json` with everything that follows from the same predictions, and `more` keys."""
        return {
            **self.to_json(),
            "temperature": self.temperature,
            "ece_by_chance": list(self.ece_by_chance),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "class_intervals": {
                name: {key: list(ends) for key, ends in one.items()}
                for name, one in uncertainty.class_intervals(self).items()
            },
            "selective": self.selective,
            **({} if self.judged is None else {"judged": dict(self.judged)}),
            **self.more,
            **(more or {}),
        }
