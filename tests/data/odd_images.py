"""Small images of every format, and seeded ways to damage them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours with noise: compresses like a photo, every pixel different."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + k)) + np.cos(columns / (5 + k)) for k in range(channels)]
    smooth = 128 + 50 * np.stack(waves, axis=2)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def encoded(image: Image.Image | NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mutants(data: bytes, number: int, seed: int) -> list[bytes]:
    """`number` damaged versions of `data`, by eight mutators in turn."""
    draw = random.Random(seed)
    return [_MUTATORS[k % len(_MUTATORS)](draw, data) for k in range(number)]


def _flip_bits(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 20)):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _header_bytes(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(min(64, len(data)))
        changed[place] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
    return bytes(changed)


def _truncate(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def _zero_range(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data))
    length = min(draw.randint(1, 400), len(data) - start)
    return data[:start] + bytes(length) + data[start + length :]


def _random_range(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data))
    length = min(draw.randint(1, 64), len(data) - start)
    return data[:start] + draw.randbytes(length) + data[start + length :]


def _repeat_range(draw: random.Random, data: bytes) -> bytes:
    start, length = draw.randrange(len(data)), draw.randint(1, 300)
    return data[:start] + data[start : start + length] * draw.randint(2, 5) + data[start:]


def _drop_range(draw: random.Random, data: bytes) -> bytes:
    start, length = draw.randrange(len(data)), draw.randint(1, 100)
    return data[:start] + data[start + length :]


def _number_field(draw: random.Random, data: bytes) -> bytes:
    value = draw.choice([0, 1, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1])
    order = draw.choice(["little", "big"])
    field = value.to_bytes(4, "little" if order == "little" else "big")
    place = draw.randrange(min(200, max(1, len(data) - 4)))
    return data[:place] + field + data[place + 4 :]


_MUTATORS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip_bits,
    _header_bytes,
    _truncate,
    _zero_range,
    _random_range,
    _repeat_range,
    _drop_range,
    _number_field,
)
