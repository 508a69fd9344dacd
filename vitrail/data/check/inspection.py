"""A look at every image: whether it can be used, and what it is like.

Each is read and decoded once, by threads: both decoders release Python's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from vitrail.data.check.perceptual_hash import Sketches, joined, sketch, sketch_all
from vitrail.data.images.decode import MAX_PIXELS, decode, decode_size
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.more_images import holds_more
from vitrail.data.images.rgb import Pixels
from vitrail.data.loading.isolated import each, is_cheap
from vitrail.data.sources.digest import digest_of
from vitrail.data.sources.sample import sample
from vitrail.data.sources.source import Readable, Source
from vitrail.spelling import count
from vitrail.system.interrupts import Threads

CHUNK = 16  # images: what a worker is asked for at a time
_SAMPLE = 10_000  # images whose channels are measured
_GRID = 64  # values a side of each of them


@dataclass(frozen=True)
class ImageStats:
    """What one image is like; `reason` is "" for a good one. size: (height, width) px; has_more:
    whether the file holds further images, which nobody sees.
    """

    reason: str = ""
    size: tuple[int, int] = (0, 0)
    gray: bool = False
    digest: bytes = b""
    mean: tuple[float, ...] = ()  # per channel, of values in [0, 1]
    mean_square: tuple[float, ...] = ()
    sketch: Sketches | None = None  # of a file, where asked for
    small: Pixels | None = None  # likewise, a square one
    has_more: bool = False


@dataclass(frozen=True)
class InspectOptions:
    """What a look takes of an image in a file beside the facts; of those in memory it can be had
    later (`sketches_of`, `small_images`). small_px: the side of a small image, 0 for none.
    """

    sketch: bool = False
    small_px: int = 0


def inspect_images(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    pixels: bool = True,
    wanted: InspectOptions = InspectOptions(),
) -> list[ImageStats]:
    """A look at every image of `source`, in order; without `pixels` only headers are read.

    Files are decoded in processes where those are cheap to start (Linux), also with 0 workers: a
    image at which a decoder crashes, hangs or eats memory is then a bad image and nothing else.
    """
    chosen = frozenset(sample(source, _SAMPLE, "looks").tolist())
    one = Looking(max_pixels, pixels, wanted, chosen)
    if source.images is None and pixels and is_cheap():
        return [*each(source, one, workers=workers, chunk=CHUNK, max_pixels=max_pixels)]
    with Threads(max(1, workers), "looks") as pool:
        return pool.in_order(partial(one, source), len(source), source.source_id)


def sketches_of(source: Source, looks: Sequence[ImageStats]) -> tuple[Sketches, list[int]]:
    """The sketches of the good images, and which images of `source` these are."""
    if source.images is not None:
        return sketch_all(source.images), list(range(len(source)))
    found = [(i, look.sketch) for i, look in enumerate(looks) if look.sketch is not None]
    return joined([one for _, one in found]), [i for i, _ in found]


def small_images(
    source: Source, looks: Sequence[ImageStats], side_px: int
) -> tuple[Pixels, list[int]]:
    """Images uint8 (m, h, w, C) of one size, and which of `source` these are: those in memory as
    they are where their sides are below 1.5 x `side_px`, all others as squares.
    """
    if source.images is not None:
        images = source.images
        if max(images.shape[1:3]) >= 1.5 * side_px:
            images = np.stack([shrunk(one, side_px) for one in images])
        return images, list(range(len(source)))
    found = [(i, look.small) for i, look in enumerate(looks) if look.small is not None]
    if not found:
        return np.zeros((0, side_px, side_px, 3), np.uint8), []
    return np.stack([one for _, one in found]), [i for i, _ in found]


def shrunk(pixels: Pixels, side_px: int) -> Pixels:
    """An image uint8 (H, W, C) as a square (side_px, side_px, C)."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    square = image.resize((side_px, side_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(square).reshape(side_px, side_px, -1)


def bad_images(source: Source, looks: Sequence[ImageStats]) -> list[tuple[str, str]]:
    """(id, reason) of the images that cannot be used."""
    return [(source.source_id(i), look.reason) for i, look in enumerate(looks) if look.reason]


@dataclass(frozen=True)
class Looking:
    """How to look at an image; chosen: of which the channels are measured."""

    max_pixels: int
    pixels: bool
    wanted: InspectOptions
    chosen: frozenset[int]

    def __call__(self, source: Readable, index: int) -> ImageStats:
        """A look at one image."""
        try:
            return _look(self, source, index)
        except MemoryError:
            return ImageStats(reason="not enough memory to decode it")


def _look(how: Looking, source: Readable, index: int) -> ImageStats:
    max_pixels, wanted = how.max_pixels, how.wanted
    drawn, small, has_more = None, None, False
    try:
        data, _ = source.read(index)
        if isinstance(data, bytes):
            digest, has_more = digest_of(data), holds_more(data)
            if not how.pixels:
                size = decode_size(data, max_pixels=max_pixels)
                return ImageStats(size=size, digest=digest, has_more=has_more)
            array = decode(data, max_pixels=max_pixels)
            drawn = sketch(array) if wanted.sketch else None
            small = shrunk(array, wanted.small_px) if wanted.small_px else None
        else:
            array = data
            digest = digest_of(array)
    except DecodeFault as fault:
        return ImageStats(reason=fault.reason)
    means, squares = _moments(array) if index in how.chosen else ((), ())
    size = (array.shape[0], array.shape[1])
    gray = _is_gray(array)
    return ImageStats("", size, gray, digest, means, squares, drawn, small, has_more)


def first_of_each(source: Source, looks: Mapping[int, ImageStats]) -> tuple[int, str]:
    """How many images of `source`, looked at by place, are the first of several; one of them."""
    places = [place for place, look in looks.items() if look.has_more]
    return len(places), source.source_id(min(places)) if places else ""


def only_first(found: Sequence[tuple[int, str]], total: int) -> tuple[str, ...]:
    """A sentence for images that are the first of several in their file, none where there are none.

    found: what `first_of_each` found of each split; total: images.
    """
    number = sum(one for one, _ in found)
    if not number:
        return ()
    which = next(name for one, name in found if one)
    form = "is an animation or has" if number == 1 else "are animations or have"
    what = f"{number:,} of {count(total, 'image')} {form} several pages"
    return (f"{what}: the first image of each is used ({which}{' ...' if number > 1 else ''})",)


def _is_gray(array: Pixels) -> bool:
    if array.shape[2] == 1:
        return True
    first = array[0, 0]
    if first[0] != first[1] or first[0] != first[2]:
        return False
    return bool(
        (array[:, :, 0] == array[:, :, 1]).all() and (array[:, :, 0] == array[:, :, 2]).all()
    )


def _moments(array: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and mean square per channel of an even grid of at most 64 x 64 values."""
    height, width = array.shape[:2]
    rows = np.linspace(0, height - 1, min(height, _GRID)).astype(np.int64)
    columns = np.linspace(0, width - 1, min(width, _GRID)).astype(np.int64)
    values = array[rows[:, None], columns] / 255  # (h, w, C)
    return tuple(values.mean((0, 1)).tolist()), tuple((values**2).mean((0, 1)).tolist())
