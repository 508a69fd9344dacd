"""The files of eval/SPLIT/: metrics.json, predictions.csv, confusion.csv, calibration.json.

predictions.csv: source,label,predicted,p_label,p_predicted,loss - one row an image. confusion.csv:
label,predicted,n - one row for each pair that occurs, so that it stays small with thousands of
classes. Several labels an image are joined by "|", p_label is then the least of theirs, and there
is no confusion.csv.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.evaluation.predictions import Predictions
from vitrail.files import csv_text, whole_folder, write_together, writing
from vitrail.folder import make_folder
from vitrail.spelling import label_cell

PREDICTION_COLUMNS = ("source", "label", "predicted", "p_label", "p_predicted", "loss")
CONFUSION_COLUMNS = ("label", "predicted", "n")


def write_evaluation(
    evaluation: Predictions, folder: Path, document: Mapping[str, Any], *, is_new: bool = False
) -> None:
    """Write the files of `evaluation` into `folder`, each whole; `document` is metrics.json.
    is_new: the folder gets its name with all of them in it, of two processes for one of them.
    Raises EnvironmentFault VIT-506; UsageError VIT-206 where a new one exists.
    """
    files = {
        "metrics.json": json.dumps(document, indent=1, allow_nan=False) + "\n",
        "predictions.csv": predictions_text(evaluation),
        "calibration.json": json.dumps(calibration(evaluation), indent=1) + "\n",
    }
    if not evaluation.is_multi_label:
        files["confusion.csv"] = csv_text(CONFUSION_COLUMNS, _confusion(evaluation))
    with writing(folder):
        make_folder(folder.parent if is_new else folder)
    if is_new:
        with whole_folder(folder) as temporary:
            write_together(temporary, files)
    else:
        write_together(folder, files, replace=True)


def predictions_text(evaluation: Predictions) -> str:
    """predictions.csv."""
    return csv_text(PREDICTION_COLUMNS, _predictions(evaluation))


def calibration(evaluation: Predictions) -> dict[str, object]:
    """The reliability diagram as numbers."""
    bins = [asdict(one) for one in evaluation.bins]
    return {
        "n": evaluation.n,
        "ece": evaluation.ece,
        "temperature": evaluation.temperature,
        "bins": bins,
    }


def _predictions(evaluation: Predictions) -> Iterable[Sequence[object]]:
    names, p = evaluation.classes, evaluation.probabilities
    confidence = p.max(axis=1, initial=0.0)
    for i in range(evaluation.n):
        own = (
            np.flatnonzero(evaluation.labels[i])
            if evaluation.is_multi_label
            else [int(evaluation.labels[i])]
        )
        best = int(evaluation.predicted[i])
        p_label = (
            min((float(p[i, c]) for c in own), default=0.0)
            if evaluation.is_multi_label
            else float(evaluation.p_label[i])
        )
        source = evaluation.ids[i] if evaluation.ids else str(i)
        label = label_cell(names[c] for c in own)
        yield (
            source,
            label,
            label_cell([names[best]]),
            f"{p_label:.6g}",
            f"{confidence[i]:.6g}",
            f"{evaluation.losses[i]:.6g}",
        )


def _confusion(evaluation: Predictions) -> Iterable[Sequence[object]]:
    names = [label_cell([name]) for name in evaluation.classes]
    count = len(names)
    pairs, numbers = np.unique(evaluation.labels * count + evaluation.predicted, return_counts=True)
    for pair, n in zip(pairs, numbers, strict=True):
        label, predicted = divmod(int(pair), count)
        yield names[label], names[predicted], int(n)
