"""The figures of docs/how-vit-works.md, from a small ViT that is trained for them.

python -m benchmarks.explanation_figures FASHION_MNIST [--steps 1500]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks.accessibility import vitrail

OUT = Path(__file__).parents[1] / "docs" / "images" / "how"
FIGURES = ("filters.png", "positions.png", "distance.svg", "cka.png")
SHAPE = "--model vit_ti4 --model.width 96 --model.depth 4 --model.num_heads 3 --model.mlp_dim 384"


def main() -> None:
    """Train, draw, keep the figures of the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    data = given.data.resolve()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        vitrail(f"train {data} {SHAPE} --steps {given.steps} --batch-size 64 --name how", folder)
        vitrail(f"explain runs/how --figures --data {data} --out figures", folder)
        OUT.mkdir(parents=True, exist_ok=True)
        for name in FIGURES:
            shutil.copy(folder / "figures" / name, OUT / name)


if __name__ == "__main__":
    main()
