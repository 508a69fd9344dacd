"""The images that a report shows: those of a run's own data, found again by their names.

They are found by content, as the run recorded them, wherever the data lies now. Where some of those
that were judged are not there nothing is shown: a wrong thumbnail would be worse than none.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.config import TrainConfig, flatten
from vitrail.data.images.decode import decode
from vitrail.data.sources.examples import Examples
from vitrail.data.sources.many_labels import ManyLabels
from vitrail.data.sources.open_data import Source, Splits, subset
from vitrail.data.sources.sample import sample
from vitrail.errors import VitrailError
from vitrail.evaluation.eval_set import open_own
from vitrail.evaluation.on_data import labels_differ
from vitrail.folder import Folder
from vitrail.report.run_record import RunRecord
from vitrail.runs.documents import settings_in
from vitrail.settings.layers import resolve
from vitrail.spelling import cell

Pixels = NDArray[np.uint8]
THUMBNAIL_PX = 144
SAMPLES, VERSIONS = 6, 3


@dataclass(frozen=True)
class Sample:
    """A training image as it is, and as training saw it: uint8 (H, W, C)."""

    label: str
    original: Pixels
    versions: list[Pixels]


class Finder(Protocol):
    """Where a page finds images by split and name."""

    def find(self, split: str, source: str) -> Pixels | None: ...


class RunImages(Finder, Protocol):
    """Where a report finds images. `why_not` is a sentence where it has none."""

    why_not: str

    def some(self, split: str, count: int) -> list[Pixels]: ...
    def samples(self) -> list[Sample]: ...


class NoImages:
    """A report without images."""

    def __init__(self, why_not: str) -> None:
        self.why_not = why_not

    def find(self, split: str, source: str) -> Pixels | None:
        """Nothing."""
        return None

    def some(self, split: str, count: int) -> list[Pixels]:
        """None."""
        return []

    def samples(self) -> list[Sample]:
        """None."""
        return []


class SplitImages:
    """Images of splits."""

    def __init__(self, splits: Splits, max_pixels: int) -> None:
        self.parts = splits.parts()
        self._max_pixels = max_pixels
        self._places: dict[str, dict[str, int]] = {}

    def find(self, split: str, source: str) -> Pixels | None:
        """The image named `source` in predictions.csv, or None."""
        part = self.parts.get(split)
        if part is None:
            return None
        if split not in self._places:
            self._places[split] = {cell(part.source_id(i)): i for i in range(len(part))}
        place = self._places[split].get(cell(source))
        return None if place is None else self.read(part, place)

    def read(self, part: Source, index: int) -> Pixels | None:
        """One image, or None where it cannot be decoded."""
        try:
            content, _ = part.read(index)
            if isinstance(content, bytes):
                return decode(content, max_pixels=self._max_pixels)
        except VitrailError:
            return None
        return content

    def some(self, split: str, count: int) -> list[Pixels]:
        """At most `count` images, a sample of the split."""
        part = self.parts.get(split)
        if part is None or not len(part):
            return []
        chosen = np.sort(sample(part, count, "pictures"))
        found = [self.read(part, int(index)) for index in chosen]
        return [one for one in found if one is not None]


class DataImages(SplitImages):
    """Images of the splits that a run was trained and judged on."""

    def __init__(
        self, splits: Splits, config: TrainConfig, run: Folder, known: Examples | None
    ) -> None:
        super().__init__(splits, config.data.max_pixels)
        self._known = known
        self.why_not = ""
        self._config = config
        self._run = run

    def samples(self) -> list[Sample]:
        """Some training images of different classes and three augmented versions of each.

        Mixup and CutMix come later, on whole batches, and are not shown.
        """
        if not self._run.has("model/model.json"):
            return []
        train = self.parts["train"]
        changed = labels_differ(train, self._known)
        if changed is not None and changed.any():  # shown with labels that the run did not see
            train = subset(train, np.flatnonzero(~changed))
        if not len(train):
            return []
        chosen = np.array(_spread(train.labels, SAMPLES), dtype=np.int64)
        originals = [self.read(train, int(i)) for i in chosen]
        versions = self._augmented(subset(train, chosen))
        return [
            Sample(_label(train, int(i)), original, versions[place])
            for place, (i, original) in enumerate(zip(chosen, originals, strict=True))
            if original is not None
        ]

    def _augmented(self, source: Source) -> list[list[Pixels]]:
        from vitrail.data.loading.batch import pixels_of
        from vitrail.data.loading.batching import Batching
        from vitrail.data.loading.loader import make_loader  # torch
        from vitrail.model_folder.model_record import MAX_RECORD_BYTES, parse_record

        content = self._run.read("model/model.json", MAX_RECORD_BYTES)
        _, _, preprocess = parse_record(content, self._run.path / "model/model.json")
        augment = self._config.augment.model_copy(update={"repeats": 1})
        loader = make_loader(
            source, preprocess, augment, Batching(batch_size=len(source), seed=self._config.seed)
        )
        found: list[list[Pixels]] = [[] for _ in range(len(source))]
        for batch in loader.batches(0, VERSIONS):
            shown = pixels_of(batch, preprocess)
            for place, image in zip(batch.indices.tolist(), shown, strict=True):
                found[place].append(image)
        return found


def open_images(record: RunRecord) -> RunImages:
    """The images of a run, or none and why."""
    try:
        settings = flatten(settings_in(Folder(record.path)) or {})
        config, _ = resolve([("config.toml", settings)])
        judged = [split.name for split in record.splits if split.name in ("test", "val")]
        opened = open_own(record.path, judged[0] if judged else "train")
    except VitrailError as error:
        return NoImages(f"No images are shown: {error.message}")
    known = opened.known if isinstance(opened.known, Examples) else None
    return DataImages(opened.splits, config, Folder(record.path), known)


def _spread(labels: NDArray[Any], count: int) -> list[int]:
    """`count` indices, of as many classes as there are: the first of each class, in turn."""
    if isinstance(labels, ManyLabels):
        single = labels.leading()
    else:
        single = labels if labels.ndim == 1 else labels.argmax(axis=1)
    names, firsts = np.unique(single, return_index=True)
    places = np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).astype(int))
    chosen = [int(i) for i in firsts[places]]
    others = [i for i in range(len(single)) if i not in chosen]
    return (chosen + others[: count - len(chosen)])[:count]


def _label(source: Source, index: int) -> str:
    label = source.labels[index]
    if np.ndim(label) == 0:
        return source.classes[int(label)]
    return "|".join(name for name, has in zip(source.classes, label, strict=True) if has)


@dataclass(frozen=True)
class Thumbnail:
    """A small image inside the page."""

    pixels: Pixels

    @property
    def is_tiny(self) -> bool:
        """Whether it is shown with its pixels as squares."""
        return bool(max(self.pixels.shape[:2]) <= 48)

    @cached_property
    def uri(self) -> str:
        """A data: URI, PNG where the image is tiny, else JPEG of at most 144 px."""
        if self.is_tiny:
            return png_uri(self.pixels)
        image = _image(self.pixels)
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=80, optimize=True)
        return _uri("jpeg", stream.getvalue())


def png_uri(pixels: Pixels) -> str:
    """A data: URI of uint8 (H, W, C), C 1, 3 or 4."""
    stream = io.BytesIO()
    _image(pixels).save(stream, "PNG", optimize=True)
    return _uri("png", stream.getvalue())


def _image(pixels: Pixels) -> Image.Image:
    array = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(array))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
