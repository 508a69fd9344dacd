"""Accuracy and speed of a ViT whose tokens are merged: the curve of `--tokens`.

    python -m benchmarks.token_merging MODEL [DATA] [--split val] [--images 2000] [--rounds 7]
        [--batch-size 32] [--threads 1] [--shares 1,0.8,0.6,0.4,0.3,0.2]

Accuracy: every share on the same images of the split, with the 95 % interval of the difference to
all tokens (paired). Speed: one batch in memory through the model, the shares in turns, the order
reversed every round; the median, lowest and highest of the ratios within the rounds. MODEL: a run
directory, whose validation images are held out of its training, or a model with DATA.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import write_result
from vitrail.classifier import Classifier, load
from vitrail.data.loading.batch import normalise
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.open_data import Source, subset
from vitrail.data.sources.sample import sample
from vitrail.device import keep_freed_memory, set_threads
from vitrail.evaluation.asked_data import opened_for
from vitrail.evaluation.on_data import relabelled
from vitrail.models.vit.merging import tokens_left
from vitrail.models.vit.model import ViT

BATCH = 64  # of the accuracy
TURN = 4  # batches in a turn of the speed


def images_of(classifier: Classifier, source: Source) -> tuple[Tensor, NDArray[np.int64]]:
    """Normalised images (n, C, H, W) and their labels."""
    batches = list(
        make_loader(source, classifier.preprocess, None, Batching(BATCH)).eval_batches(BATCH)
    )
    images = torch.cat([normalise(batch.images, classifier.preprocess) for batch in batches])
    return images, np.concatenate([np.asarray(batch.labels) for batch in batches])


def right_of(
    model: ViT, share: float, images: Tensor, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """1 for each image that is classified right, (n,)."""
    model.kept_tokens = share
    with torch.inference_mode():
        best = [model(part).argmax(dim=1) for part in torch.split(images, BATCH)]
    return np.asarray(torch.cat(best).numpy() == labels, np.float64)


def seconds_of(model: ViT, share: float, batch: Tensor) -> tuple[float, float]:
    """Wall and processor seconds of a turn."""
    model.kept_tokens = share
    with torch.inference_mode():
        model(batch)
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(TURN):
            model(batch)
        return time.perf_counter() - wall, time.process_time() - processor


def turns_of(model: ViT, shares: list[float], batch: Tensor, rounds: int) -> NDArray[np.float64]:
    """Seconds (rounds, shares, 2) of wall and processor."""
    found = np.zeros((rounds, len(shares), 2))
    for number in range(rounds):
        places = range(len(shares)) if number % 2 == 0 else reversed(range(len(shares)))
        for place in places:
            found[number, place] = seconds_of(model, shares[place], batch)
    return found


def spread(values: NDArray[np.float64]) -> list[float]:
    """Median, lowest, highest."""
    return [round(float(one), 4) for one in (np.median(values), values.min(), values.max())]


def curve(
    model: ViT,
    shares: list[float],
    images: Tensor,
    labels: NDArray[np.int64],
    batch_size: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """A row a share; the first is what the others are compared with."""
    batch = images[:batch_size]
    seconds = turns_of(model, shares, batch, rounds)
    right = [right_of(model, share, images, labels) for share in shares]
    rows = []
    for place, share in enumerate(shares):
        change = right[place] - right[0]
        error = 1.96 * change.std(ddof=1) / len(change) ** 0.5
        ratios = seconds[:, 0] / seconds[:, place]  # (rounds, 2)
        rows.append(
            {
                "tokens": share,
                "left": tokens_left(model.config, share),
                "top1": round(float(right[place].mean()), 4),
                "change_points": round(100 * float(change.mean()), 2),
                "change_95": [round(100 * float(change.mean() + s * error), 2) for s in (-1, 1)],
                "images_per_s": spread(TURN * len(batch) / seconds[:, place, 0]),
                "times_as_fast": spread(ratios[:, 0]),
                "times_as_fast_cpu": spread(ratios[:, 1]),
            }
        )
    return rows


def text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table of Markdown."""
    lines = [
        "| tokens | behind the last block | top-1 | change, points (95 %) | images/s "
        "| x wall | x processor |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["change_95"]
        wall, processor = (
            f"{one[0]:.2f} ({one[1]:.2f}, {one[2]:.2f})"
            for one in (row["times_as_fast"], row["times_as_fast_cpu"])
        )
        lines.append(
            f"| {row['tokens']:g} | {row['left'][-1]} | {row['top1']:.4f} | "
            f"{row['change_points']:+.2f} ({low:+.2f}, {high:+.2f}) | "
            f"{row['images_per_s'][0]:.1f} | {wall} | {processor} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the curve and write results/token_merging.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shares", default="1,0.8,0.6,0.4,0.3,0.2")
    asked = parser.parse_args()
    keep_freed_memory()
    set_threads(asked.threads)
    classifier = load(asked.model)
    model = classifier.model
    assert isinstance(model, ViT), "a Vision Transformer"
    opened = opened_for(asked.model, classifier.examples, asked.data, asked.split)
    source = relabelled(opened.judged(asked.split).source, classifier.classes, str(asked.model))
    if len(source) > asked.images:
        source = subset(source, np.sort(sample(source, asked.images, "token merging")))
    images, labels = images_of(classifier, source)
    shares = [float(share) for share in asked.shares.split(",")]
    rows = curve(model, shares, images, labels, asked.batch_size, asked.rounds)
    print(f"{len(images)} images of {asked.split}, {model.config.num_patches} patches")
    print(text(rows))
    facts = {"model": model.config.model_dump(mode="json"), "images": len(images)}
    facts |= {"split": asked.split, "batch_size": asked.batch_size, "threads": asked.threads}
    write_result("token_merging", facts | {"rows": rows})


if __name__ == "__main__":
    main()
