"""Explanations of many images, of a whole model, and of the methods themselves.

Sheets of images, each explained by several methods, and one page of them; the inspection figures of
a model; how much of an answer the map of each method holds.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from vitrail.api.options import LoadOptions, shows_options
from vitrail.api.predictions import Model as AnyModel
from vitrail.api.predictions import opened
from vitrail.batch_prediction.asked_images import ImageList, find_pictures
from vitrail.classifier import Classifier
from vitrail.data.loading.batch import normalise
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.sample import sample
from vitrail.data.sources.source import Source, subset
from vitrail.errors import DataError, UsageError, check_numbers
from vitrail.evaluation import faithfulness_intervals
from vitrail.evaluation.asked_data import opened_for
from vitrail.evaluation.eval_set import Opened
from vitrail.evaluation.faithfulness_intervals import MethodScores
from vitrail.explain import faithfulness as proofs
from vitrail.explain.explanation import Explanation
from vitrail.explain.image_input import class_index, input_of, pixels_of
from vitrail.explain.inspect import inspection_figures
from vitrail.explain.inspect.inspection_figures import FigureFiles
from vitrail.explain.methods.registry import METHODS, methods_of
from vitrail.explain.sheet import sheet
from vitrail.files import csv_text, refuse_existing, whole_folder, write_together, write_whole
from vitrail.model_folder.bundle import NO_RECORD
from vitrail.models.create import Model
from vitrail.notebook import Shown
from vitrail.report.explain_page import explain_page, image_section
from vitrail.report.frame import PageSection
from vitrail.run_model import is_run
from vitrail.spelling import count, printable

BATCH = 8
TABLES = ("faithfulness.csv", "curves.csv")
PAGE = "explain.html"
LONGEST = 100  # letters of an image's name in those of its files
ALL = "all"


@dataclass(frozen=True)
class Sheet:
    """One image: the plain facts of each method, and the file; or in `error` why it cannot be read.
    The maps themselves are not kept: there may be thousands of images.
    """

    source: Path
    methods: tuple[dict[str, Any], ...] = ()
    file: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class Sheets(Shown):
    """Images that were explained, and the page about all of them."""

    sheets: tuple[Sheet, ...]
    page: Path

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        told = [(str(one.source), one.error or str(one.file)) for one in self.sheets]
        return [*told, ("page", str(self.page))]


@dataclass(frozen=True, eq=False)
class Faithfulness(Shown):
    """How much of the answers to n images the maps of each method hold: `scores` with intervals and
    the difference to chance, `curves` behind them; skipped: images that cannot be read, and why.
    """

    scores: tuple[MethodScores, ...]
    curves: tuple[proofs.MethodCurves, ...]
    n: int
    skipped: tuple[tuple[str, str], ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        head, *lines = faithfulness_intervals.table(self.scores)
        told = [
            (line[0], "; ".join(f"{a} {b}" for a, b in zip(head[1:], line[1:], strict=True)))
            for line in lines
        ]
        return [
            ("images", f"{self.n:,}"),
            *told,
            *(("skipped", ": ".join(x)) for x in self.skipped),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"results": [row.to_json() for row in self.scores]}

    def write(self, folder: str | Path) -> list[Path]:
        """Write faithfulness.csv and curves.csv; their paths. Raises UsageError VIT-206 where they
        are there, EnvironmentFault VIT-506.
        """
        texts = (faithfulness_intervals.csv_of(self.scores), curves_text(self.curves))
        refuse_existing(*(Path(folder) / name for name in TABLES))
        return write_together(Path(folder), dict(zip(TABLES, texts, strict=True)))


@partial(shows_options, options=LoadOptions)
def explain_sheets(
    model: AnyModel,
    images: str | Path | Iterable[str | Path],
    out: str | Path,
    methods: str | Sequence[str] = ALL,
    *,
    target: str | int | None = None,
    **options: Unpack[LoadOptions],
) -> Sheets:
    """Explain each image by several methods, side by side: NAME-sheet.png in the new folder `out`,
    and explain.html about all of them; as `vitrail explain --sheet`.

    model: as for `predict`. images: files and folders. methods: "all", or names as
    `Classifier.explain` has them. target: the class to explain, its name or number; the model's
    first choice unless given.

    Raises UsageError VIT-202, VIT-203, VIT-206 where `out` exists, VIT-270 to VIT-276; DataError
    VIT-360, VIT-361, VIT-362 where no image can be read; what `load` raises.
    """
    folder = Path(out)
    refuse_existing(folder)
    asked = _listed(images)
    classifier = by_torch(model, options)
    names = methods if isinstance(methods, str) else ",".join(methods)
    made = write_sheets(
        classifier,
        asked.pictures,
        methods_asked(classifier, names),
        folder,
        target=None if target is None else str(target),
        refused=asked.refused,
        title=printable(Path(model).name) if isinstance(model, str | Path) else "model",
    )
    if all(one.error for one in made):
        raise none_readable(len(made), f"{made[0].source}: {made[0].error}")
    return Sheets(tuple(made), folder / PAGE)


@partial(shows_options, options=LoadOptions)
def model_figures(
    model: AnyModel,
    out: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "test",
    num: int = 128,
    against: AnyModel | None = None,
    **options: Unpack[LoadOptions],
) -> FigureFiles:
    """Draw what is inside a model into the new folder `out`, with the numbers as CSV: filters,
    positions and, on images, attention distance and similarity of layers; as `vitrail explain
    --figures`. The answer names the `files`, and says in `notes` what could not be drawn.

    model: as for `predict`. data, split: images, the run's own unless given; num: how many, a
    sample. against: a second model, shown next to the first.

    Raises UsageError VIT-202, VIT-203, VIT-206 where `out` exists, VIT-240; what `load` and
    `open_data` raise.
    """
    check_numbers({"--num": num})
    folder = Path(out)
    refuse_existing(folder)
    place = None if isinstance(model, Classifier) else Path(model)
    found = images_for_figures(place, None if data is None else str(data), split)
    source = None if found is None else sample_of(found, split, num)
    names = [model] if against is None else [model, against]
    models = [
        ("the model" if isinstance(one, Classifier) else str(one), by_torch(one, options))
        for one in names
    ]
    return write_figures(models, source, folder)


@partial(shows_options, options=LoadOptions)
def faithfulness(
    model: AnyModel,
    images: str | Path | Iterable[str | Path],
    *,
    target: str | int | None = None,
    **options: Unpack[LoadOptions],
) -> Faithfulness:
    """Judge every method of explanation on these images: how fast the answer falls where the map
    says (deletion), how fast it comes back (insertion), each compared with chance; as `vitrail
    explain --faithfulness`.

    model, images, target: as for `explain_sheets`. Raises UsageError VIT-203, VIT-270 to VIT-276;
    DataError VIT-360, VIT-361, VIT-362 where no image can be read; what `load` raises.
    """
    asked = _listed(images)
    found = judged(by_torch(model, options), asked.readable, target)
    refused = tuple((str(path), why) for path, why in asked.refused.items())
    return Faithfulness(found.scores, found.curves, found.n, (*refused, *found.skipped))


def _listed(images: str | Path | Iterable[str | Path]) -> ImageList:
    given = [images] if isinstance(images, str | os.PathLike) else list(images)
    return find_pictures([Path(one) for one in given])


def by_torch(model: AnyModel, options: LoadOptions) -> Classifier:
    """The classifier, computed by torch; of several patch sizes one that is loaded here has its
    own.
    """
    if isinstance(model, Classifier):
        return opened(model, options, 1)
    loads: LoadOptions = {"engine": "torch", **options}
    return opened(model, loads, 1).at_patch()


def network_of(classifier: Classifier) -> Model:
    """Its network, which is one of ours."""
    assert isinstance(classifier.model, Model)
    return classifier.model


def none_readable(num: int, first: str) -> DataError:
    """VIT-362: none of `num` images can be read; first: one of them, and why."""
    return DataError(
        "VIT-362",
        f"none of the {count(num, 'image')} can be read; the first: {first}",
        hint="Accepted: jpeg png webp bmp gif tiff",
    )


def images_for_figures(model: Path | None, data: str | None, split: str) -> Opened | None:
    """Images to show a model; None where nothing says which. Raises as `opened_for`."""
    if data is None and (model is None or not is_run(model)):
        return None
    return opened_for(model or Path(), NO_RECORD, data, split)


def sample_of(found: Opened, split: str, num: int) -> Source:
    """`num` images, a sample of the split."""
    source = found.judged(split).source
    return subset(source, np.sort(sample(source, num, "figures")))


def write_figures(
    models: Sequence[tuple[str, Classifier]], source: Source | None, folder: Path
) -> FigureFiles:
    """Every figure that one or two models have, by name, and its numbers."""
    shown = []
    for name, classifier in models:
        classifier.preprocess.require_one_size("--figures")
        batches = None if source is None else batches_of(classifier, source)
        shown.append(inspection_figures.Inspected(name, network_of(classifier), batches))
    with whole_folder(folder) as temporary:
        done = inspection_figures.write_figures(shown, temporary)
    return FigureFiles([folder / file.name for file in done.files], done.notes)


def batches_of(classifier: Classifier, source: Source) -> Callable[[], Iterator[torch.Tensor]]:
    """Batches of the images as the classifier sees them, read anew at every call."""

    def batches() -> Iterator[torch.Tensor]:
        loader = make_loader(source, classifier.preprocess, None, Batching(BATCH))
        for batch in loader.eval_batches(BATCH):
            yield normalise(batch.images.to(classifier.device), classifier.preprocess)

    return batches


def judged(
    classifier: Classifier, pictures: Sequence[Path], target: str | int | None
) -> Faithfulness:
    """Deletion and insertion of every method on these images. Raises DataError VIT-362."""
    classifier.preprocess.require_one_size("--faithfulness")
    model, images = network_of(classifier), []
    skipped: list[tuple[str, str]] = []
    for path in pictures:
        try:
            images.append(input_of(model, classifier.preprocess, pixels_of(path))[0])
        except DataError as fault:
            skipped.append((str(path), getattr(fault, "reason", fault.message)))
    if not images:
        first = ": ".join(skipped[0]) if skipped else "none is left to read"
        raise none_readable(len(pictures), first)
    index = class_index(classifier.classes, target)
    curves = proofs.judge(
        model,
        torch.stack(images),
        targets=None if index is None else [index] * len(images),
        scores=classifier.meta.scores,
    )
    rows = faithfulness_intervals.summary(curves)
    return Faithfulness(tuple(rows), tuple(curves), len(images), tuple(skipped))


def curves_text(judged: Sequence[proofs.MethodCurves]) -> str:
    """Mean curves as CSV: a line a method and share of the cells."""
    rows = (
        [one.method, *map(float, row)]
        for one in judged
        for row in zip(one.curves.shares, one.curves.deletion, one.curves.insertion, strict=True)
    )
    return csv_text(["method", "share", "deletion", "insertion"], rows)


def methods_asked(classifier: Classifier, text: str) -> list[str]:
    """The methods of "all", or of names with commas between. Raises UsageError VIT-270, VIT-271
    where an image is explained by one that the model does not have; here VIT-202 for none.
    """
    assert isinstance(classifier.model, Model)
    if text == ALL:
        return [name for name in methods_of(classifier.model) if name != "random"]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("VIT-202", "--sheet: no method is named.", hint="For instance --sheet all")
    return list(dict.fromkeys(names))


def explained(
    classifier: Classifier, image: Path, methods: Sequence[str], target: str | None = None
) -> tuple[Explanation, ...]:
    """One image by several methods; target: for those that explain a class."""
    return tuple(
        classifier.explain(
            image, one, target=target if one in METHODS and METHODS[one].has_target else None
        )
        for one in methods
    )


def write_sheets(
    classifier: Classifier,
    images: Sequence[Path],
    methods: Sequence[str],
    folder: Path,
    *,
    target: str | None = None,
    refused: dict[Path, str] | None = None,
    title: str = "model",
) -> list[Sheet]:
    """Write NAME-sheet.png of each image into `folder`, and explain.html about all of them. Nothing
    is written where no image can be read. refused: images that are not opened, and why.

    Raises UsageError VIT-206 where a file exists, VIT-270 to VIT-276 for methods and target;
    EnvironmentFault VIT-506.
    """
    sheets: list[Sheet] = []
    sections, names = list[PageSection](), set[str]()
    for path in images:
        if refused and path in refused:
            sheets.append(Sheet(path, error=refused[path]))
            continue
        try:
            found = explained(classifier, path, methods, target)
        except DataError as fault:
            sheets.append(Sheet(path, error=getattr(fault, "reason", fault.message)))
            continue
        stem = free_name(f"{printable(path.stem)[:LONGEST]}-sheet", names)
        stream = io.BytesIO()
        drawn = sheet(found[0].picture, found[0].said, [one.column() for one in found])
        drawn.save(stream, "PNG")
        file = write_whole(folder / f"{stem}.png", stream.getvalue())
        sections.append(image_section(len(sections) + 1, printable(path.name), found))
        sheets.append(Sheet(path, tuple(one.to_json() for one in found), file))
    if sections:
        bad = sum(bool(one.error) for one in sheets)
        write_whole(folder / PAGE, explain_page(title, sections, bad))
    return sheets


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with a number where an image before had it; added to `taken`."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found
