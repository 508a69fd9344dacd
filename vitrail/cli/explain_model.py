"""`vitrail explain --figures` and `--faithfulness`: what needs whole sets of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from vitrail.classifier import Classifier
from vitrail.cli.display.output import Output, plain, table
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.eval_run import say_notes
from vitrail.cli.explain_options import FigureOptions
from vitrail.cli.read_as import ReadAs
from vitrail.cli.read_as import load as read_as_told
from vitrail.data.loading.batch import normalise
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.open_data import Source, subset
from vitrail.data.sources.sample import sample
from vitrail.errors import DataError
from vitrail.evaluation import faithfulness_intervals
from vitrail.evaluation.asked_data import opened_for
from vitrail.explain.faithfulness import MethodCurves
from vitrail.explain.faithfulness import judge as judge_methods
from vitrail.explain.image_input import class_index, input_of, pixels_of
from vitrail.explain.inspect import inspection_figures
from vitrail.files import csv_text, whole_folder, write_together
from vitrail.model_folder.bundle import NO_RECORD
from vitrail.models.create import Model
from vitrail.run_model import is_run
from vitrail.spelling import count

BATCH = 8


def load(
    model: Path,
    device: torch.device,
    output: Output,
    read_as: ReadAs | None = None,
    engine: EngineOptions | None = None,
) -> Classifier:
    """The classifier on its device, at one patch size."""
    engine = engine or EngineOptions(engine=None)
    found = read_as_told(model, read_as, output, device=device, engine=engine)
    return found.at_patch()


def model_of(classifier: Classifier) -> Model:
    """Its network, which is one of ours."""
    assert isinstance(classifier.model, Model)
    return classifier.model


def write_figures(
    model: Path,
    inspection: FigureOptions,
    folder: Path,
    device: torch.device,
    output: Output,
    read_as: ReadAs | None = None,
) -> int:
    """Every figure that the models have, and its numbers."""
    source = _pictures(model, inspection, output)
    shown = []
    for path in [model, *([inspection.against] if inspection.against else [])]:
        classifier = load(path, device, output, read_as if path == model else None)
        classifier.preprocess.require_one_size("--figures")
        batches = None if source is None else reader(classifier, source)
        shown.append(inspection_figures.Inspected(str(path), model_of(classifier), batches))
    with whole_folder(folder) as temporary:
        done = inspection_figures.write_figures(shown, temporary)
    files = [str(folder / file.name) for file in done.files]
    record = {"files": files, "notes": done.notes}
    lines = [f"wrote {file}" for file in files]
    output.result(record, [*lines, *(f"note  {note}" for note in done.notes)])
    return 0


def _pictures(model: Path, inspection: FigureOptions, output: Output) -> Source | None:
    """`num` images, a sample of the split; None where nothing says which."""
    if inspection.data is None and not is_run(model):
        return None
    opened = opened_for(model, NO_RECORD, inspection.data, inspection.split)
    say_notes(opened.listed, output)
    source = opened.judged(inspection.split).source
    return subset(source, np.sort(sample(source, inspection.num, "figures")))


def reader(classifier: Classifier, source: Source) -> Callable[[], Iterator[torch.Tensor]]:
    """Batches of the images as the classifier sees them, read anew at every call."""

    def batches() -> Iterator[torch.Tensor]:
        loader = make_loader(source, classifier.preprocess, None, batch_size=BATCH)
        for batch in loader.eval_batches(BATCH):
            yield normalise(batch.images.to(classifier.device), classifier.preprocess)

    return batches


def judge(
    classifier: Classifier,
    pictures: Sequence[Path],
    target: str | None,
    folder: Path,
    output: Output,
) -> int:
    """Deletion and insertion of every method on these images, as a table and two CSV files."""
    classifier.preprocess.require_one_size("--faithfulness")
    model, images = model_of(classifier), []
    for path in pictures:
        try:
            images.append(input_of(model, classifier.preprocess, pixels_of(path))[0])
        except DataError as fault:
            output.note(f"{path}  {getattr(fault, 'reason', fault.message)}")
    if not images:
        raise DataError(
            "VIT-362",
            f"none of the {count(len(pictures), 'image')} can be read.",
            hint="Accepted: jpeg png webp bmp gif tiff",
        )
    index = class_index(classifier.classes, target)
    judged = judge_methods(
        model,
        torch.stack(images),
        targets=None if index is None else [index] * len(images),
        scores=classifier.meta.scores,
    )
    rows = faithfulness_intervals.summary(judged)
    tables = {
        "faithfulness.csv": faithfulness_intervals.csv_of(rows),
        "curves.csv": curves_text(judged),
    }
    files = write_together(folder, tables)
    record = {"results": [row.to_json() for row in rows], "files": [str(path) for path in files]}
    lines = [
        f"{count(len(images), 'image')}, means and 95 % intervals; * is better than random for sure"
    ]
    lines += [*table(faithfulness_intervals.table(rows)), *(f"wrote {path}" for path in files)]
    output.result(plain(record), lines)
    return 0


def curves_text(judged: Sequence[MethodCurves]) -> str:
    """Mean curves as CSV: a line a method and share of the cells."""
    rows = (
        [one.method, *map(float, row)]
        for one in judged
        for row in zip(one.curves.shares, one.curves.deletion, one.curves.insertion, strict=True)
    )
    return csv_text(["method", "share", "deletion", "insertion"], rows)
