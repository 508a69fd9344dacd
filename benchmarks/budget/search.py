"""Search the recipe of a family for a budget by successive halving (arXiv 1502.07943).

    python -m benchmarks.budget.search DATA --name cifar10-5000 --family residual --secs 60

DATA has training and validation images, no test images. Rungs: `--trials` candidates at a fourth of
the budget, the better fourth at half of it with two seeds, the best two at the whole with three.
Every finished trial is a line in `--out`; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks.budget.families import FAMILIES, Settings, candidate
from benchmarks.budget.trial import run
from vitrail.device import machine


class Rung(NamedTuple):
    """share: of the budget. kept: how many candidates of the rung before take part."""

    share: float
    kept: int
    seeds: int


def rungs(trials: int) -> list[Rung]:
    """Of a search that begins with so many candidates."""
    return [Rung(0.25, trials, 1), Rung(0.5, max(2, trials // 4), 1), Rung(1.0, 2, 3)]


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
    secs: float
    fixed: Settings
    store: Store

    def trial(self, family: str, number: int, share: float, seed: int) -> float:
        """Validation top-1 of a candidate; trained unless it is in the store."""
        asked: dict[str, Any] = {"setting": self.name, "family": family, "number": number}
        asked |= {"secs": self.secs, "share": share, "seed": seed}
        found = self.store.find(**asked)
        if found is None:
            settings = candidate(family, self.side, number)
            outcome = run(
                {"data.path": self.data, **settings, **self.fixed}, share * self.secs, seed
            )
            found = {**asked} | outcome._asdict() | {"settings": settings} | origin()
            self.store.add(found)
            trained = f"{outcome.examples} images, {outcome.macs / 1e6:.0f} M"
            what = f"{self.name} {family} {number} {share:g} seed {seed}"
            print(f"{what}: {outcome.top1:.4f} ({trained})", flush=True)
        return float(found["top1"])

    def best(self, family: str, trials: int) -> list[tuple[float, int]]:
        """(mean validation top-1, candidate) of the last rung, the best first."""
        ranked = [(0.0, number) for number in range(trials)]
        for rung in rungs(trials):
            ranked = sorted(
                (
                    (mean(self.trial(family, n, rung.share, s) for s in range(rung.seeds)), n)
                    for _, n in ranked[: rung.kept]
                ),
                reverse=True,
            )
        return ranked


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
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--images", type=int, help="train on so many")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/budget.jsonl"))
    given = parser.parse_args()
    fixed: Settings = {"data.image_size": (given.side, given.side)}
    if given.images:
        fixed["data.train_pictures"] = given.images
    search = Search(given.name, given.data, given.side, given.secs, fixed, Store(given.out))
    for family in given.family or FAMILIES:
        for top1, number in search.best(family, given.trials):
            print(f"{given.name} {family} {number}: {top1:.4f}")


if __name__ == "__main__":
    main()
