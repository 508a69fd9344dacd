"""Sheets of images for `vitrail data show`: as they are, or beside what training sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vitrail.data.images.decode import MAX_PIXELS, decode
from vitrail.data.images.rgb import Pixels

if TYPE_CHECKING:
    from vitrail.data.sources.open_data import Source
    from vitrail.training.plan.plan_run import Plan

CELL, CAPTION, GAP = 112, 16, 6  # px
VERSIONS = 6


def chosen(source: Source, count: int, seed: int) -> list[int]:
    """`count` indices, the classes in turn, within a class in the order of `seed`."""
    labels = np.asarray(source.labels)
    classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    by_class = [shuffled[classes[shuffled] == label] for label in np.unique(classes)]
    turns = [(turn, group[turn]) for group in by_class for turn in range(min(count, len(group)))]
    return [int(index) for _, index in sorted(turns, key=lambda pair: pair[0])[:count]]


def image_of(source: Source, index: int) -> Pixels:
    """One image as uint8 (H, W, 3)."""
    content, _ = source.read(index)
    if isinstance(content, bytes):
        return decode(content, name=source.source_id(index), max_pixels=MAX_PIXELS)
    pixels = np.asarray(content, dtype=np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels  # (H, W, C)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def label_of(source: Source, index: int) -> str:
    """The class name of an image; several joined by |."""
    label = np.asarray(source.labels)[index]
    if np.ndim(label) == 0:
        return str(source.classes[int(label)])
    return "|".join(name for name, present in zip(source.classes, label, strict=True) if present)


def contact_sheet(
    source: Source, count: int, seed: int
) -> tuple[Image.Image, list[dict[str, str]]]:
    """Images in a grid with their labels below, and what is shown: [{"source", "label"}]."""
    indices = chosen(source, count, seed)
    cells = [(image_of(source, index), label_of(source, index)) for index in indices]
    return grid(cells, columns=min(8, len(cells))), shown(source, indices)


def augmented_sheet(
    source: Source, plan: Plan, count: int
) -> tuple[Image.Image, list[dict[str, str]]]:
    """A row an image: as it is, then as a run of `plan` would see it in six epochs."""
    from vitrail.data.loading.batch import pixels_of
    from vitrail.data.loading.batching import Batching
    from vitrail.data.loading.loader import make_loader
    from vitrail.data.sources.open_data import subset

    indices = chosen(source, count, plan.config.seed)
    loader = make_loader(
        subset(source, np.asarray(indices, dtype=np.int64)),
        plan.preprocess,
        plan.config.augment,
        Batching(
            batch_size=len(indices), seed=plan.config.seed, max_pixels=plan.config.data.max_pixels
        ),
    )
    rows: list[list[Pixels]] = [[image_of(source, index)] for index in indices]
    for batch in loader.batches(0, VERSIONS):  # a step is an epoch: the batch is the whole subset
        images = pixels_of(batch, plan.preprocess)
        for place, pixels in zip(batch.indices.tolist(), images, strict=True):
            rows[place].append(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    names = [label_of(source, index) for index in indices]
    cells = [(pixels, name) for name, row in zip(names, rows, strict=True) for pixels in row]
    return grid(cells, columns=VERSIONS + 1), shown(source, indices)


def shown(source: Source, indices: Sequence[int]) -> list[dict[str, str]]:
    """Which images a sheet shows."""
    return [
        {"source": source.source_id(index), "label": label_of(source, index)} for index in indices
    ]


def grid(cells: Sequence[tuple[Pixels, str]], *, columns: int) -> Image.Image:
    """Images uint8 (H, W, 3) with captions, on white, row by row."""
    rows = -(-len(cells) // columns)
    sheet = Image.new(
        "RGB", (columns * (CELL + GAP) + GAP, rows * (CELL + CAPTION + GAP) + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for place, (pixels, caption) in enumerate(cells):
        left = GAP + place % columns * (CELL + GAP)
        top = GAP + place // columns * (CELL + CAPTION + GAP)
        image = fit(Image.fromarray(pixels))
        sheet.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))
        text = caption.encode("ascii", "replace").decode()
        draw.text((left, top + CELL), text[:18], fill="black")
    return sheet


def fit(image: Image.Image) -> Image.Image:
    """`picture` in a cell: tiny ones in whole multiples of a pixel, large ones made smaller."""
    longest = max(image.size)
    if longest > CELL:
        image.thumbnail((CELL, CELL))
        return image
    factor = CELL // longest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
