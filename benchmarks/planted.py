"""Planted faults: how many copies and wrong labels are found in DATA, as docs/report.md has it.

python -m benchmarks.planted builtin:digits ../shared/data/fashion_mnist ../shared/data/caltech101
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vitrail.data.check.inspection import small_images
from vitrail.data.check.near_duplicates import copies
from vitrail.data.check.perceptual_hash import joined, sketch
from vitrail.data.sources.open_data import Source, open_data, subset
from vitrail.evaluation.labels.audit import SMALL_PX, Limits, _looks
from vitrail.evaluation.labels.label_suspects import MIN_DOUBT, rank
from vitrail.evaluation.labels.loo_ridge import gradients, left_out
from vitrail.report.run_images import SplitImages

PLANTED, PICTURES = 60, 10_000
SHARE = 0.05
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    """Saved and read again."""
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return Image.open(stream).convert("RGB")


def sized(image: Image.Image, by: float, how: Image.Resampling) -> Image.Image:
    """Resized by a factor."""
    return image.resize((round(image.width * by), round(image.height * by)), how)


def copied(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Copies by name."""
    for quality in (95, 75, 50, 30):
        yield f"jpeg {quality}", saved(image, "JPEG", quality)
    yield "webp 75", saved(image, "WEBP", 75)
    for by in (0.5, 0.75, 1.37, 2.0):
        yield f"x {by} bilinear", sized(image, by, BILINEAR)
        yield f"x {by} bicubic", sized(image, by, BICUBIC)
        yield f"x {by} nearest", sized(image, by, Image.Resampling.NEAREST)
    yield "x 0.6, jpeg 60", saved(sized(image, 0.6, BICUBIC), "JPEG", 60)
    yield "x 1.7, jpeg 60", saved(sized(image, 1.7, BICUBIC), "JPEG", 60)
    yield "mirrored, jpeg 75", saved(ImageOps.mirror(image), "JPEG", 75)
    yield "gray", image.convert("L").convert("RGB")
    yield "darker", image.point(lambda value: int(0.6 * value) + 10)


def recall_of_copies(pictures: list[NDArray[np.uint8]]) -> dict[str, Any]:
    """Share of planted copies that are found, by kind; pairs found without any, and seconds."""
    own = joined([sketch(one) for one in pictures])
    started = time.perf_counter()
    found, _ = copies(own)
    secs = round(time.perf_counter() - started, 2)
    chosen = np.random.default_rng(0).choice(len(pictures), PLANTED, replace=False)
    planted: dict[str, list[NDArray[np.uint8]]] = {}
    for place in chosen:
        pixels = pictures[place]
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        for name, one in copied(image):
            planted.setdefault(name, []).append(np.asarray(one))
    recall = {}
    for name, ones in planted.items():
        pairs = {
            (one.first, one.second)
            for one in copies(joined([own, *(sketch(one) for one in ones)]))[0]
        }
        hits = [(int(place), len(own) + k) in pairs for k, place in enumerate(chosen)]
        recall[name] = round(float(np.mean(hits)), 2)
    return {"pictures": len(own), "found_without": len(found), "secs": secs, "recall": recall}


def wrong_labels(source: Source, seed: int) -> dict[str, Any]:
    """5 % wrong labels: precision at recall 0.6, and of what is listed."""
    images, indices = small_images(source, _looks(source, Limits(), np.inf)[1], SMALL_PX)
    labels = source.labels[indices]
    rng = np.random.default_rng(seed)
    n, size = len(labels), len(source.classes)
    wrong = np.zeros(n, bool)
    wrong[rng.permutation(n)[: round(SHARE * n)]] = True
    given = np.where(wrong, (labels + rng.integers(1, size, n)) % size, labels)
    p = left_out(gradients(images), given, size).probabilities
    found = rank(p, given)
    hits = np.cumsum(wrong[found.order])
    wanted = int(np.ceil(0.6 * wrong.sum()))
    reached = int(np.searchsorted(hits, wanted)) + 1
    listed = found.order[found.margin[found.order] <= -MIN_DOUBT]
    return {
        "pictures": n,
        "agrees": round(float((p.argmax(axis=1) == given).mean()), 3),
        "precision_at_recall_0.6": round(wanted / reached, 3) if hits[-1] >= wanted else None,
        "listed": len(listed),
        "listed_precision": round(float(wrong[listed].mean()), 2),
        "listed_recall": round(float(wrong[listed].sum() / wrong.sum()), 2),
    }


def main() -> None:
    """Print a JSON object for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    asked = parser.parse_args()
    for name in asked.data:
        splits = open_data(name)
        finder = SplitImages(splits, 10**8)
        pictures = [
            one
            for part in splits.parts().values()
            for i in range(min(len(part), asked.pictures))
            if (one := finder.read(part, i)) is not None
        ][: asked.pictures]
        source = subset(splits.train, np.arange(min(len(splits.train), asked.pictures)))
        figures = {"data": name, "copies": recall_of_copies(pictures)}
        figures["labels"] = [wrong_labels(source, seed) for seed in range(3)]
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
