"""`vitrail explain --figures` and `--faithfulness`: what needs whole sets of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from vitrail.api.explanations import images_for_figures, judged, sample_of
from vitrail.api.explanations import write_figures as draw
from vitrail.classifier import Classifier
from vitrail.cli.display.output import Output, plain, table
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.eval_run import say_notes
from vitrail.cli.explain_options import FigureOptions
from vitrail.cli.read_as import ReadAs
from vitrail.cli.read_as import load as read_as_told
from vitrail.evaluation import faithfulness_intervals
from vitrail.spelling import count


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


def write_figures(
    model: Path,
    inspection: FigureOptions,
    folder: Path,
    device: torch.device,
    output: Output,
    read_as: ReadAs | None = None,
) -> int:
    """Every figure that the models have, and its numbers."""
    found = images_for_figures(model, inspection.data, inspection.split)
    if found is not None:
        say_notes(found.listed, output)
    source = None if found is None else sample_of(found, inspection.split, inspection.num)
    paths = [model, *([inspection.against] if inspection.against else [])]
    models = [
        (str(path), load(path, device, output, read_as if path == model else None))
        for path in paths
    ]
    done = draw(models, source, folder)
    record = {"files": [str(file) for file in done.files], "notes": done.notes}
    lines = [f"wrote {file}" for file in done.files]
    output.result(record, [*lines, *(f"note  {note}" for note in done.notes)])
    return 0


def judge(
    classifier: Classifier,
    pictures: Sequence[Path],
    target: str | None,
    folder: Path,
    output: Output,
) -> int:
    """Deletion and insertion of every method on these images, as a table and two CSV files."""
    found = judged(classifier, pictures, target)
    for name, why in found.skipped:
        output.note(f"{name}  {why}")
    files = found.write(folder)
    lines = [
        f"{count(found.n, 'image')}, means and 95 % intervals; * is better than random for sure"
    ]
    lines += table(faithfulness_intervals.table(found.scores))
    lines += [f"wrote {path}" for path in files]
    output.result(plain({**found.to_json(), "files": list(map(str, files))}), lines)
    return 0
