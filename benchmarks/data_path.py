"""The data path of image files: decode, random resized crop to 224, flip; vitrail against Pillow.

    python -m benchmarks.data_path [--pictures FOLDER] [--workers 2] [--rounds 7] [--num 256]

On the same files with the same crops and flips, the sides taking turns:

1. pixels: every image of vitrail's path equals `open -> convert -> resize(box) -> transpose`.
2. one process each, file to uint8 pixels: vitrail's loader without workers, which uses THREADS (as
   many as there are cores, at most 8), against the Pillow pipeline as it is written, a loop in one
   thread. "vitrail, one thread" is the same work without the threads.
3. loader: vitrail's workers (uint8 out, normalised by the parent) against a plain torch DataLoader
   with the Pillow pipeline (float32, normalised per sample, default collate).

FOLDER holds photographs (JPEG, any depth). Two rows: four of them make up each 500 x 375 image of
the first, so that size and detail are those of ImageNet's; the second has them as they are. Without
FOLDER, smooth noise of several scales stands in.
A rate is the median of the rounds, a ratio the median of those within the rounds. "cpu" is the time
of all processors together, workers and their start included: it counts where other work runs too.
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

from benchmarks.timing import write_result
from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.crops import flips, inception_box
from vitrail.data.augment.one_image import augment_image, write_planes
from vitrail.data.images.decode import decode
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import normalise
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.file_loader import FileLoader
from vitrail.data.loading.order import batch_indices
from vitrail.data.sources.source import FileSource
from vitrail.device import keep_freed_memory, num_cores

Pixels = NDArray[np.uint8]
Seconds = dict[str, list[tuple[float, float]]]  # a side: (wall, processors) of each round
SIZE = (224, 224)
EPOCHS = 8  # a round through the loader: two are over in a third of a second
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = AugmentConfig(crop="inception", crop_scale=(0.08, 1.0), flip=0.5)
PREPROCESS = Preprocess(
    height=SIZE[0], width=SIZE[1], resize=SIZE, interpolation="bilinear", mean=MEAN, std=STD
)


def uniforms(epoch: int, indices: NDArray[np.int64]) -> random_slots.Uniforms:
    return random_slots.draw(0, np.full_like(indices, epoch), indices, np.zeros_like(indices))


def pillow_image(path: str, u: random_slots.Uniforms) -> Image.Image:
    """The same pipeline in plain Pillow."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    top, left, height, width = inception_box(u, (image.height, image.width), CONFIG)
    corners = (left, top, left + width, top + height)
    image = image.resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR, box=corners)
    if flips(u[None], CONFIG)[0]:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def vitrail_image(path: str, u: random_slots.Uniforms) -> Pixels:
    """What a loader worker does, into (3, h, w)."""
    with open(path, "rb") as file:
        pixels = decode(file.read(), name=path, padded=True)
    out = np.empty((3, *SIZE), dtype=np.uint8)
    write_planes(augment_image(pixels, u, CONFIG, SIZE, interpolation="bilinear"), out)
    return out


class PlainDataset(Dataset[tuple[torch.Tensor, int]]):
    """What a plain training script does: one normalised float32 tensor a sample."""

    def __init__(self, paths: list[str], u: random_slots.Uniforms) -> None:
        self.paths = paths
        self.u = u
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = np.array(pillow_image(self.paths[index], self.u[index]))
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
        return image.sub_(self.mean).div_(self.std), 0


def file_loader(paths: list[str], workers: int, batch: int) -> FileLoader:
    labels = np.zeros(len(paths), dtype=np.int64)
    root = os.path.commonpath(paths)
    relative = tuple(os.path.relpath(path, root) for path in paths)
    source = FileSource("bench", ("one",), labels, root=root, paths=relative)
    return FileLoader(source, PREPROCESS, CONFIG, Batching(batch_size=batch, workers=workers))


def one_process(paths: list[str], rounds: int, batch: int) -> Seconds:
    """Seconds for all images; each side in a process of its own, vitrail's set up as it is."""
    context = multiprocessing.get_context("spawn")
    names = ["vitrail", "vitrail, one thread", "pillow"]
    seconds: Seconds = {name: [] for name in names}
    with context.Pool(1, keep_freed_memory) as ours, context.Pool(1) as plain:
        for epoch in range(rounds + 1):
            for name in names if epoch % 2 else names[::-1]:
                pool = plain if name == "pillow" else ours
                took = pool.apply(run_epoch, (name, paths, epoch, batch))
                if epoch:  # the first round warms up
                    seconds[name].append(took)
    return seconds


def run_epoch(name: str, paths: list[str], epoch: int, batch: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    u = uniforms(epoch, np.arange(len(paths), dtype=np.int64))
    steps = len(paths) // batch
    loader = file_loader(paths, 0, batch)
    began, cpu = time.perf_counter(), time.process_time()
    if name == "vitrail":
        for _ in loader.batches(epoch * steps, (epoch + 1) * steps):
            pass
    else:
        for path, row in zip(paths, u, strict=True):
            vitrail_image(path, row) if name != "pillow" else np.asarray(pillow_image(path, row))
    return time.perf_counter() - began, time.process_time() - cpu


def through_loader(paths: list[str], rounds: int, workers: int, batch: int) -> Seconds:
    """Seconds a batch of float32 in this process, over EPOCHS; wall without the start."""
    loader = file_loader(paths, workers, batch)
    num, steps = EPOCHS * len(paths), EPOCHS * len(paths) // batch
    seconds: Seconds = {"vitrail": [], "pillow": []}

    def ours(number: int) -> tuple[float, float]:
        batches = loader.batches(number * steps, (number + 1) * steps)
        return _drain(batches, lambda item: normalise(item.images, PREPROCESS))

    def theirs(number: int) -> tuple[float, float]:
        indices, epochs, repeats = batch_indices(0, number, num, len(paths))
        u = random_slots.draw(0, epochs, indices, repeats)
        dataset = PlainDataset([paths[index] for index in indices], u)
        plain = DataLoader(dataset, batch_size=batch, num_workers=workers, drop_last=True)
        return _drain(iter(plain), lambda item: item[0])

    for number in range(rounds):
        sides = [("vitrail", ours), ("pillow", theirs)]
        for name, side in sides if number % 2 else sides[::-1]:
            seconds[name].append(side(number))
    return seconds


def _drain(batches: Iterable[Any], take: Callable[[Any], torch.Tensor]) -> tuple[float, float]:
    """Seconds a batch: wall from the first batch to the last, processors with the workers."""
    num, began, cpu = 0, 0.0, _cpu_secs()
    for item in batches:
        take(item)
        began = began or time.perf_counter()
        num += 1
    wall = (time.perf_counter() - began) / (num - 1)
    del batches  # ends the workers, whose time is then known
    return wall, (_cpu_secs() - cpu) / num


def _cpu_secs() -> float:
    """Of this process and of the children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def equal_pixels(paths: list[str]) -> int:
    """How many images are equal bit for bit on both sides."""
    u = uniforms(0, np.arange(len(paths), dtype=np.int64))
    pairs = zip(paths, u, strict=True)
    return sum(
        np.array_equal(
            vitrail_image(path, row).transpose(1, 2, 0), np.asarray(pillow_image(path, row))
        )
        for path, row in pairs
    )


def tile_images(photos: list[Path], folder: Path, num: int) -> list[str]:
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


def make_images(folder: Path, num: int) -> list[str]:
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


def report(seconds: Seconds, num: int) -> dict[str, dict[str, list[float]]]:
    """Of each side: images a second, and how many times as fast as pillow; median, least, most."""
    result: dict[str, dict[str, list[float]]] = {name: {} for name in seconds}
    for name, times in seconds.items():
        for place, kind in enumerate(("", "cpu_")):
            pairs = [
                (theirs[place], one[place])
                for theirs, one in zip(seconds["pillow"], times, strict=True)
            ]
            result[name][f"images_per_{kind}sec"] = _spread([num / one for _, one in pairs])
            result[name][f"x_pillow_{kind}".rstrip("_")] = _spread([a / b for a, b in pairs])
    return result


def _spread(values: list[float]) -> list[float]:
    return [float(f"{f(values):.4g}") for f in (statistics.median, min, max)]


def measure(paths: list[str], options: argparse.Namespace) -> dict[str, object]:
    """One row of the table: the same for one set of images."""
    paths = paths[: len(paths) // options.batch * options.batch]
    alone = one_process(paths, options.rounds, options.batch)
    loader = through_loader(paths, options.rounds, options.workers, options.batch)
    return {
        "pictures": len(paths),
        "kilobytes": round(statistics.mean(os.path.getsize(path) for path in paths) / 1000, 1),
        "pixels_equal": equal_pixels(paths),
        "one_process": report(alone, len(paths)),
        f"loader_{options.workers}_workers": report(loader, options.batch),
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
    keep_freed_memory()  # as training does; the workers of the other side inherit it
    result: dict[str, object] = {"rounds": options.rounds, "threads_without_workers": num_cores()}
    with tempfile.TemporaryDirectory() as scratch:
        photos = sorted(options.pictures.rglob("*.jpg")) if options.pictures.is_dir() else []
        if photos:
            step = max(1, len(photos) // options.num)
            result["photographs, four to an image of 500 x 375"] = measure(
                tile_images(photos, Path(scratch), options.num), options
            )
            result["photographs as they are"] = measure(
                [str(photo) for photo in photos[::step][: options.num]], options
            )
        else:
            result["noise"] = measure(make_images(Path(scratch), options.num), options)
    print(json.dumps(result, indent=1))
    write_result("data_path", result)


if __name__ == "__main__":
    main()
