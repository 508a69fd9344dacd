"""Which explanations are faithful: pointing game and deletion / insertion areas of every method.

    python -m benchmarks.faithfulness [--threads 2] [--steps 2000] [--pictures 200] [--seeds 0 100]

Trains a small ViT on synthetic objects (`vitrail/explain/synthetic.py`) to at least 0.95 top-1,
then judges every method on new images whose object is known: with one object, and with two
objects of different classes, of which one is the class asked for. The tables are those of `vitrail
explain --faithfulness` with the pointing game beside them: means over images with 95 % intervals,
* where the paired difference to the random map leaves 0 out. An interval is about other images of
the same model; for other models there are more seeds: each trains on images of that seed, is
tested on those of the next and judged on those of the one after; at the end stands the mean of all
models. About three minutes a model on two cores. --steps 20 --pictures 4 --seeds 0 1 is a smoke
run.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import write_result
from vitrail.evaluation.faithfulness_intervals import (
    MethodScores,
    mean_with_interval,
    summary,
    table,
)
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.explain.faithfulness import MethodCurves, judge
from vitrail.explain.synthetic import CLASSES, Objects, objects
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

SIZE_PX, PATCH_PX = 48, 8
WIDTH, DEPTH, HEADS = 64, 4, 4
BATCH, LR = 128, 3e-3
TRAIN, TEST = 8000, 1200  # images
GOAL = 0.95
BEST, PLAIN = ("relevance", "integrated-gradients"), "attention"
KINDS = {"one object": False, "two objects": True}  # of images; whether they come in pairs


def as_images(found: Objects) -> Tensor:
    """(n, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(found.images).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(steps: int, seed: int) -> ViT:
    """AdamW with a cosine, flips of both axes (no class changes with them)."""
    made = objects(TRAIN if steps > 100 else 10 * BATCH, (SIZE_PX, SIZE_PX), seed=seed)
    images, labels = as_images(made), torch.from_numpy(made.labels)
    size, patch = (SIZE_PX, SIZE_PX), (PATCH_PX, PATCH_PX)
    config = ViTConfig(
        image_size=size,
        patch_size=patch,
        width=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_dim=2 * WIDTH,
        num_classes=len(CLASSES),
    )
    model = create_model(config, seed=seed)
    assert isinstance(model, ViT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(seed)
    started = time.perf_counter()
    for step in range(steps):
        warm, done = min(1.0, (step + 1) / (0.1 * steps)), step / steps
        for group in optimizer.param_groups:
            group["lr"] = LR * warm * 0.5 * (1 + math.cos(math.pi * done))
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        batch = images[chosen]
        for axis in (2, 3):
            flipped = torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5
            batch = torch.where(flipped, batch.flip(axis), batch)
        loss = F.cross_entropy(model(batch), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 250 == 0 or step + 1 == steps:
            seconds = time.perf_counter() - started
            print(f"step {step + 1}/{steps}  loss {loss.item():.3f}  {seconds:.0f} s", flush=True)
    return model.eval()


def accuracy(model: ViT, seed: int) -> tuple[float, tuple[float, float]]:
    """Top-1 on new images, with its interval."""
    made = objects(TEST, (SIZE_PX, SIZE_PX), seed=seed)
    with torch.inference_mode():
        right = (model(as_images(made)).argmax(dim=1) == torch.from_numpy(made.labels)).sum()
    return float(right) / TEST, wilson(int(right), TEST)


def compared(judged: list[MethodCurves]) -> list[dict[str, object]]:
    """The methods that should be good against the raw attention of the last layer, paired: mean
    gain over the images, its interval, and whether that leaves 0 out.
    """
    by_name = {one.method: one for one in judged}
    found: list[dict[str, object]] = []
    for name in BEST:
        mine, theirs = by_name[name], by_name[PLAIN]
        assert mine.hits is not None
        assert theirs.hits is not None
        for measure, gains in (
            ("points at the object", mine.hits - theirs.hits),
            ("deletion area", theirs.deletion - mine.deletion),
        ):
            mean, ends = mean_with_interval(gains)
            found.append(verdict(name, measure, mean, ends))
    return found


def of_all(models: list[dict[str, Any]]) -> dict[str, object]:
    """The same gains as means of the models, with Student's interval over them."""
    result: dict[str, object] = {}
    for kind in KINDS:
        print(f"\n{kind}, mean of {len(models)} models")
        rows = zip(*(model[kind][f"against {PLAIN}"] for model in models), strict=True)
        result[kind] = [
            verdict(of[0]["method"], of[0]["measure"], *mean_with_interval(_gains(of)))
            for of in rows
        ]
    return result


def _gains(records: tuple[dict[str, Any], ...]) -> NDArray[np.float64]:
    return np.array([record["gain"] for record in records])


def verdict(
    name: str, measure: str, mean: float, ends: tuple[float, float] | None
) -> dict[str, object]:
    """A gain over raw attention as a record; printed."""
    is_clear = ends is not None and ends[0] > 0
    shown = f"({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
    word = "clearly better" if is_clear else "not clearly better"
    print(f"  {name} against {PLAIN}, {measure}: {mean:+.3f} {shown} {word}")
    record = {"method": name, "measure": measure, "gain": mean, "interval": ends}
    return record | {"is_clear": is_clear}


def markdown(rows: list[MethodScores]) -> str:
    """The table for docs/explain.md."""
    head, *lines = table(rows)
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def judged_model(seed: int, steps: int, pictures: int) -> dict[str, Any]:
    """Train and judge one model; what is to be recorded of it."""
    model = train(steps, seed)
    top1, ends = accuracy(model, seed + 1)
    word = "reached" if top1 >= GOAL else "missed"
    print(f"top-1 {top1:.4f} (95 % {ends[0]:.4f}-{ends[1]:.4f}), goal {GOAL} {word}")
    result: dict[str, Any] = {"seed": seed, "steps": steps, "top1": top1, "top1_interval": ends}
    for name, pairs in KINDS.items():
        made = objects(pictures, (SIZE_PX, SIZE_PX), seed=seed + 2, pairs=pairs)
        targets = [int(label) for label in made.labels]
        judged = judge(model, as_images(made), targets=targets, masks=made.masks)
        rows = summary(judged)
        print(f"\n{name}, {pictures} images, objects {made.masks.mean():.1%} of them\n")
        print(markdown(rows), flush=True)
        result[name] = {
            "methods": [row.to_json() for row in rows],
            f"against {PLAIN}": compared(judged),
        }
    return result


def main() -> None:
    """A model for each seed; print, and write results/faithfulness.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 100, 200, 300])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record: dict[str, Any] = {**vars(options), "models": []}
    for seed in options.seeds:
        print(f"\nmodel of seed {seed}")
        record["models"].append(judged_model(seed, options.steps, options.pictures))
        if options.steps > 100:  # a smoke run leaves no record
            write_result("faithfulness", record)
    if len(options.seeds) > 1:
        record["all"] = of_all(record["models"])
        if options.steps > 100:
            write_result("faithfulness", record)


if __name__ == "__main__":
    main()
