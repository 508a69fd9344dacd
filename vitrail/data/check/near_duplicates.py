"""Images that are copies of each other: saved again, resized, mirrored, in other colours.

Two sketches (`perceptual_hash.py`) are compared without their mean and at equal contrast, so copies
may be brighter or flatter. Distances are those of unit vectors, 0 to 2.

1. Coarse: the 6 x 6 lowest frequencies, weighted by (1 + u^2 + v^2)^-1/2, because saving and
   resizing change high frequencies most. All pairs within RADIUS are found by matrix products over
   a band: images are sorted along one axis, on which copies cannot lie far apart.
2. Fine: all frequencies that both images hold well (up to 16, three quarters of their sides).
3. Apart: copies are much nearer to each other than other images are. A pair at distance d counts
   only where at most CROWD images lie between d and CLEARANCE d from either (after the test of
   Lowe's SIFT for its matches, IJCV 2004, section 7.1). So the 6,000 trousers of Fashion-MNIST,
   all of which look alike, are no copies. Pairs that are nearly equal need no such test.

Cropped or rotated copies are not found, nor those of images without any structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.data.check.perceptual_hash import SIDE, Sketches

COARSE = 6  # frequencies of an axis
RADIUS = 0.08
FINE = 0.18
SURE = (0.03, 0.05)  # coarse and fine distance of images that are nearly equal
CLEARANCE, CROWD = 2.5, 3
HELD = 0.75  # of the frequencies of an image survive resizing well
MIN_CONTRAST = 1.0  # gray levels; below, a sketch is noise
OTHER_COLOUR = 12.0  # levels of Cb or Cr, mean over the image
MAX_PAIRS = 4_000_000
ROWS, COLUMNS = 1024, 16_384  # of a block of products

Kind = Literal["copy", "mirrored", "recoloured"]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Copy:
    """Two images by their places, and how alike they are (fine distance)."""

    first: int
    second: int
    kind: Kind
    distance: float


class TooManyPairs(Exception):
    """More images look alike than can be compared."""


def copies(sketches: Sketches, radius: float = RADIUS) -> tuple[list[Copy], float]:
    """All copies, nearest first, and the coarse distance up to which they were looked for: less
    than `radius` where too many images look alike.
    """
    vectors, usable = coarse_vectors(sketches)
    places = np.flatnonzero(usable)
    while True:
        try:
            found = _copies(sketches.take(places), vectors[places], radius)
            break
        except TooManyPairs:
            radius /= 2
    found = [
        Copy(int(places[one.first]), int(places[one.second]), one.kind, one.distance)
        for one in found
    ]
    return sorted(found, key=lambda one: (one.distance, one.first, one.second)), radius


def coarse_vectors(sketches: Sketches) -> tuple[Floats, NDArray[np.bool_]]:
    """Unit vectors (n, 36) of the coarse comparison, and whether an image has any structure."""
    weights = 1 / np.sqrt(1 + np.add.outer(np.arange(COARSE) ** 2, np.arange(COARSE) ** 2))
    weights[0, 0] = 0
    values = sketches.waves[:, :COARSE, :COARSE].astype(np.float32) * weights.astype(np.float32)
    flat = values.reshape(len(values), COARSE**2)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    usable = (lengths[:, 0] >= MIN_CONTRAST) & (sketches.sides >= COARSE)
    return flat / np.maximum(lengths, 1e-6), usable


def _copies(sketches: Sketches, vectors: Floats, radius: float) -> list[Copy]:
    found: dict[tuple[int, int], Copy] = {}
    for is_mirrored in (False, True):  # a symmetric image counts as a plain copy
        pairs, near = close_pairs(vectors, radius, is_mirrored=is_mirrored)
        fine, colour = fine_distances(sketches, pairs, is_mirrored=is_mirrored)
        kept = fine <= FINE
        pairs, near, fine, colour = pairs[kept], near[kept], fine[kept], colour[kept]
        sure = (near <= SURE[0]) & (fine <= SURE[1]) & (colour <= OTHER_COLOUR)
        kept = sure | _apart(vectors, pairs, near, ~sure, is_mirrored=is_mirrored)
        for (a, b), distance, chroma in zip(pairs[kept], fine[kept], colour[kept], strict=True):
            kind: Kind = "mirrored" if is_mirrored else "copy"
            if chroma > OTHER_COLOUR and not is_mirrored:
                kind = "recoloured"
            key = int(min(a, b)), int(max(a, b))
            found.setdefault(key, Copy(*key, kind, round(float(distance), 4)))
    return list(found.values())


def mirror(vectors: Floats) -> Floats:
    """Of images turned left to right: waves that are odd along the width change their sign."""
    signs = np.where(np.arange(COARSE) % 2, -1, 1).astype(np.float32)
    return vectors * np.tile(signs, COARSE)


def close_pairs(
    vectors: Floats, radius: float, *, is_mirrored: bool = False
) -> tuple[Indices, Floats]:
    """Pairs (m, 2) of different images within `radius`, and their distances (m,).

    Raises TooManyPairs.
    """
    if len(vectors) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    along = vectors @ _axis(vectors)  # (n,)
    order = np.argsort(along, kind="stable")
    along, columns = along[order], vectors[order]
    rows = mirror(columns) if is_mirrored else columns
    pairs, distances, total = [], [], 0
    for start, stop, first, last in _blocks(along, radius):
        products = rows[start:stop] @ columns[first:last].T
        a, b = np.nonzero(products >= 1 - radius**2 / 2)
        distance = np.sqrt(np.maximum(2 - 2 * products[a, b], 0))
        a, b = a + start, b + first
        kept = b > a
        pairs.append(np.stack([order[a[kept]], order[b[kept]]], axis=1))
        distances.append(distance[kept])
        total += int(kept.sum())
        if total > MAX_PAIRS:
            raise TooManyPairs
    return np.concatenate(pairs), np.concatenate(distances)


def _axis(vectors: Floats) -> Floats:
    """The direction in which images differ most, of those that mirroring does not change."""
    even = np.tile(np.arange(COARSE) % 2 == 0, COARSE)
    spread = vectors[:, even] - vectors[:, even].mean(axis=0)
    _, axes = np.linalg.eigh(spread.T.astype(np.float64) @ spread)
    axis = np.zeros(vectors.shape[1], np.float32)
    axis[even] = axes[:, -1]
    return axis


def _blocks(along: Floats, radius: float) -> Iterator[tuple[int, int, int, int]]:
    """Rows start:stop and columns first:last of products that may hold a close pair."""
    for start in range(0, len(along), ROWS):
        stop = min(start + ROWS, len(along))
        end = int(np.searchsorted(along, along[stop - 1] + radius, side="right"))
        for first in range(start, end, COLUMNS):
            yield start, stop, first, min(first + COLUMNS, end)


def fine_distances(
    sketches: Sketches, pairs: Indices, *, is_mirrored: bool = False
) -> tuple[Floats, Floats]:
    """Of each pair: the distance over all frequencies that both hold, and that of their colours in
    levels (0 where one of the two is gray). (m,), (m,)
    """
    fine, colour = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    signs = np.where((np.arange(SIDE) % 2 == 1) & is_mirrored, -1, 1).astype(np.float32)
    for start in range(0, len(pairs), 8192):
        one, other = pairs[start : start + 8192].T
        a = sketches.waves[one].astype(np.float32) * signs  # (m, 16, 16)
        b = sketches.waves[other].astype(np.float32)
        limit = HELD * np.minimum(sketches.sides[one], sketches.sides[other])  # (m,)
        frequency = np.maximum.outer(np.arange(SIDE), np.arange(SIDE))
        held = (frequency < np.maximum(limit, COARSE)[:, None, None]) & (frequency > 0)
        a, b = _unit(a * held), _unit(b * held)
        fine.append(np.linalg.norm(a - b, axis=1))
        colour.append(_colour_distances(sketches, one, other, is_mirrored=is_mirrored))
    return np.concatenate(fine), np.concatenate(colour)


def _unit(waves: Floats) -> Floats:
    flat = waves.reshape(len(waves), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


def _colour_distances(
    sketches: Sketches, one: Indices, other: Indices, *, is_mirrored: bool
) -> Floats:
    """Levels between the colours of each pair at equal contrast, 0 where one is gray. (m,)"""
    a, b = (sketches.colours[places].astype(np.float32) for places in (one, other))
    if is_mirrored:
        a = a[..., ::-1]
    is_gray = (np.abs(a).max((1, 2, 3)) <= 1) | (np.abs(b).max((1, 2, 3)) <= 1)
    contrast = [
        np.linalg.norm(
            sketches.waves[places].astype(np.float32).reshape(-1, SIDE**2)[:, 1:], axis=1
        )
        for places in (one, other)
    ]
    scale = np.sqrt(contrast[1] / np.maximum(contrast[0], 1e-6))[:, None, None, None]
    apart = np.abs(a * scale - b / np.maximum(scale, 1e-6)).mean((1, 2, 3))
    return np.where(is_gray, 0, apart).astype(np.float32)


def _apart(
    vectors: Floats, pairs: Indices, near: Floats, wanted: NDArray[np.bool_], *, is_mirrored: bool
) -> NDArray[np.bool_]:
    """Whether a pair lies apart from other images; False where it is not `wanted`. (m,)"""
    apart = wanted.copy()
    for side in (0, 1):
        rows = np.flatnonzero(apart)
        queries, first = np.unique(pairs[rows, side], return_inverse=True)
        nearest = np.full(len(queries), np.inf, np.float32)  # the nearest copy of each image
        np.minimum.at(nearest, first, near[rows])
        looked = mirror(vectors[queries]) if is_mirrored else vectors[queries]
        crowded = _around(vectors, looked, nearest) > CROWD
        apart[rows[crowded[first]]] = False
        rows = rows[~crowded[first]]  # their pairs that are not the nearest, one by one
        looked = vectors[pairs[rows, side]]
        looked = mirror(looked) if is_mirrored else looked
        apart[rows] = _around(vectors, looked, near[rows]) <= CROWD
    return apart


def _around(vectors: Floats, queries: Floats, radii: Floats) -> Indices:
    """How many of `vectors` lie between each radius and CLEARANCE times it from each query. (q,)"""
    counts = [np.zeros(0, np.int64)]
    inner, outer = 1 - (1.001 * radii) ** 2 / 2, 1 - (CLEARANCE * radii) ** 2 / 2
    for start in range(0, len(queries), ROWS):
        rows = slice(start, start + ROWS)
        products = queries[rows] @ vectors.T
        found = (products >= outer[rows, None]).sum(axis=1)
        counts.append(found - (products >= inner[rows, None]).sum(axis=1))
    return np.concatenate(counts)
