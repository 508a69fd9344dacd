"""Wrong labels planted into real images: how many does `vitrail data check --labels` list?

    python -m benchmarks.planted_labels DATA [--seeds 5] [--features MODEL]

Prints a line a seed: how often the judge agrees with the labels, the strength that it states of
itself (recall and precision in its rehearsal), and what it lists: how many labels, how many of the
planted ones among them (recall), and the share of planted ones (precision). Last, how many it lists
of the labels as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrail.cli.display.data_findings import doubted_labels, wanted
from vitrail.cli.display.output import Output
from vitrail.data.check.inspection import ImageStats, inspect_images
from vitrail.data.sources.open_data import Source, Splits, open_data
from vitrail.evaluation.labels.label_suspects import Suspects
from vitrail.evaluation.labels.rehearsal import plant

SEED = 1_000  # other draws than those of the rehearsal


def main() -> None:
    """Look at the images once, judge them with each set of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--features")
    asked = parser.parse_args()
    splits = open_data(asked.data)
    looks = {
        part: inspect_images(source, max_pixels=64_000_000, workers=1, wanted=wanted(labels=True))
        for part, source in splits.parts().items()
    }
    print("seed  agrees  stated recall, precision  listed  recall  precision")
    for seed in range(asked.seeds):
        changed, planted = planted_in(splits, SEED + seed)
        found = judged(changed, looks, asked.features)
        listed = [(one.split, one.index) for one in found.found]
        right = sum(one in planted for one in listed)
        stated = found.strength
        said = f"{stated.recall:.2f}, {stated.precision:.2f}" if stated else "-"
        share = right / len(listed) if listed else float("nan")
        print(
            f"{seed:>4}  {found.top1:6.3f}  {said:>24}  {len(listed):>6}  "
            f"{right / len(planted):6.2f}  {share:9.2f}",
            flush=True,
        )
    print(f"as they are: {len(judged(splits, looks, asked.features).found)} listed")


def judged(splits: Splits, looks: Mapping[str, list[ImageStats]], model: str | None) -> Suspects:
    """What the command lists."""
    return doubted_labels(splits, looks, model, Output(quiet=True))


def planted_in(splits: Splits, seed: int) -> tuple[Splits, set[tuple[str, int]]]:
    """The splits with wrong labels, and which these are."""
    parts = splits.parts()
    labels = np.concatenate([np.asarray(source.labels) for source in parts.values()])
    changed, is_planted = plant(labels, len(splits.classes), seed)
    new, which, first = dict[str, Source](), set[tuple[str, int]](), 0
    for part, source in parts.items():
        own: NDArray[np.int64] = changed[first : first + len(source)]
        marks = is_planted[first : first + len(source)]
        which |= {(part, int(index)) for index in np.flatnonzero(marks)}
        new[part] = source.relabelled(own, source.classes)
        first += len(source)
    return replace(splits, train=new["train"], val=new.get("val"), test=new.get("test")), which


if __name__ == "__main__":
    main()
