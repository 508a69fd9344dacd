"""Images whose object is known: a coloured shape with a texture on a textured background.

Made to judge explanations (the pointing game): the class is shape and texture together, and nothing
else in the image says it. Colours, place, size, turn and background are random; a plain blob,
which belongs to no class, stands beside the object. Images with two objects of different classes
ask more: a map that does not depend on the class cannot point at both. Every image is a pure
function of (seed, index); sizes may be prime and not square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.keyed_random import uniforms

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Inside where the value is below 1; u and v are -1 to 1 across the object.
SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": lambda u, v: np.hypot(u, v),
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) / 0.85,
    "cross": lambda u, v: np.where(
        np.minimum(np.abs(u), np.abs(v)) < 0.36, np.maximum(np.abs(u), np.abs(v)), 2.0
    ),
}
PERIOD = 1 / 3  # half of a texture's, in radii of the object
TEXTURES: dict[str, Callable[[Floats, Floats], Mask]] = {
    "striped": lambda u, v: np.floor(u / PERIOD) % 2 == 0,
    "barred": lambda u, v: np.floor(v / PERIOD) % 2 == 0,
    "checked": lambda u, v: (np.floor(u / PERIOD) + np.floor(v / PERIOD)) % 2 == 0,
    "ringed": lambda u, v: np.floor(np.hypot(u, v) / PERIOD) % 2 == 0,
}
CLASSES = (
    "striped disc",
    "barred disc",
    "checked square",
    "ringed square",
    "striped cross",
    "checked cross",
)
DRAWS = 64  # numbers of an image beside its noise
RADIUS = (0.17, 0.23)  # of an object, in shorter sides of the image
MIN_SIDE_PX = 16


@dataclass(frozen=True, eq=False)
class Objects:
    """images: uint8 (n, H, W, 3); labels: int64 (n,); masks: bool (n, H, W), where the object is.

    other_labels and other_masks: those of the second object, or of length 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: Mask
    other_labels: NDArray[np.int64]
    other_masks: Mask


def objects(
    n: int, size: tuple[int, int], *, seed: int = 0, first: int = 0, pairs: bool = False
) -> Objects:
    """Images `first` to first + n - 1 of `seed`, classes in turn. size: (height, width) in px, 16
    at least. pairs: a second object, of another class, in the place of the blob.
    """
    if min(size) < MIN_SIDE_PX:
        raise ValueError(f"size {size}: an object needs sides of {MIN_SIDE_PX} px at least")
    indices = np.arange(first, first + n)
    labels = indices % len(CLASSES)
    draws = uniforms(seed, "objects", int(pairs), indices, DRAWS)  # (n, DRAWS)
    steps = 1 + (draws[:, 0] * (len(CLASSES) - 1)).astype(np.int64)
    others = (labels + steps) % len(CLASSES)
    images, masks, other_masks = [], [], []
    for index, label, other, numbers in zip(indices, labels, others, draws, strict=True):
        noise = uniforms(seed, "object noise", int(pairs), np.array([index]), size[0] * size[1])
        image = background(size, numbers[1:24], noise.reshape(size))
        (y0, x0), (y1, x1) = places(size, numbers[24:30])
        other_mask = (
            draw_object(image, int(other), (y1, x1), numbers[30:40])
            if pairs
            else draw_blob(image, (y1, x1), numbers[30:40])
        )
        masks.append(draw_object(image, int(label), (y0, x0), numbers[40:50]))
        other_masks.append(other_mask & ~masks[-1])
        images.append(np.rint(image * 255).astype(np.uint8))
    none = 0 if not pairs else n
    return Objects(
        np.stack(images),
        labels,
        np.stack(masks),
        others[:none],
        np.stack(other_masks)[:none],
    )


def background(size: tuple[int, int], draws: Floats, noise: Floats) -> Floats:
    """Three waves between two colours and noise, (H, W, 3) in [0, 1]; draws: at least 23."""
    y, x = np.mgrid[: size[0], : size[1]] / min(size)
    share = np.zeros(size)
    for wave in range(3):
        angle, frequency, phase = draws[3 * wave : 3 * wave + 3] * (np.pi, 5, 2 * np.pi)
        share += np.sin(
            2 * np.pi * (1 + frequency) * (x * np.cos(angle) + y * np.sin(angle)) + phase
        )
    share = 0.5 + share / 6  # in [0, 1]
    low, high = 0.25 + 0.5 * draws[9:12], 0.25 + 0.5 * draws[12:15]
    image = low + (high - low) * share[..., None] + 0.16 * (noise[..., None] - 0.5)
    return np.clip(image, 0, 1)


def places(size: tuple[int, int], draws: Floats) -> tuple[tuple[float, float], ...]:
    """Centres (y, x) of two things in different halves of the longer side, in px."""
    height, width = size
    is_wide = width > height or (width == height and draws[0] < 0.5)
    near, far = 0.24 + 0.02 * draws[1], 0.76 - 0.02 * draws[2]
    if draws[3] < 0.5:
        near, far = far, near
    across = 0.26 + 0.48 * draws[4:6]
    found = (
        [(across[0], near), (across[1], far)] if is_wide else [(near, across[0]), (far, across[1])]
    )
    return tuple((y * height, x * width) for y, x in found)


def _axes(
    size: tuple[int, ...], centre: tuple[float, float], draws: Floats
) -> tuple[Floats, Floats]:
    """u and v of every pixel: -1 to 1 across an object of random radius, turned by up to 20
    degrees either way.
    """
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    radius = (RADIUS[0] + (RADIUS[1] - RADIUS[0]) * draws[0]) * min(size[:2])
    angle = (draws[1] - 0.5) * np.pi * 2 / 9
    dy, dx = (y - centre[0]) / radius, (x - centre[1]) / radius
    return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)


def draw_object(image: Floats, label: int, centre: tuple[float, float], draws: Floats) -> Mask:
    """Paints an object of a class into image, (H, W, 3); returns where it is, (H, W)."""
    texture, shape = CLASSES[label].split()
    u, v = _axes(image.shape, centre, draws)
    mask: Mask = SHAPES[shape](u, v) < 1
    is_light = TEXTURES[texture](u, v)
    dark, light = 0.35 * draws[2:5], 0.65 + 0.35 * draws[5:8]
    image[mask] = np.where(is_light[..., None], light, dark)[mask]
    return mask


def draw_blob(image: Floats, centre: tuple[float, float], draws: Floats) -> Mask:
    """Paints a plain ellipse, which no class has."""
    u, v = _axes(image.shape, centre, draws)
    mask: Mask = np.hypot(u * (1 + 0.5 * draws[2]), v * (1 + 0.5 * draws[3])) < 1
    image[mask] = draws[4:7]
    return mask
