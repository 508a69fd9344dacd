"""Search recipe and size of a family for a budget, by validation.

    python -m benchmarks.budget.search DATA --name cifar10-2890 --secs 60 --images 2890

DATA has training and validation images, no test images. Every family gets the same: six recipes at
its second size for a fourth of the budget; every size with the best recipe for half of it; the best
size for the whole of it, with `--seeds` seeds. A finished trial is a line in `--out`; the same
command goes on where it stopped, and prints the best at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks.budget.families import FAMILIES, RECIPES, Settings, recipe, sizes
from benchmarks.budget.trial import run
from vitrail.device import machine


class Store:
    """Finished trials in a file of lines, by what was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, **asked: Any) -> dict[str, Any] | None:
        """The row with these values."""
        found = (row for row in self.rows if all(row[key] == asked[key] for key in asked))
        return next(found, None)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a finished trial."""
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class Search(NamedTuple):
    """What is searched: DATA and what is fixed for it."""

    name: str
    data: str
    side: int
    images: int
    secs: float
    fixed: Settings
    store: Store
    seeds: range = range(1)

    def trial(self, family: str, size: int, number: int, share: float, seed: int = 0) -> float:
        """Validation top-1 of a size with a recipe; trained unless it is in the store."""
        asked: dict[str, Any] = {"setting": self.name, "family": family, "size": size}
        asked |= {"recipe": number, "secs": self.secs, "share": share, "seed": seed}
        found = self.store.find(**asked)
        if found is None:
            settings = sizes(family, self.side)[size] | recipe(number, self.side, self.images)
            outcome = run(
                {"data.path": self.data, **settings, **self.fixed}, share * self.secs, seed
            )
            found = asked | outcome._asdict() | {"settings": settings} | origin()
            self.store.add(found)
            trained = f"{outcome.examples} images, {outcome.macs / 1e6:.0f} M"
            what = f"{self.name} {family} size {size} recipe {number} {share:g} seed {seed}"
            print(f"{what}: {outcome.top1:.4f} ({trained})", flush=True)
        return float(found["top1"])

    def best(self, family: str) -> tuple[float, int, int]:
        """Mean validation top-1 of the best at the whole budget, its size and recipe."""
        num_sizes = len(sizes(family, self.side))
        number = max(range(len(RECIPES)), key=lambda n: self.trial(family, 1, n, 0.25))
        size = max(range(num_sizes), key=lambda n: self.trial(family, n, number, 0.5))
        return mean(self.trial(family, size, number, 1.0, s) for s in self.seeds), size, number


def origin() -> dict[str, str]:
    """Commit and processor of a trial."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "processor": str(machine()["cpu"])}


def main() -> None:
    """Search, and print the best of every family."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--name", required=True, help="of the setting, as cifar10-5000")
    parser.add_argument("--side", type=int, default=32, help="px of the images")
    parser.add_argument("--secs", type=float, default=60.0, help="of one core")
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--images", type=int, required=True, help="train on so many")
    parser.add_argument("--seeds", type=int, default=1, help="of the last rung")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/budget.jsonl"))
    given = parser.parse_args()
    fixed: Settings = {"data.image_size": (given.side, given.side), "data.test_fraction": 0.0}
    fixed["data.train_pictures"] = given.images
    search = Search(
        given.name,
        given.data,
        given.side,
        given.images,
        given.secs,
        fixed,
        Store(given.out),
        range(given.seeds),
    )
    for family in given.family or FAMILIES:
        top1, size, number = search.best(family)
        chosen = sizes(family, given.side)[size]["model.name"]
        print(f"{given.name} {family}: {top1:.4f} with {chosen}, recipe {number}", flush=True)


if __name__ == "__main__":
    main()
