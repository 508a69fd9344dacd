"""A map over its image, drawn with Pillow.

"heat": colours from dark blue to yellow, opaque where values are large; where a method has signs,
values below 0 turn blue, those above red. "spotlight": the rendering of Figure 6 of arXiv
2010.11929 as its authors describe it (google-research/vision_transformer issue 18): values divided
by the largest, resized by Lanczos, blurred with the patch as radius, stretched to [0, 1], and used
as opacity over black.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from vitrail.data.images.rgb import Pixels
from vitrail.errors import UsageError
from vitrail.explain.methods.maps import Array
from vitrail.figures.tiles import colours

STYLES = ("heat", "spotlight")
SHORTEST_PX, LONGEST_PX = 224, 1024  # sides of a drawing
STRENGTH = 0.75  # opacity of the largest value
CLIP = 0.995  # signed values: this quantile of their size is full colour
RED, BLUE = np.array((214, 39, 40)), np.array((31, 81, 200))


def check_style(style: str) -> None:
    """Raises UsageError VIT-278 for an unknown one."""
    if style not in STYLES:
        message = f"style {style!r}: expected {' or '.join(STYLES)}."
        raise UsageError("VIT-278", message, hint="Leave it out for heat.")


def heat(image: Pixels, values: Array, low: float = 0.0) -> Image.Image:
    """image: uint8 (H, W, 1 or 3); values: (H, W). low: what has no colour, the least value that
    the model's input has; outside of it values are 0.
    """
    rgb = np.asarray(enlarged(image), np.float64)  # (H', W', 3)
    values = np.asarray(
        Image.fromarray(values.astype(np.float32)).resize(
            (rgb.shape[1], rgb.shape[0]), Image.Resampling.BILINEAR
        )
    )
    if values.min() < 0:
        scale = float(np.quantile(np.abs(values), CLIP)) or 1.0
        shares = np.clip(values / scale, -1, 1)
        colour = np.where(shares[..., None] > 0, RED, BLUE)
        opacity = np.abs(shares)
    else:
        span = float(values.max()) - low
        opacity = np.clip((values - low) / (span if span > 0 else 1.0), 0, 1)
        colour = colours(opacity)
    opacity = STRENGTH * opacity[..., None]
    mixed = rgb * (1 - opacity) + colour * opacity
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def grouped(picture: Pixels, groups: Array) -> Image.Image:
    """picture: uint8 (H, W, 1 or 3); groups: (H, W), a number for each part, -1 outside of all. A
    part has its mean colour, as far as `STRENGTH`, and a line around it.
    """
    image = enlarged(picture)
    rgb = np.asarray(image, np.float64)  # (H', W', 3)
    rows = np.arange(rgb.shape[0]) * groups.shape[0] // rgb.shape[0]
    columns = np.arange(rgb.shape[1]) * groups.shape[1] // rgb.shape[1]
    numbers = groups[rows[:, None], columns] + 1  # (H', W'), 0 outside
    counts = np.bincount(numbers.ravel())
    sums = [np.bincount(numbers.ravel(), weights=rgb[..., c].ravel()) for c in range(3)]
    means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    mixed = rgb * (1 - STRENGTH) + means[numbers] * STRENGTH
    mixed[numbers == 0] = rgb[numbers == 0]
    line = np.zeros(numbers.shape, bool)
    line[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    line[1:] |= numbers[1:] != numbers[:-1]
    bright = mixed.mean(axis=2) > 127
    mixed[line] = np.where(bright[line][:, None], 0.0, 255.0)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def spotlight_values(grid: Array, size: tuple[int, int]) -> Array:
    """grid: (h, w). Returns (height, width) in [0, 1], the opacity of the model's input."""
    values = np.clip(grid, 0, None).astype(np.float32)
    values = values / (values.max() or 1.0)
    image = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    radius = (size[1] / grid.shape[1], size[0] / grid.shape[0])  # a patch; (x, y)
    # Pillow blurs 8-bit images only; 1 / 255 is the step in which opacity is used.
    bytes_of = np.rint(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8)
    blurred = Image.fromarray(bytes_of).filter(ImageFilter.GaussianBlur(radius))
    found = np.asarray(blurred, np.float32)
    low, high = found.min(), found.max()
    stretched: Array = (found - low) / ((high - low) or 1.0)
    return stretched


def spotlight(picture: Pixels, opacity: Array) -> Image.Image:
    """image: uint8 (H, W, 1 or 3); opacity: (H, W) in [0, 1]."""
    image = enlarged(picture)
    mask = Image.fromarray(np.rint(opacity * 255).astype(np.uint8)).resize(
        image.size, Image.Resampling.BILINEAR
    )
    return Image.composite(image, Image.new("RGB", image.size), mask)


def enlarged(picture: Pixels) -> Image.Image:
    """An RGB image to draw on: a tiny one with its pixels as squares, a huge one smaller."""
    pixels = picture[:, :, 0] if picture.shape[2] == 1 else picture
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    if max(image.size) > LONGEST_PX:
        image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BICUBIC)
        return image
    factor = max(1, SHORTEST_PX // max(image.size))
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST) if factor > 1 else image
