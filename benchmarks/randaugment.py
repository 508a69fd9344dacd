"""RandAugment + reflected crop + flip of 32 x 32 images: vitrail's batched path against Pillow,
image by image.

    python -m benchmarks.randaugment [--threads 2] [--rounds 9] [--size 32] [--channels 3]
                                     [--batch 128 512 2048]

Both sides draw the same number of the same 14 operations at the same magnitude and give a uint8
batch. The opponent is a careful textbook loop: the padded images are prepared once, crops are
slices, `random` draws, Pillow's own functions do the work, in one process. The sides take turns in
one run; a rate is the median of the rounds, a ratio the median of those within the rounds. The
loader of arrays augments 1,024 images of this size at a time whatever the batch. Times on a busy
machine mean little: look at the spread, and at processor time with one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.timing import write_result
from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.batch_augment import augment_batch
from vitrail.device import keep_freed_memory

Pixels = NDArray[np.uint8]
BILINEAR, AFFINE = Image.Resampling.BILINEAR, Image.Transform.AFFINE
PAD_PX = 4
DEFAULTS = {
    "threads": 2,
    "rounds": 9,
    "size": 32,
    "channels": 3,
    "num-ops": 2,
    "magnitude": 9,
}


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, AFFINE, matrix, BILINEAR, fillcolor=_gray(image))


def _gray(image: Image.Image) -> int | tuple[int, ...]:
    return (128, 128, 128) if image.mode == "RGB" else 0


def _signed(value: float) -> float:
    return value if random.random() < 0.5 else -value


PILLOW_OPS: list[Callable[[Image.Image, float], Image.Image]] = [
    lambda image, m: image,
    lambda image, m: ImageOps.autocontrast(image),
    lambda image, m: ImageOps.equalize(image),
    lambda image, m: image.rotate(_signed(30 * m), BILINEAR, fillcolor=_gray(image)),
    lambda image, m: ImageOps.solarize(image, math.ceil(256 - 256 * m)),
    lambda image, m: ImageEnhance.Color(image).enhance(1 + _signed(0.9 * m)),
    lambda image, m: ImageOps.posterize(image, 8 - round(4 * m)),
    lambda image, m: ImageEnhance.Contrast(image).enhance(1 + _signed(0.9 * m)),
    lambda image, m: ImageEnhance.Brightness(image).enhance(1 + _signed(0.9 * m)),
    lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + _signed(0.9 * m)),
    lambda image, m: _affine(image, (1, _signed(0.3 * m), 0, 0, 1, 0)),
    lambda image, m: _affine(image, (1, 0, 0, _signed(0.3 * m), 1, 0)),
    lambda image, m: _affine(image, (1, 0, _signed(150 / 331 * m * image.width), 0, 1, 0)),
    lambda image, m: _affine(image, (1, 0, 0, 0, 1, _signed(150 / 331 * m * image.height))),
]


def pillow_batch(padded: Pixels, out: Pixels, num_ops: int, magnitude: float) -> None:
    """Augmented images into `out` (B, h, w, C) from reflected ones (B, h + 8, w + 8, C)."""
    _, height, width, channels = out.shape
    for place, picture in enumerate(padded):
        top, left = random.randint(0, 2 * PAD_PX), random.randint(0, 2 * PAD_PX)
        crop = picture[top : top + height, left : left + width]
        image = Image.fromarray(np.ascontiguousarray(crop[:, :, 0] if channels == 1 else crop))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for _ in range(num_ops):
            image = random.choice(PILLOW_OPS)(image, magnitude / 10)
        out[place] = np.asarray(image).reshape(height, width, channels)


def measure(
    size: int, channels: int, batch: int, rounds: int, config: AugmentConfig
) -> dict[str, list[float]]:
    """Seconds a batch of both sides, taking turns; "... cpu" are those of all threads together."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (batch, 8, 8, channels), dtype=np.uint8)
    pictures = np.stack([_enlarged(picture, size) for picture in small])
    padded = np.pad(pictures, ((0, 0), (PAD_PX, PAD_PX), (PAD_PX, PAD_PX), (0, 0)), mode="reflect")
    out = np.empty_like(pictures)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    indices = np.arange(batch, dtype=np.int64)

    def ours(epoch: int) -> None:
        keys = np.full_like(indices, epoch), indices, np.zeros_like(indices)
        u = random_slots.draw(0, *keys, random_slots.needed(config))
        augment_batch(images, u, config, (size, size))

    def theirs(epoch: int) -> None:
        pillow_batch(padded, out, config.num_ops, config.magnitude)

    seconds: dict[str, list[float]] = {
        name: [] for name in ("vitrail", "pillow", "vitrail cpu", "pillow cpu")
    }
    for epoch in range(-2, rounds):
        for name, run in (("vitrail", ours), ("pillow", theirs)):
            began, cpu_began = time.perf_counter(), time.process_time()
            run(epoch + 2)
            if epoch >= 0:
                seconds[name].append(time.perf_counter() - began)
                seconds[name + " cpu"].append(time.process_time() - cpu_began)
    return seconds


def _enlarged(picture: Pixels, size: int) -> Pixels:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    return np.asarray(image.resize((size, size))).reshape(size, size, -1)


def rates(seconds: dict[str, list[float]], batch: int) -> dict[str, list[float]]:
    """Rates and ratios: median, least, most of the rounds."""
    result = {
        f"{name}, images/s": [batch / one for one in times] for name, times in seconds.items()
    }
    for kind in ("", " cpu"):
        pairs = zip(seconds["pillow" + kind], seconds["vitrail" + kind], strict=True)
        result[f"ratio{kind}"] = [theirs / ours for theirs, ours in pairs]
    return {
        name: [float(f"{f(values):.4g}") for f in (statistics.median, min, max)]
        for name, values in result.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512, 1024, 2048])
    options = parser.parse_args()
    keep_freed_memory()  # as training does; both sides have it
    random.seed(0)
    config = AugmentConfig(
        crop="pad_crop", policy="randaugment", num_ops=options.num_ops, magnitude=options.magnitude
    )
    result: dict[str, object] = {"setting": vars(options)}
    for threads in sorted({1, options.threads}):
        torch.set_num_threads(threads)
        for batch in options.batch:
            one = rates(
                measure(options.size, options.channels, batch, options.rounds, config), batch
            )
            result[f"{threads} threads, batch {batch}"] = one
            print(threads, "threads, batch", batch, json.dumps(one), flush=True)
    write_result("randaugment", result)


if __name__ == "__main__":
    main()
