"""`vitrail eval MODEL [DATA]`: measure a classifier on one split; --min-top1 is a gate.

What is judged is what the run held out, found by content, or all of other data; images that were
trained on are counted (`evaluation/eval_set.py`). No record is written over another.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.evaluation_lines import (
    calibration_lines,
    evaluation_lines,
    real_lines,
    robustness_lines,
)
from vitrail.cli.display.output import Output
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.eval_run import (
    DecodeOptions,
    measuring_of,
    say_notes,
)
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import GateError, UsageError, check_numbers
from vitrail.files import refuse_existing
from vitrail.model_folder.export_record import is_export
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.classifier import Classifier
    from vitrail.data.sources.open_data import Source
    from vitrail.evaluation.eval_set import EvalSet, Opened
    from vitrail.evaluation.measuring.measuring import Measuring
    from vitrail.evaluation.record import Evaluation

app = app_of("vitrail eval")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What is measured in addition to the usual figures."""

    calibrate: Annotated[bool, Parameter(negative=())] = False
    """Fit the model's temperature on the validation images and write it into model.json."""
    against: Path | None = None
    """Another model, measured on the same images: is one better, or is it chance?"""
    tta: Literal["none", "flip"] = "none"
    """flip: an image and its mirror image make one prediction."""
    corruptions: str | None = None
    """Measure on corrupted images too: all, or names or groups: noise,blur,weather,digital."""
    severity: str | None = None
    """Of the corruptions: 3, or 1,3,5, or 1-5. Default: 1-5."""
    tokens: float | None = None
    """Share of the tokens of a ViT to keep, e.g. 0.6: alike ones are merged, which is faster.
    Default: all."""
    patch: str | None = None
    """Patch, px (8, or 8x4: height first), of a ViT that was trained for several sizes (FlexiViT).
    Default: the model's patch_size."""
    real_labels: Path | None = None
    """real.json of ImageNet ReaL, for the validation images of ImageNet."""


@app.default
def evaluate(
    model: Path,
    data: str | None = None,
    /,
    *,
    split: str = "test",
    min_top1: float | None = None,
    out: Path | None = None,
    engine: str | None = None,
    threads: int | None = None,
    asked: Annotated[EvalOptions | None, Parameter(name="*")] = None,
    reading: Annotated[DecodeOptions | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Evaluate a classifier on a labelled dataset: accuracy, calibration, every class.

    Parameters
    ----------
    model
        A run directory or a model directory.
    data
        Images, as for vitrail train: the run's own where they lie now, or others, of which every
        labelled one is evaluated. Default: the data of the run.
    split
        train, val or test.
    min_top1
        Exit 7 where top-1 is below this share.
    out
        Folder for metrics.json, predictions.csv, confusion.csv, calibration.json; must not exist.
        Default for a run: a new folder of RUN/eval.
    engine
        torch, onnx, openvino or auto: the fastest that is installed and agreed with torch when the
        model was exported. Default: torch; of an export, what it was made for.
    threads
        Threads of the engine. Default: one for each core.
    """
    reading, asked = reading or DecodeOptions(), asked or EvalOptions()
    check(split, min_top1, out, reading, asked)
    from vitrail.cli.temperature import model_folder
    from vitrail.evaluation.asked_data import opened_for

    if asked.calibrate:
        model_folder(model)
    how = EngineOptions(
        engine=engine,
        precision=reading.precision,
        threads=threads,
        tokens=asked.tokens,
        patch=asked.patch,
    )
    classifier = loaded(model, read_as, how, reading, output)
    opened = opened_for(model, classifier.examples, data, split, draw=asked.calibrate)
    say_notes(opened.listed, output)
    job = EvalJob(model, classifier, opened, split, reading, asked, output)
    found, more, lines = measured(job)
    skipped = more["pictures"]["skipped"]
    title = opened.listed.name + ("" if opened.how == "all" else f" {split}")
    first = evaluation_lines(found, title, skipped=skipped)
    wrote = kept(job, found, more, out)
    output.result(found.document(more), [*first, *lines, *wrote])
    if min_top1 is not None and found.top1 < min_top1:
        raise GateError(
            "VIT-701",
            f"--min-top1 {min_top1}: top-1 is {found.top1:.4f} on {count(found.n, 'image')}.",
            hint="Which classes are worst: vitrail report RUN",
        )
    return 0


def loaded(
    model: Path, read_as: ReadAs | None, how: EngineOptions, reading: DecodeOptions, output: Output
) -> Classifier:
    """The classifier by the engine that was asked for. torch is told where and in what precision
    when it is shown the images; what it computes there is measured, so it needs no gate.
    """
    if how.engine in (None, "torch") and not is_export(model):
        how = dataclasses.replace(how, precision=None)
        return load(model, read_as, output, engine=how)
    size = reading.batch_size
    return load(model, read_as, output, device=reading.device, engine=how, batch=size)


def check(
    split: str, min_top1: float | None, out: Path | None, reading: DecodeOptions, asked: EvalOptions
) -> None:
    """Raise UsageError VIT-202, VIT-206, VIT-280 to VIT-283 for what cannot be asked."""
    from vitrail.evaluation.measuring.measuring import check_request

    check_numbers({"--batch-size": reading.batch_size, "--max-pixels": reading.max_pixels})
    if min_top1 is not None and not 0 <= min_top1 <= 1:
        raise UsageError(
            "VIT-202",
            f"--min-top1 {min_top1}: expected a share from 0 to 1.",
            hint="For 90 %: --min-top1 0.9",
        )
    if out is not None:
        refuse_existing(out)
    check_request(
        split,
        calibrate=asked.calibrate,
        tta=asked.tta,
        corruptions=asked.corruptions,
        severity=asked.severity,
    )


def kept(job: EvalJob, found: Evaluation, more: dict[str, Any], out: Path | None) -> list[str]:
    """Write the evaluation where it was asked for, or beside what a run has; what to tell."""
    from vitrail.evaluation.kept import keep, name_of
    from vitrail.run_model import is_run

    if out is not None:
        found.write(out, more, is_new=True)
        return [f"wrote {out}"]
    if not is_run(job.model):
        return []
    name = name_of(job.opened, job.split, more, job.model)
    folder, is_new = keep(job.model, name, found, more)
    return [f"wrote {folder}" if is_new else f"{folder} has this very evaluation; it stays"]


@dataclasses.dataclass(frozen=True)
class EvalJob:
    """What is measured, on what, and how."""

    model: Path
    classifier: Classifier
    opened: Opened
    split: str
    reading: DecodeOptions
    asked: EvalOptions
    output: Output

    @functools.cached_property
    def measuring(self) -> Measuring:
        """How the model is shown images."""
        return measuring_of(self.classifier, self.reading, self.output, self.asked.tta)


def measured(job: EvalJob) -> tuple[Evaluation, dict[str, Any], list[str]]:
    """The evaluation, further keys of metrics.json, and lines about them."""
    from vitrail.evaluation.real_labels import check_pictures, read_real, real_accuracy

    asked, output = job.asked, job.output
    labels = read_real(asked.real_labels) if asked.real_labels else None
    judged, skipped = pictures(job, job.split)
    source = in_classes_of(judged.source, job.classifier, job.model, output)
    if labels is not None:
        check_pictures(source, labels)
    rival = rival_of(job, judged) if asked.against else None
    more: dict[str, Any] = {"pictures": {"seen": len(source), "skipped": skipped}, "tta": asked.tta}
    more |= EngineOptions(tokens=asked.tokens, patch=asked.patch).asked
    info = job.classifier.runtime.info
    if info.engine != "torch":
        more["engine"] = {"name": info.engine, "precision": info.precision, "threads": info.threads}
    if job.opened.listed.notes:
        more["data_notes"] = list(job.opened.listed.notes)
    lines: list[str] = []
    if asked.calibrate:
        found, lines = calibrated(job, source, more)
    else:
        found = job.measuring.evaluate(source)
    lines = [*judged_lines(judged, found, more), *lines]
    if labels is not None:
        real = real_accuracy(found, labels)
        more["real"] = real.to_json()
        lines += real_lines(real)
    if rival is not None:
        lines += against(job, rival, found, more)
    if asked.corruptions is not None:
        lines += corrupt(job, source, found, more)
    return found, more, lines


def judged_lines(judged: EvalSet, found: Evaluation, more: dict[str, Any]) -> list[str]:
    """Which images were judged and how far the model knows them; also into the record."""
    without = judged.without_seen(found)
    more["judged"] = judged.to_json() | ({"without": without} if without else {})
    lines = judged.sentences()
    if without and without["n"]:
        lines.append(f"top-1 of the {without['n']:,} others: {without['top1']:.4f}")
    return lines


def pictures(job: EvalJob, split: str) -> tuple[EvalSet, int]:
    """The images of a split that can be read, and how many cannot."""
    from vitrail.data.check.check_data import usable

    judged = job.opened.judged(split)
    if job.reading.on_bad_file == "stop":
        return judged, 0
    reading = job.reading
    source, bad = usable(judged.source, max_pixels=reading.max_pixels, workers=reading.workers)
    for name, reason in bad:
        job.output.note(f"left out  {name}: {reason}")
    return job.opened.judged(split, source), len(bad)


def in_classes_of(source: Source, classifier: Classifier, name: Path, output: Output) -> Source:
    """`source` labelled in the classes of a model. Raises ModelError VIT-403."""
    from vitrail.evaluation.on_data import relabelled

    if not classifier.classes:
        output.note(
            f"{name} does not name its classes: its outputs are taken in the order of the folders"
        )
    return relabelled(source, classifier.classes, str(name))


def calibrated(job: EvalJob, source: Source, more: dict[str, Any]) -> tuple[Evaluation, list[str]]:
    """Fit the temperature on validation, judge it on `source`, and only then store it."""
    from vitrail.cli.temperature import model_folder, store

    classifier = job.classifier
    held, _ = pictures(job, "val")
    is_own = job.opened.how == "recorded"
    for sentence in held.label_changes() if is_own else held.sentences():
        job.output.note(f"temperature: {sentence}")
    val = in_classes_of(held.source, classifier, job.model, job.output)
    found = job.measuring.calibrated(val, source)
    more["calibration"] = found.to_json()
    judged = {job.split: found.after} if is_own else {}
    said = store(model_folder(job.model), found.fit, judged)
    classifier.temperature = found.fit.temperature
    return found.after, [*calibration_lines(found.fit, found.before, found.after), *said]


@dataclasses.dataclass(frozen=True)
class Rival:
    """The other model of --against, the images in its classes, and which of them neither of the two
    models was trained on.
    """

    model: Path
    classifier: Classifier
    source: Source
    unseen: Any


def rival_of(job: EvalJob, judged: EvalSet) -> Rival:
    """Load the other model before anything is computed. Raises ModelError VIT-403, DataError
    VIT-326 where no image is left that neither model was trained on.
    """
    from vitrail.evaluation.eval_set import both_unseen, judged_as, known_of
    from vitrail.run_model import is_run

    other = job.asked.against or job.model
    rival = load(other, None, job.output)
    unseen = both_unseen(judged, rival.examples, (str(job.model), str(other)))
    if isinstance(rival.examples, str):
        job.output.note(f"{other}: whether it was trained on them cannot be told: {rival.examples}")
    known = known_of(other, rival.examples) if is_run(other) else rival.examples
    theirs = judged_as(judged.source, judged.data, judged.split, judged.how, known)
    for sentence in theirs.label_changes():
        job.output.note(f"{other}: {sentence}")
    return Rival(other, rival, in_classes_of(judged.source, rival, other, job.output), unseen)


def against(job: EvalJob, rival: Rival, found: Evaluation, more: dict[str, Any]) -> list[str]:
    """Another model on the same images."""
    from vitrail.evaluation.measuring.measuring import beside
    from vitrail.evaluation.paired import sentences

    way = measuring_of(rival.classifier, job.reading, job.output, job.asked.tta)
    theirs = way.evaluate(rival.source)
    if len(theirs.classes) != len(found.classes):
        job.output.note(
            f"{rival.model} chooses among {count(len(theirs.classes), 'class')}, "
            f"{job.model} among {len(found.classes)}: nll does not compare like with like"
        )
    both = beside(found, theirs, rival.unseen)
    more["against"] = both.to_json(str(rival.model))
    told = []
    if both.left_out:
        told = [
            f"compared on {both.other.n:,} of {count(theirs.n, 'image')}: one of the two was "
            f"trained on the {both.left_out:,} others"
        ]
    low, high = both.other.interval
    return [
        *told,
        f"against {rival.model}  top-1  {both.other.top1:.4f}  (95 % {low:.4f}-{high:.4f})    "
        f"nll  {both.other.nll:.4f}",
        *sentences(both.comparison, str(job.model), str(rival.model)),
    ]


def corrupt(job: EvalJob, source: Source, found: Evaluation, more: dict[str, Any]) -> list[str]:
    """The model on corrupted images."""
    from vitrail.evaluation.measuring.measuring import corruptions_asked, corruptions_json

    names, levels = corruptions_asked(job.asked.corruptions or "all", job.asked.severity)
    total = len(source) * len(names) * len(levels)
    job.output.note(
        f"{len(names)} corruptions at {len(levels)} severities of {count(len(source), 'image')}: "
        f"{count(total, 'prediction')}"
    )
    result = job.measuring.corrupted(source, names, levels)
    more["corruptions"] = corruptions_json(found, result)
    return robustness_lines(result, found.top1)
