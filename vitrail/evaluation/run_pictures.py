"""The pictures that a report shows: those of a run's own data, found again by their names.

The data are opened as the run opened them. Where they have moved or changed since (another
fingerprint) nothing is shown: a wrong thumbnail would be worse than none.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.config import TrainConfig, read_toml, resolve
from vitrail.data.decode import decode
from vitrail.data.sources import Source, Splits, fingerprint, open_data, subset
from vitrail.errors import VitrailError
from vitrail.evaluation.run_record import RunRecord

Pixels = NDArray[np.uint8]
THUMBNAIL_PX = 144
SAMPLES, VERSIONS = 6, 3


@dataclass(frozen=True)
class Sample:
    """A training picture as it is, and as training saw it: uint8 (H, W, C)."""

    label: str
    original: Pixels
    versions: list[Pixels]


class Pictures(Protocol):
    """Where a report finds pictures. `why_not` is a sentence where it has none."""

    why_not: str

    def find(self, split: str, source: str) -> Pixels | None: ...
    def samples(self) -> list[Sample]: ...


class NoPictures:
    """A report without pictures."""

    def __init__(self, why_not: str) -> None:
        self.why_not = why_not

    def find(self, split: str, source: str) -> Pixels | None:
        """Nothing."""
        return None

    def samples(self) -> list[Sample]:
        """None."""
        return []


class DataPictures:
    """Pictures of the splits that a run was trained and judged on."""

    def __init__(self, splits: Splits, config: TrainConfig, model: Path) -> None:
        self.why_not = ""
        self._parts = splits.parts()
        self._config = config
        self._model = model
        self._places: dict[str, dict[str, int]] = {}

    def find(self, split: str, source: str) -> Pixels | None:
        """The picture named `source` in predictions.csv, or None."""
        part = self._parts.get(split)
        if part is None:
            return None
        if split not in self._places:
            self._places[split] = {part.source_id(i): i for i in range(len(part))}
        place = self._places[split].get(source)
        return None if place is None else self._read(part, place)

    def _read(self, part: Source, index: int) -> Pixels | None:
        try:
            content, _ = part.read(index)
            if isinstance(content, bytes):
                return decode(content, max_pixels=self._config.data.max_pixels)
        except VitrailError:
            return None
        return content

    def samples(self) -> list[Sample]:
        """Some training pictures of different classes and three augmented versions of each.

        Mixup and CutMix come later, on whole batches, and are not shown.
        """
        if not (self._model / "model.json").is_file():
            return []
        train = self._parts["train"]
        chosen = np.array(_spread(train.labels, SAMPLES), dtype=np.int64)
        originals = [self._read(train, int(i)) for i in chosen]
        versions = self._augmented(subset(train, chosen))
        return [
            Sample(_label(train, int(i)), original, versions[place])
            for place, (i, original) in enumerate(zip(chosen, originals, strict=True))
            if original is not None
        ]

    def _augmented(self, source: Source) -> list[list[Pixels]]:
        from vitrail.data.loader import make_loader  # torch
        from vitrail.model_record import parse_record

        name = self._model / "model.json"
        _, _, preprocess = parse_record(name.read_bytes(), name)
        augment = self._config.augment.model_copy(update={"repeats": 1})
        loader = make_loader(
            source, preprocess, augment, batch_size=len(source), seed=self._config.seed
        )
        found: list[list[Pixels]] = [[] for _ in range(len(source))]
        for batch in loader.batches(0, VERSIONS):
            pictures = batch.images.permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, C)
            for place, picture in zip(batch.indices.tolist(), pictures, strict=True):
                found[place].append(np.asarray(picture, dtype=np.uint8))
        return found


def open_pictures(record: RunRecord) -> Pictures:
    """The pictures of a run, or none and why."""
    try:
        settings = read_toml(record.path / "config.toml")
        config, _ = resolve([("config.toml", settings)])
        splits = open_data(
            config.data.path,
            val_fraction=config.data.val_fraction,
            test_fraction=config.data.test_fraction,
            seed=config.seed,
            min_classes=1 if config.objective == "masked_patches" else 2,
        )
        recorded = record.data.get("fingerprints", {})
        parts = splits.parts()
        judged = [name for name in parts if name in {split.name for split in record.splits}]
        for name in judged or ["train"]:
            if recorded.get(name) not in (None, fingerprint(parts[name])):
                return NoPictures(f"No pictures are shown: {config.data.path} has changed since.")
    except VitrailError as error:
        return NoPictures(f"No pictures are shown: {error.message}")
    return DataPictures(splits, config, record.path / "model")


def _spread(labels: NDArray[Any], count: int) -> list[int]:
    """`count` indices, of as many classes as there are: the first of each class, in turn."""
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
    """A small picture inside the page."""

    pixels: Pixels

    @property
    def is_tiny(self) -> bool:
        """Whether it is shown with its pixels as squares."""
        return bool(max(self.pixels.shape[:2]) <= 48)

    @cached_property
    def uri(self) -> str:
        """A data: URI, PNG where the picture is tiny, else JPEG of at most 144 px."""
        array = self.pixels[:, :, 0] if self.pixels.shape[2] == 1 else self.pixels
        image = Image.fromarray(np.ascontiguousarray(array))
        stream = io.BytesIO()
        if self.is_tiny:
            image.save(stream, "PNG", optimize=True)
            kind = "png"
        else:
            image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BICUBIC)
            image.save(stream, "JPEG", quality=80, optimize=True)
            kind = "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
