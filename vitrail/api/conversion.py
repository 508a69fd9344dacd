"""A checkpoint of one library becomes one of another, with every tensor accounted for.

What was written is read back: its tensors must be the very bits of the model, its logits on made-up
images the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitrail.api.options import Format
from vitrail.checkpoints.adapt.fixed_patch import is_flexible, shown
from vitrail.checkpoints.adapt.request import shapes_of
from vitrail.checkpoints.external import plan_writing, read_external, write_foreign
from vitrail.checkpoints.hub.download import Progress
from vitrail.checkpoints.hub.resolve import resolve_weights
from vitrail.checkpoints.inspection import ReadingOptions, inspect
from vitrail.checkpoints.mapping.evaluation_crops import shown_by
from vitrail.checkpoints.mapping.fact import described
from vitrail.checkpoints.mapping.fact import shown as value_text
from vitrail.checkpoints.mapping.rules import MappingReport
from vitrail.checkpoints.origins.name_map import read_map
from vitrail.classifier import Classifier, load, of_foreign
from vitrail.cli.display.told import rows_of
from vitrail.errors import ModelError, UsageError
from vitrail.model_folder.bundle import refuse_existing
from vitrail.models.create import Model, build
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.notebook import Shown
from vitrail.open_model import find_model, is_ours
from vitrail.spelling import count

TOLERANCE = 1e-5  # of float32 logits, where positions are stored in another form
IMAGES = 2


@dataclass(frozen=True, eq=False)
class Inspection(Shown):
    """What a file or folder holds. is_convertible: whether `convert` takes it as it stands; record:
    every figure with its source, as `to_json` has it.
    """

    is_convertible: bool
    record: dict[str, Any]
    said: tuple[tuple[str, str], ...]

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        return list(self.said)

    def to_json(self) -> dict[str, Any]:
        """The object of `vitrail models FILE --json`."""
        return self.record

    def __repr__(self) -> str:
        return f"Inspection({'; '.join(f'{name} {value}' for name, value in self.said)})"


@dataclass(frozen=True)
class ReadBack:
    """OUT, read back. difference: largest of the logits; identical: whether every tensor is."""

    difference: float
    identical: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Conversion(Shown):
    """What was read and written. classifier: the model; report: what became of the tensors of
    another library's file; not_kept: what the format does not keep; checked: OUT, read back.
    """

    classifier: Classifier
    report: MappingReport | None
    to: Format
    files: tuple[Path, ...]
    not_kept: tuple[str, ...]
    checked: ReadBack

    @property
    def config(self) -> ModelConfig:
        """The architecture."""
        return model_of(self.classifier).config

    def __repr__(self) -> str:
        origin = self.classifier.meta.origin or "vitrail"
        same = "identical" if self.checked.identical else "positions in another form"
        return (
            f"Conversion({origin} -> {self.to}, {', '.join(map(str, self.files))}, tensors {same}, "
            f"logits within {self.checked.difference:.2g})"
        )

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        report, checked, made = self.report, self.checked, self.classifier.preprocess
        parameters = sum(value.numel() for value in self.classifier.model.parameters())
        origin = self.classifier.meta.origin or "vitrail"
        image = f"{made.height} x {made.width}"
        if made.is_variable and made.patch_size is not None:
            (ph, pw), most = made.patch_size, made.max_patches
            image = f"variable resolution, {most} patches at most of {ph} x {pw}"
        outputs = count(self.config.num_classes, "class")
        found = [
            (
                "model",
                f"{self.classifier.meta.name}, {parameters:,} parameters, {image} px, {outputs}",
            ),
            ("read", origin + (f": {count(report.used, 'tensor')}" if report else "")),
        ]
        if report:
            found += [("left out", f"{name}: {why}") for name, why in report.left_out]
            found += [("implied", f"{name}: {why}") for name, why in report.implied]
        found += rows_of(self.classifier)
        found += [("wrote", str(path)) for path in self.files]
        found += [("not kept", note) for note in self.not_kept]
        same = "its tensors are those" if checked.identical else "positions in another form"
        said = (
            f"the written copy equals what was read ({same}, logits within "
            f"{checked.difference:.2g}); whether it was read right is not checked"
        )
        return [*found, ("checked", said)]

    def to_json(self) -> dict[str, Any]:
        """The conversion as one object, that of `vitrail convert --json`."""
        meta, report, config = self.classifier.meta, self.report, self.config
        return {
            "origin": meta.origin or "vitrail",
            "format": self.to,
            "model": meta.name,
            "architecture": {"family": config.family, **config.model_dump(mode="json")},
            "parameters": sum(value.numel() for value in self.classifier.model.parameters()),
            "mapping": [
                {"theirs": list(theirs), "ours": list(ours)} for theirs, ours in report.mapping
            ]
            if report
            else [],
            "missing": report.missing if report else [],
            "unused": report.unused if report else [],
            "left_out": dict(report.left_out) if report else {},
            "implied": dict(report.implied) if report else {},
            "facts": [fact.to_json() for fact in meta.facts],
            "assumed": [fact.text() for fact in meta.facts if fact.source == "assumed"],
            "notes": list(meta.notes),
            "not_kept": list(self.not_kept),
            "files": [str(path) for path in self.files],
            "bytes": sum(path.stat().st_size for path in self.files),
            "tensors_identical": self.checked.identical,
            "logits_max_difference": self.checked.difference,
        }


def inspect_checkpoint(
    path: str | Path,
    *,
    given: Mapping[str, Any] | None = None,
    origin: str | None = None,
    table: str | None = None,
) -> Inspection:
    """What a checkpoint of another library holds, where every number of it is from, and whether it
    can be converted; nothing is written. As `vitrail models FILE`; a model of vitrail is told too.

    given, origin, table: what the file does not say, as for `load`.

    Raises UsageError VIT-202, VIT-211 for what is given; ModelError VIT-402 and VIT-411 to VIT-425
    for a file that is no checkpoint, VIT-430 where nothing is there.
    """
    settings = tuple(f"{name}={value_text(value)}" for name, value in (given or {}).items())
    return inspected(Path(path), ReadingOptions(settings, origin, table))


def inspected(path: Path, asked: ReadingOptions) -> Inspection:
    """As `inspect_checkpoint`."""
    place = find_model(path)
    if is_ours(place):
        return _own(path)
    found = inspect(place, asked)
    return Inspection(found.error is None, found.to_json(), tuple(found.rows()))


def _own(path: Path) -> Inspection:
    """A model of vitrail says everything itself."""
    classifier = load(path)
    parameters = sum(value.numel() for value in classifier.model.parameters())
    record = {
        "path": str(path),
        "format": "vitrail",
        "model": classifier.meta.name,
        "parameters": parameters,
        "classes": {"names": classifier.classes},
        "preprocess": classifier.preprocess.to_json(),
        "convertible": True,
    }
    said = (
        ("file", f"{path}: a model of vitrail"),
        ("model", f"{classifier.meta.name}, {parameters:,} parameters"),
        ("classes", f"{len(classifier.classes)} named"),
        ("prepared", described(classifier.preprocess)),
    )
    return Inspection(True, record, said)


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: Format,
    head: str | Path | None = None,
    given: Mapping[str, Any] | None = None,
    origin: str | None = None,
    table: str | None = None,
    name_map: str | Path | None = None,
    allow_unused: bool = False,
    patch: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Write the model of `source`, a path or a name as `load` takes them, into `out` in the format
    of the library `to`: a file or a folder, which must not exist. It is read back and compared.

    head: a second file with the linear head of a DINOv2 backbone. given, origin, table, name_map:
    what the file does not say, as for `load`. allow_unused: leave out heads that the model is read
    without. patch: side or (height, width), px, of a model that was trained for several patch
    sizes; other formats than ours hold one, its own unless given. progress: hears how a download
    gets on.

    Raises ModelError VIT-440 where `out` exists, VIT-426 where what was written reads back as
    another model (it is removed), and what `load` raises; UsageError VIT-202 for options without
    effect.
    """
    refuse_existing(Path(out))
    found = resolve_weights(Path(source), progress=progress)
    place = find_model(found)
    if is_ours(place):
        if origin or head or table or allow_unused or name_map:
            raise UsageError(
                "VIT-202",
                f"{found} is a model of vitrail; --origin, --table, --map, --head and "
                "--allow-unused have no effect.",
                hint="Leave them out.",
            )
        classifier, report = load(place), None
        classifier = with_settings(classifier, dict(given)) if given else classifier
    else:
        foreign = read_external(
            place,
            origin=origin,
            given=dict(given or {}),
            head=None if head is None else Path(head),
            table=table,
            allow_unused=allow_unused,
            name_map=read_map(Path(name_map)) if name_map else None,
        )
        classifier, report = of_foreign(foreign), foreign.report
    lost = fixed_at(classifier, (patch, patch) if isinstance(patch, int) else patch, to)
    files, notes = write(classifier, to, Path(out))
    notes = (*notes, *lost)
    checked = check(classifier, to, Path(out))
    return Conversion(classifier, report, to, tuple(files), (*notes, *checked.notes), checked)


def model_of(classifier: Classifier) -> Model:
    """Its network, which is one of ours."""
    assert isinstance(classifier.model, Model)
    return classifier.model


def fixed_at(classifier: Classifier, patch: tuple[int, int] | None, to: Format) -> list[str]:
    """Fix a model of several patch sizes at `patch`, or at its own where the format holds one;
    what is lost by it. Raises UsageError VIT-289.
    """
    before = model_of(classifier).config
    if patch is None and (to == "vitrail" or not is_flexible(before)):
        return []
    after = model_of(classifier.at_patch(patch)).config
    if not isinstance(after, ViTConfig) or after == before:
        return []
    return [f"patches of other sizes than {shown(after.patch_size)} px"]


def with_settings(classifier: Classifier, given: dict[str, Any]) -> Classifier:
    """The same tensors, computed by other fields. Raises UsageError VIT-202 where none fit."""
    model = model_of(classifier)
    config = type(model.config)(**(model.config.model_dump() | given))
    if shapes_of(config) != shapes_of(model.config) or config.image_size != model.config.image_size:
        raise UsageError(
            "VIT-202",
            f"--set {', '.join(given)}: the model's tensors are of other shapes.",
            hint="Fields that change no tensor can be set, as gelu, ln_eps or std_eps.",
        )
    changed = build(config)
    changed.load_state_dict(model.state_dict(), strict=True, assign=True)
    shown = shown_by(classifier.preprocess, config)
    return Classifier(changed, shown, classifier.classes, classifier.temperature, classifier.meta)


def write(classifier: Classifier, to: Format, out: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Write OUT: its files, and what the format does not keep."""
    if to == "vitrail":
        classifier.save(out)
        return sorted(out.iterdir()), ()
    model = model_of(classifier)
    planned = plan_writing(model.config, classifier.preprocess, classifier.classes, to)
    files = write_foreign(model, classifier.preprocess, classifier.classes, to, out)
    notes = planned.notes
    if classifier.temperature != 1:
        notes = (*notes, f"the temperature {classifier.temperature:g} is not kept")
    return files, notes


def check(classifier: Classifier, to: str, out: Path) -> ReadBack:
    """Read OUT back and compare. Raises ModelError VIT-426, and removes OUT, where it differs."""
    back = read_back(classifier, to, out)
    before, after = classifier.model.state_dict(), back.model.state_dict()
    identical = set(before) == set(after) and all(
        torch.equal(before[name], after[name]) for name in before
    )
    made = classifier.preprocess
    shape = (IMAGES, made.channels, made.height, made.width)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        own = classifier.model(images)
        found = own - back.model(images)
    if not own.isfinite().all():
        remove(out)
        raise ModelError(
            "VIT-442",
            "the model gives outputs that are not finite, so that nothing can be compared.",
            hint="Its weights are damaged or training diverged: convert an earlier checkpoint.",
        )
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
    if to == "vitrail":
        return load(out)
    size = (classifier.preprocess.height, classifier.preprocess.width)
    return of_foreign(read_external(out, origin=to, given={"image_size": size}))


def remove(out: Path) -> None:
    """Delete what was written."""
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()
