"""`vitrail convert IN OUT --to FORMAT`: a checkpoint of one library becomes one of another.

Every tensor is accounted for, and what was written is read back: its tensors must be the very bits
of the model, its logits on made-up images the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.cli.display.told import rows_of
from vitrail.cli.read_as import ReadAs
from vitrail.errors import ModelError, UsageError
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.checkpoints.mapping.rules import MappingReport
    from vitrail.classifier import Classifier
    from vitrail.models.names import ModelConfig

app = app_of("vitrail convert")
Format = Literal[
    "google", "big_vision", "bit", "timm", "huggingface", "torchvision", "deit", "dinov2", "vitrail"
]
TOLERANCE = 1e-5  # of float32 logits, where positions are stored in another form
IMAGES = 2


@dataclass(frozen=True)
class ReadBack:
    """OUT, read back. difference: largest of the logits; identical: whether every tensor is."""

    difference: float
    identical: bool
    notes: tuple[str, ...]


@app.default
def convert(
    source: Annotated[Path, Parameter(name="IN")],
    out: Path,
    /,
    *,
    to: Format,
    head: Path | None = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    allow_unused: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Convert a model from one library's format to another's.

    Parameters
    ----------
    source
        A run or model directory, or a checkpoint: .npz, .safetensors, .pth, .pt, .bin, a folder of
        timm or Hugging Face, hf:OWNER/NAME, google:FILE.
    out
        What is written, a file or a folder by format; must not exist.
    to
        The library whose format is written.
    head
        A second file with the linear head of a DINOv2 backbone.
    allow_unused
        Leave out heads that the model is read without.
    """
    from vitrail.checkpoints.mapping.stated import read_settings
    from vitrail.model_folder.bundle import refuse_existing

    read_as = read_as or ReadAs()
    read_settings(read_as.settings)
    refuse_existing(out)
    from vitrail.checkpoints.hub.resolve import resolve_weights
    from vitrail.cli.display.progress import progress_of

    place = resolve_weights(source, progress=progress_of(output))
    classifier, report = open_source(place, read_as, head, allow_unused=allow_unused)
    files, notes = write(classifier, to, out)
    checked = check(classifier, to, out)
    notes = (*notes, *checked.notes)
    record = record_of(classifier, report, to, files, notes, checked)
    output.result(record, lines_of(classifier, report, record, notes))
    if output.verbose and report is not None and not output.json:
        for line in mapping_lines(report):
            output.line(line)
    return 0


def open_source(
    source: Path,
    read_as: ReadAs,
    head: Path | None,
    *,
    allow_unused: bool,
) -> tuple[Classifier, MappingReport | None]:
    """The model of IN, and what became of its tensors where it is another library's."""
    from vitrail.checkpoints.external import read_external
    from vitrail.checkpoints.mapping.stated import read_settings
    from vitrail.checkpoints.origins.name_map import read_map
    from vitrail.classifier import find_model, is_ours, load, of_foreign

    place, given = find_model(source), read_settings(read_as.settings)
    origin, table = read_as.origin, read_as.table
    if not is_ours(place):
        rules = read_map(read_as.name_map) if read_as.name_map else None
        foreign = read_external(
            place,
            origin=origin,
            given=given,
            head=head,
            table=table,
            allow_unused=allow_unused,
            name_map=rules,
        )
        return of_foreign(foreign), foreign.report
    if origin or head or table or allow_unused or read_as.name_map:
        raise UsageError(
            "VIT-202",
            f"{source} is a model of vitrail; --origin, --table, --map, --head and --allow-unused "
            "have no effect.",
            hint="Leave them out.",
        )
    classifier = load(place)
    return (with_settings(classifier, given) if given else classifier), None


def with_settings(classifier: Classifier, given: dict[str, Any]) -> Classifier:
    """The same tensors, computed by other fields. Raises UsageError VIT-202 where none fit."""
    from vitrail.checkpoints.adapt.request import shapes_of
    from vitrail.classifier import Classifier
    from vitrail.models.create import Model, build

    model = classifier.model
    assert isinstance(model, Model)
    config = type(model.config)(**(model.config.model_dump() | given))
    if shapes_of(config) != shapes_of(model.config) or config.image_size != model.config.image_size:
        raise UsageError(
            "VIT-202",
            f"--set {', '.join(given)}: the model's tensors are of other shapes.",
            hint="Fields that change no tensor can be set, as gelu, ln_eps or std_eps.",
        )
    changed = build(config)
    changed.load_state_dict(model.state_dict(), strict=True, assign=True)
    return Classifier(
        changed, classifier.preprocess, classifier.classes, classifier.temperature, classifier.meta
    )


def write(classifier: Classifier, to: str, out: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Write OUT: its files, and what the format does not keep."""
    from vitrail.checkpoints.external import plan_writing, write_foreign
    from vitrail.models.create import Model

    if to == "vitrail":
        classifier.save(out)
        return sorted(out.iterdir()), ()
    model = classifier.model
    assert isinstance(model, Model)
    planned = plan_writing(model.config, classifier.preprocess, classifier.classes, to)
    files = write_foreign(model, classifier.preprocess, classifier.classes, to, out)
    notes = planned.notes
    if classifier.temperature != 1:
        notes = (*notes, f"the temperature {classifier.temperature:g} is not kept")
    return files, notes


def check(classifier: Classifier, to: str, out: Path) -> ReadBack:
    """Read OUT back and compare. Raises ModelError VIT-426, and removes OUT, where it differs."""
    import torch

    back = read_back(classifier, to, out)
    before, after = classifier.model.state_dict(), back.model.state_dict()
    identical = set(before) == set(after) and all(
        torch.equal(before[name], after[name]) for name in before
    )
    made = classifier.preprocess
    shape = (IMAGES, made.channels, made.height, made.width)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = classifier.model(images) - back.model(images)
    difference = float(found.abs().max())
    is_same_form = {name: value.shape for name, value in before.items()} == {
        name: value.shape for name, value in after.items()
    }
    if (is_same_form and not identical) or not difference <= TOLERANCE:
        remove(out)
        raise ModelError(
            "VIT-426",
            f"{out} was read back as another model: logits differ by {difference:g} (limit "
            f"{TOLERANCE:g}), tensors {'do not' if identical else 'do'}. It was removed.",
            hint="A fault of vitrail: please report it with the command.",
        )
    other = changed(classifier.preprocess.model_dump(), back.preprocess.model_dump())
    notes = [f"preprocessing: {other}"] if other else []
    if list(back.classes) != list(classifier.classes):
        notes.append("class names are not kept")
    return ReadBack(difference, identical, tuple(notes))


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The fields that differ, as "crop none -> center"."""
    return ", ".join(
        f"{name} {before[name]} -> {after[name]}" for name in before if before[name] != after[name]
    )


def read_back(classifier: Classifier, to: str, out: Path) -> Classifier:
    """OUT as a classifier; the image size is stated, which an .npz cannot."""
    from vitrail.checkpoints.external import read_external
    from vitrail.classifier import load, of_foreign

    if to == "vitrail":
        return load(out)
    size = (classifier.preprocess.height, classifier.preprocess.width)
    return of_foreign(read_external(out, origin=to, given={"image_size": size}))


def remove(out: Path) -> None:
    """Delete what this command wrote."""
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()


def record_of(
    classifier: Classifier,
    report: MappingReport | None,
    to: str,
    files: Sequence[Path],
    notes: Sequence[str],
    checked: ReadBack,
) -> dict[str, Any]:
    """The conversion as one JSON object."""
    from vitrail.models.create import Model

    assert isinstance(classifier.model, Model)
    config: ModelConfig = classifier.model.config
    return {
        "origin": classifier.meta.origin or "vitrail",
        "format": to,
        "model": classifier.meta.name,
        "architecture": {"family": config.family, **config.model_dump(mode="json")},
        "parameters": sum(value.numel() for value in classifier.model.parameters()),
        "mapping": [{"theirs": list(theirs), "ours": list(ours)} for theirs, ours in report.mapping]
        if report
        else [],
        "missing": report.missing if report else [],
        "unused": report.unused if report else [],
        "left_out": dict(report.left_out) if report else {},
        "implied": dict(report.implied) if report else {},
        "facts": [fact.to_json() for fact in classifier.meta.facts],
        "assumed": [fact.text() for fact in classifier.meta.facts if fact.source == "assumed"],
        "notes": list(classifier.meta.notes),
        "not_kept": list(notes),
        "files": [str(path) for path in files],
        "bytes": sum(path.stat().st_size for path in files),
        "tensors_identical": checked.identical,
        "logits_max_difference": checked.difference,
    }


def lines_of(
    classifier: Classifier,
    report: MappingReport | None,
    record: dict[str, Any],
    notes: Sequence[str],
) -> list[str]:
    """The conversion for people."""
    height, width = classifier.preprocess.height, classifier.preprocess.width
    rows = [
        (
            "model",
            f"{record['model']}, {record['parameters']:,} parameters, {height} x {width} px, "
            f"{count(record['architecture']['num_classes'], 'class')}",
        ),
        ("read", f"{record['origin']}" + (f": {count(report.used, 'tensor')}" if report else "")),
    ]
    if report:
        rows += [("left out", f"{name}: {why}") for name, why in report.left_out]
        rows += [("implied", f"{name}: {why}") for name, why in report.implied]
    rows += rows_of(classifier)
    rows += [("wrote", path) for path in record["files"]]
    rows += [("not kept", note) for note in notes]
    same = "its tensors are those" if record["tensors_identical"] else "positions in another form"
    rows.append(
        (
            "checked",
            f"the written copy equals what was read ({same}, logits within "
            f"{record['logits_max_difference']:.2g}); whether it was read right is not "
            "checked",
        )
    )
    return table(rows, left=2)


def mapping_lines(report: MappingReport) -> list[str]:
    """Their tensors and ours, a rule a line."""
    rows = [(" ".join(theirs) or "-", " ".join(ours)) for theirs, ours in report.mapping]
    return table([("theirs", "ours"), *rows], left=2)
