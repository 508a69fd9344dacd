"""TensorFlow's resizing of images in NumPy, bit for bit: what Google's weights were trained on.

`tf.image.resize` (TensorFlow 2, half-pixel centres) in the three forms that vision_transformer and
big_vision use. Not Pillow's resize: without antialias most pixels of a large image are never
looked at, and results are floats. The order of float32 operations is that of TensorFlow's kernels
(core/kernels/image: resize_bilinear_op.cc, scale_and_translate_op.cc, resize_area_op.cc), because
big_vision cuts the result to 8 bits, where the last bit decides between 254 and 255.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Method = Literal["bilinear", "bilinear_antialias", "area"]
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
T = TypeVar("T", np.uint8, np.float32)
F = np.float32


class Spans(NamedTuple):
    """Which source pixels make each output pixel: first one (out,) and weights (out, span), zero
    behind the last."""

    starts: NDArray[np.int64]
    weights: Floats


def tf_resize(pixels: Pixels, height: int, width: int, method: Method) -> Floats:
    """pixels: (H, W, C) uint8. Returns (height, width, C) float32 in 0..255, not rounded."""
    if pixels.shape[:2] == (height, width):
        return pixels.astype(F)
    if method == "bilinear":
        return _bilinear(pixels, height, width)
    if method == "bilinear_antialias":  # rows, then columns
        rows = _gather(pixels, _triangle_spans(pixels.shape[0], height))  # (height, W, C)
        return _swapped(_gather(_swapped(rows), _triangle_spans(pixels.shape[1], width)))
    across, down = _area_spans(pixels.shape[1], width), _area_spans(pixels.shape[0], height)
    columns = _swapped(_gather(_swapped(pixels), across))  # (H, width, C)
    scale = F(1) / (_scale(pixels.shape[0], height) * _scale(pixels.shape[1], width))
    return _gather(columns, down) * scale


def _scale(old: int, new: int) -> np.float32:
    return F(old) / F(new)


def _bilinear(pixels: Pixels, height: int, width: int) -> Floats:
    """Four neighbours of each sample; differences times distance, along x and then y."""
    top, bottom, y = _neighbours(pixels.shape[0], height)
    left, right, x = _neighbours(pixels.shape[1], width)
    x, y = x[:, None], y[:, None, None]
    edges = []
    for row in (top, bottom):
        line = pixels[row]  # (height, W, C)
        near, far = line[:, left].astype(F), line[:, right].astype(F)  # (height, width, C)
        edges.append(near + (far - near) * x)
    above, below = edges
    return above + (below - above) * y


def _neighbours(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Pixel before and after each sample, and the distance from the former."""
    places = (np.arange(new, dtype=F) + F(0.5)) * _scale(old, new) - F(0.5)
    below = np.floor(places)
    before = np.maximum(below, 0).astype(np.int64)
    after = np.minimum(np.ceil(places), old - 1).astype(np.int64)
    return before, after, places - below


def _triangle_spans(old: int, new: int) -> Spans:
    """Bilinear with antialias: a triangle as wide as an output pixel, cut at the border."""
    scale = F(1) / (F(new) / F(old))  # the kernel is given new / old
    reach = max(scale, F(1))
    centres = (np.arange(new, dtype=F) + F(0.5)) * scale
    starts = np.clip(np.ceil(centres - reach - F(0.5)), 0, old - 1).astype(np.int64)
    ends = np.clip(np.floor(centres + reach - F(0.5)), 0, old - 1).astype(np.int64) + 1
    sources = starts[:, None] + np.arange((ends - starts).max())  # (new, span)
    distance = np.abs((sources.astype(F) + F(0.5) - centres[:, None]) * (F(1) / reach))
    weights = np.where(sources < ends[:, None], np.maximum(F(0), F(1) - distance), F(0))
    total = np.cumsum(weights, axis=1, dtype=F)[:, -1:]  # summed from the left
    return Spans(starts, weights * (F(1) / total))


def _area_spans(old: int, new: int) -> Spans:
    """The part of each source pixel that an output pixel covers, in source pixels."""
    scale = _scale(old, new)
    begins = np.arange(new, dtype=F) * scale
    stops = np.arange(1, new + 1, dtype=F) * scale
    starts = np.floor(begins).astype(np.int64)
    ends = np.ceil(stops).astype(np.int64)
    sources = starts[:, None] + np.arange((ends - starts).max())  # (new, span)
    at = sources.astype(F)
    first, last = at < begins[:, None], at + F(1) > stops[:, None]
    weights = np.where(first, at + F(1) - begins[:, None], F(1))
    weights = np.where(last, np.where(first, scale, stops[:, None] - at), weights)
    weights = np.where(sources < ends[:, None], weights, F(0))
    return Spans(starts, weights)


def _gather(pixels: Pixels | Floats, spans: Spans) -> Floats:
    """Weighted sums of rows, added in order. pixels: (H, ...). Returns float32 (out, ...)."""
    last = len(pixels) - 1
    result = np.zeros((len(spans.starts), *pixels.shape[1:]), dtype=F)
    for step in range(spans.weights.shape[1]):
        weight = spans.weights[:, step].reshape(-1, *[1] * (pixels.ndim - 1))
        result += pixels[np.minimum(spans.starts + step, last)] * weight
    return result


def _swapped(pixels: NDArray[T]) -> NDArray[T]:
    """Columns as rows, contiguous (W, H, C)."""
    return np.ascontiguousarray(pixels.swapaxes(0, 1))
