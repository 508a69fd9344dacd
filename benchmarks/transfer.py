"""What pre-training brings where there are 500 images to learn from.

    python -m benchmarks.transfer DATA [--unseen 2,6] [--pretrain 4m] [--seeds 5] [--pictures 500]

Two questions, one run each:

- with `--unseen`, classes that the model has never seen: pre-trained on every training image of
  the other classes (Fashion-MNIST with two unseen ones: 48,000);
- without it, images that it has never seen: pre-trained on five sixths of the training images
  of every class (50,000), the 500 are drawn from the other sixth.

For each seed `--pictures` are drawn, equally many a class, and learnt: by ridge regression of 5, 25
and all of them a class on frozen features (few-shot, arXiv 2010.11929 section 3.2), by fine-tuning
with the recipe that `--from` chooses, and from scratch with the recipe that is chosen without it.
All are judged on every test image of the classes in question. Which classes are unseen is said
before anything is trained. Intervals are those of the mean over seeds (Student's t). DATA: IDX
files or .npz with uint8 images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vitrail
from benchmarks.timing import write_result
from vitrail.data.sources.open_data import open_data
from vitrail.data.sources.source import ArraySource
from vitrail.evaluation.metrics.intervals import student_t

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
SHOTS = (5, 25, 1000)  # the last: all there are
PRETRAINED_SHARE = 5 / 6


def arrays_of(source: object) -> Arrays:
    assert isinstance(source, ArraySource), "this benchmark takes images in memory"
    return source.images, source.labels


def whole(data: str) -> tuple[Arrays, Arrays, tuple[str, ...]]:
    """Every training image (validation included), the test images, the class names."""
    splits = open_data(data)
    parts = [arrays_of(part) for part in (splits.train, splits.val) if part is not None]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    assert splits.test is not None, "the data has no test split of its own"
    return (images, labels), arrays_of(splits.test), splits.classes


def of_classes(arrays: Arrays, classes: list[int]) -> Arrays:
    """The images of `classes`, which get the labels 0, 1, ... in their order."""
    images, labels = arrays
    kept = np.isin(labels, classes)
    table = np.full(labels.max() + 1, -1)
    table[classes] = np.arange(len(classes))
    return images[kept], table[labels[kept]]


def draw(arrays: Arrays, num: int, seed: int) -> Arrays:
    """`num` images, equally many of each class."""
    images, labels = arrays
    generator = np.random.default_rng(seed)
    classes = np.unique(labels)
    chosen = [
        generator.permutation(np.flatnonzero(labels == one))[: num // len(classes)]
        for one in classes
    ]
    places = np.concatenate(chosen)
    return images[places], labels[places]


def save(path: Path, train: Arrays, test: Arrays) -> str:
    parts = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
    np.savez(path, **parts)  # type: ignore[arg-type]
    return str(path)


def divided(arrays: Arrays, share: float) -> tuple[Arrays, Arrays]:
    """A random `share` of each class, and the rest."""
    images, labels = arrays
    generator = np.random.default_rng(0)
    first = np.zeros(len(labels), dtype=bool)
    for one in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == one))
        first[places[: round(share * len(places))]] = True
    return (images[first], labels[first]), (images[~first], labels[~first])


def one_seed(run: Path, data: str, seed: int, folder: Path) -> dict[str, float]:
    """Test top-1 of each way to learn the images of `data`."""
    model = vitrail.load(run)
    shots = model.probe(data, "few-shot", split="test", k=SHOTS, seeds=3, cache=False)
    tuned = vitrail.train(data, runs_dir=folder, seed=seed, settings={"start.model": str(run)})
    scratch = vitrail.train(data, runs_dir=folder, seed=seed)
    assert tuned.test is not None
    assert scratch.test is not None
    ways = {
        f"ridge, {'all' if one.k == SHOTS[-1] else one.k} a class": one.top1
        for one in shots.figures
    }
    ways["fine-tuned"] = float(tuned.test["top1"])
    return ways | {"from scratch": float(scratch.test["top1"])}


def spread(values: list[float]) -> list[float]:
    """Mean and its 95 % interval."""
    half = student_t(len(values) - 1, 0.95) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return [round(value, 4) for value in (mean, mean - half, mean + half)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--unseen", default="", help="labels of the classes left out")
    parser.add_argument("--pretrain", default="4m")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=500)
    options = parser.parse_args()
    train, test, names = whole(options.data)
    unseen = [int(label) for label in options.unseen.split(",") if label]
    seen = [label for label in range(len(names)) if label not in unseen]
    if unseen:
        pool, rest = of_classes(train, seen), of_classes(train, unseen)
        judged = of_classes(test, unseen)
    else:
        (pool, rest), judged = divided(train, PRETRAINED_SHARE), test
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = save(folder / "seen.npz", pool, of_classes(test, seen))
        base = vitrail.train(data, runs_dir=folder, time_limit=options.pretrain)
        rows = []
        for seed in range(options.seeds):
            data = save(folder / f"few-{seed}.npz", draw(rest, options.pictures, seed), judged)
            rows.append(one_seed(base.run_dir, data, seed, folder))
            print(json.dumps(rows[-1]), flush=True)
        assert base.test is not None
        pretrained = float(base.test["top1"])
    ways = list(rows[0])
    result = {
        "setting": vars(options)
        | {"data": Path(options.data).name, "unseen names": [names[label] for label in unseen]},
        "pre-trained on": len(pool[1]),
        "test top-1 of the pre-trained model": round(pretrained, 4),
        "test images": len(judged[1]),
        "top-1": {way: spread([row[way] for row in rows]) for way in ways},
        "minus scratch": {
            way: spread([row[way] - row["from scratch"] for row in rows]) for way in ways[:-1]
        },
    }
    print(json.dumps(result, indent=1))
    write_result("transfer_classes" if unseen else "transfer_pictures", result)


if __name__ == "__main__":
    main()
