"""One model for several patch sizes (FlexiViT) against a model for each, for the same training.

    python -m benchmarks.flexible_patches DATA [--patches 4,7,14] [--epochs 1.5] [--seed 0]

Each single model sees the training images `epochs` times; the model of all sizes sees them as often
as all of the single ones together, each step at a size that is drawn. Everything else is equal. All
are then evaluated on the test images at each size; the interval is that of the paired difference.
Writes results/flexible_patches.json and docs/images/flexible-patches.svg.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import write_result
from vitrail.classifier import load
from vitrail.figures.plot import Figure, Series, plot
from vitrail.training import loop

OUT = Path(__file__).parents[1] / "docs" / "images" / "flexible-patches.svg"
SHAPE = {"width": 96, "depth": 4, "num_heads": 3, "mlp_dim": 192, "posemb": "learned"}


def trained(
    data: str, folder: Path, name: str, patches: list[int], epochs: float, seed: int
) -> tuple[Path, float]:
    """The run directory of a model for `patches`, and its processor seconds."""
    settings: dict[str, Any] = {f"model.{key}": value for key, value in SHAPE.items()}
    settings |= {"data.path": data, "model.name": "vit_ti4", "recipe": "small.scratch"}
    settings |= {"model.patch_size": patches[len(patches) // 2], "epochs": epochs, "seed": seed}
    settings |= {"batch_size": 64, "residual_baseline": False, "precision": "float32"}
    settings |= {"threads": 1, "eval_every_epochs": 1000.0}
    if len(patches) > 1:
        settings["model.patch_sizes"] = ",".join(map(str, patches))
    started = time.process_time()
    loop.train(
        [("benchmark", settings)], runs_dir=folder, name=name, with_report=False, with_test=False
    )
    return folder / name, time.process_time() - started


def right_of(run: Path, data: str, patch: int) -> NDArray[np.float64]:
    """1 for each test image that is classified right, (n,)."""
    found = load(run, patch=patch).evaluate(data, "test")
    return np.asarray(found.correct, np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of their mean."""
    mean, error = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean - error, mean + error


def rows_of(asked: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train all, and compare at each size."""
    patches = [int(one) for one in asked.patches.split(",")]
    each = asked.epochs
    every, seconds = trained(asked.data, folder, "all", patches, each * len(patches), asked.seed)
    rows = []
    for patch in patches:
        single, own = trained(asked.data, folder, f"p{patch}", [patch], each, asked.seed)
        right = {"all": right_of(every, asked.data, patch)}
        right["single"] = right_of(single, asked.data, patch)
        change = 100 * (right["all"] - right["single"])
        low, high = interval(change)
        row: dict[str, Any] = {"patch": patch, "processor_secs": round(own, 1)}
        row |= {f"top1_{name}": round(float(values.mean()), 4) for name, values in right.items()}
        row |= {f"ci_{name}": interval(values) for name, values in right.items()}
        row |= {"points": round(float(change.mean()), 2), "ci": [round(low, 2), round(high, 2)]}
        print(f"patch {patch}: {row}", flush=True)
        rows.append(row | {"processor_secs_all": round(seconds, 1)})
    return rows


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Accuracy over the patch size, of both kinds."""
    series = []
    for colour, (key, name) in enumerate(
        (("all", "one model for all sizes"), ("single", "a model for each size"))
    ):
        ends = [row[f"ci_{key}"] for row in rows]
        series.append(
            Series(
                name,
                [float(place) for place in range(len(rows))],
                [row[f"top1_{key}"] for row in rows],
                [low for low, _ in ends],
                [high for _, high in ends],
                colour=colour,
            )
        )
    return Figure(
        "flexible-patches",
        "One model for several patch sizes, with the training of three",
        "patch, px",
        "test accuracy",
        series,
        x_labels=[str(row["patch"]) for row in rows],
    )


def main() -> None:
    """Print the rows, write results and figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data")
    parser.add_argument("--patches", default="4,7,14")
    parser.add_argument("--epochs", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(asked, Path(folder))
    facts = {"epochs_each": asked.epochs, "seed": asked.seed, "model": SHAPE}
    write_result("flexible_patches", facts | {"rows": rows})
    OUT.write_text(plot(figure(rows)).file(), encoding="utf-8")


if __name__ == "__main__":
    main()
