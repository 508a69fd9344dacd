"""The data path of picture files: decode, random resized crop to 224, flip; vitrail against Pillow.

    python benchmarks/data_path.py [--pictures FOLDER] [--workers 2] [--rounds 7] [--num 256]

Three things in one run, the sides taking turns, on the same files with the same crops and flips:

1. pixels: every picture of vitrail's path equals `open -> convert -> resize(box) -> transpose`.
2. one process each, vitrail's set up like a loader worker: file to uint8 array on both sides.
3. loader: vitrail's workers (uint8 out, normalised by the parent) against a plain
   torch DataLoader with the Pillow pipeline (float32, normalised per sample, default collate).

FOLDER holds photographs (JPEG, any depth, any size): four of them make up each 500 x 375 picture
of the run, so that size and detail are those of ImageNet's. Without FOLDER, smooth noise of several
scales stands in.
A figure is the median of the rounds, a ratio that of medians.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vitrail.config import AugmentConfig
from vitrail.data import slots
from vitrail.data.augment import augment_picture, write_planes
from vitrail.data.batch import normalise
from vitrail.data.crops import flips, inception_boxes
from vitrail.data.decode import decode
from vitrail.data.file_loader import FileLoader
from vitrail.data.order import batch_indices
from vitrail.data.preprocess import Preprocess
from vitrail.data.records import FileSource
from vitrail.device import keep_freed_memory

Pixels = NDArray[np.uint8]
SIZE = (224, 224)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = AugmentConfig(crop="inception", crop_scale=(0.08, 1.0), flip=0.5)
PREPROCESS = Preprocess(
    height=SIZE[0], width=SIZE[1], resize=SIZE, interpolation="bilinear", mean=MEAN, std=STD
)


def uniforms(epoch: int, indices: NDArray[np.int64]) -> slots.Uniforms:
    return slots.draw(0, np.full_like(indices, epoch), indices, np.zeros_like(indices))


def pillow_picture(path: str, u: slots.Uniforms) -> Image.Image:
    """The same pipeline in plain Pillow."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    top, left, height, width = inception_boxes(u[None], (image.height, image.width), CONFIG)[0]
    corners = (int(left), int(top), int(left + width), int(top + height))
    image = image.resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR, box=corners)
    if flips(u[None], CONFIG)[0]:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def vitrail_picture(path: str, u: slots.Uniforms) -> Pixels:
    """What a loader worker does, into (3, h, w)."""
    with open(path, "rb") as file:
        pixels = decode(file.read(), name=path)
    out = np.empty((3, *SIZE), dtype=np.uint8)
    write_planes(augment_picture(pixels, u, CONFIG, SIZE, interpolation="bilinear"), out)
    return out


class PlainDataset(Dataset[tuple[torch.Tensor, int]]):
    """What a plain training script does: one normalised float32 tensor a sample."""

    def __init__(self, paths: list[str], epoch: int) -> None:
        self.paths = paths
        self.u = uniforms(epoch, np.arange(len(paths), dtype=np.int64))
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = np.array(pillow_picture(self.paths[index], self.u[index]))
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
        return image.sub_(self.mean).div_(self.std), 0


def one_process(paths: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds for all pictures; each side in a process of its own, vitrail's set up as a worker."""
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {"vitrail": [], "pillow": []}
    with context.Pool(1, keep_freed_memory) as ours, context.Pool(1) as plain:
        for epoch in range(rounds + 1):
            for name, pool in (("vitrail", ours), ("pillow", plain)):
                took = pool.apply(run_epoch, (name, paths, epoch))
                if epoch:  # the first round warms up
                    seconds[name].append(took)
    return seconds


def run_epoch(name: str, paths: list[str], epoch: int) -> float:
    u = uniforms(epoch, np.arange(len(paths), dtype=np.int64))
    began = time.perf_counter()
    for path, row in zip(paths, u, strict=True):
        if name == "vitrail":
            vitrail_picture(path, row)
        else:
            np.asarray(pillow_picture(path, row))
    return time.perf_counter() - began


def through_loader(
    paths: list[str], rounds: int, workers: int, batch: int
) -> dict[str, list[float]]:
    """Seconds for one epoch of float32 batches in this process, start of the workers left out."""
    labels = np.zeros(len(paths), dtype=np.int64)
    root = os.path.commonpath(paths)
    relative = tuple(os.path.relpath(path, root) for path in paths)
    source = FileSource("bench", ("one",), labels, root=root, paths=relative)
    loader = FileLoader(source, PREPROCESS, CONFIG, batch_size=batch, workers=workers)
    steps = len(paths) // batch
    seconds: dict[str, list[float]] = {"vitrail": [], "pillow": []}
    for epoch in range(rounds):
        batches = loader.batches(epoch * steps, (epoch + 1) * steps)
        seconds["vitrail"].append(_drain(batches, lambda item: normalise(item.images, PREPROCESS)))
        order = batch_indices(0, epoch, len(paths), len(paths))[0]
        plain = DataLoader(
            PlainDataset([paths[index] for index in order], epoch),
            batch_size=batch, num_workers=workers, drop_last=True,
        )  # fmt: skip
        seconds["pillow"].append(_drain(iter(plain), lambda item: item[0]))
    return seconds


def _drain(batches: Iterable[Any], take: Callable[[Any], torch.Tensor]) -> float:
    """Seconds from the first batch to the last, a batch."""
    num, began = 0, 0.0
    for item in batches:
        take(item)
        began = began or time.perf_counter()
        num += 1
    return (time.perf_counter() - began) / (num - 1)


def equal_pixels(paths: list[str]) -> int:
    """How many pictures are equal bit for bit on both sides."""
    u = uniforms(0, np.arange(len(paths), dtype=np.int64))
    pairs = zip(paths, u, strict=True)
    return sum(
        np.array_equal(
            vitrail_picture(path, row).transpose(1, 2, 0), np.asarray(pillow_picture(path, row))
        )
        for path, row in pairs
    )


def tile_pictures(photos: list[Path], folder: Path, num: int) -> list[str]:
    """500 x 375 JPEGs (quality 90) with real detail: four photographs, at their size."""
    paths = []
    step = max(1, len(photos) // (4 * num))
    for number in range(num):
        sheet = Image.new("RGB", (500, 375))
        for part in range(4):
            with Image.open(photos[(4 * number + part) * step % len(photos)]) as photo:
                sheet.paste(photo.convert("RGB"), (part % 2 * 250, part // 2 * 188))
        path = folder / f"{number:04d}.jpg"
        sheet.save(path, quality=90)
        paths.append(str(path))
    return paths


def make_pictures(folder: Path, num: int) -> list[str]:
    """Photo-like JPEGs: smooth noise of several scales, quality 90."""
    generator = np.random.default_rng(0)
    paths = []
    for number in range(num):
        height, width = (int(side) for side in generator.integers((340, 460), (410, 540)))
        total = np.zeros((height, width, 3))
        for scale in (4, 16, 64, 200):
            grid = generator.normal(size=(scale, scale, 3)) * 40
            small = [Image.fromarray(grid[:, :, c].astype(np.float32)) for c in range(3)]
            bands = [band.resize((width, height), Image.Resampling.BICUBIC) for band in small]
            total += np.stack([np.asarray(band) for band in bands], axis=2) / scale**0.3
        buffer = io.BytesIO()
        Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8)).save(
            buffer, "jpeg", quality=90
        )
        path = folder / f"{number:04d}.jpg"
        path.write_bytes(buffer.getvalue())
        paths.append(str(path))
    return paths


def report(seconds: dict[str, list[float]], num: int) -> dict[str, object]:
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "images_per_sec": {name: round(num / value, 1) for name, value in middle.items()},
        "spread": {
            name: [round(num / max(times), 1), round(num / min(times), 1)]
            for name, times in seconds.items()
        },
        "ratio": round(middle["pillow"] / middle["vitrail"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/caltech101"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the workers have the cores
    with tempfile.TemporaryDirectory() as scratch:
        photos = sorted(options.pictures.rglob("*.jpg")) if options.pictures.is_dir() else []
        paths = (
            tile_pictures(photos, Path(scratch), options.num)
            if photos
            else make_pictures(Path(scratch), options.num)
        )
        result = {
            "pictures": len(paths),
            "real": bool(photos),
            "kilobytes": round(statistics.mean(os.path.getsize(path) for path in paths) / 1000, 1),
            "pixels_equal": equal_pixels(paths),
            "one_process": report(one_process(paths, options.rounds), len(paths)),
            f"loader_{options.workers}_workers": report(
                through_loader(paths, options.rounds, options.workers, options.batch), options.batch
            ),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
