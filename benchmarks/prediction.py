"""Images a second of a forward pass, batch 1, 8 and 32, against plain PyTorch, Hugging Face
transformers and the products alone.

    python -m benchmarks.prediction [--threads 2] [--rounds 7] [--case vit_ti16_b8 ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.products import all_products
from benchmarks.textbook import TextbookViT, vit_named
from benchmarks.timing import compete, serve, summary, table, write_result
from benchmarks.training_step import FLOORS, transformers_model
from vitrail.device import keep_freed_memory
from vitrail.models.create import create_model

IMAGES = 64  # a turn
CASES = {
    f"vit_{size}16_b{batch_size}": (size, batch_size)
    for size in ("ti", "s")
    for batch_size in (1, 8, 32)
}
CONTENDERS = ["vitrail", "textbook", "transformers", *FLOORS]


def turn_of(case: str, name: str) -> Callable[[], None] | str:
    """What contender `name` does in one turn, or why it cannot."""
    size, batch_size = CASES[case]
    config = vit_named(f"vit_{size}16", num_classes=1000)
    images = torch.randn(batch_size, 3, *config.image_size)
    if name in FLOORS:
        keep_freed_memory()
        kernel, is_short = FLOORS[name]
        step = all_products(config, batch_size, kernel=kernel, is_short=is_short, is_train=False)
    else:
        if name == "vitrail":
            keep_freed_memory()
        model = (
            create_model(config)
            if name == "vitrail"
            else TextbookViT(config)
            if name == "textbook"
            else transformers_model(config)
        )
        if isinstance(model, str):
            return model
        model.eval()

        def step() -> None:
            with torch.inference_mode():
                model(images)

    def turn() -> None:
        for _ in range(IMAGES // batch_size):
            step()

    return turn


def measure(cases: list[str], threads: int, rounds: int) -> None:
    """Run, print, and write results/prediction.json."""
    result: dict[str, object] = {}
    for case in cases:
        turns, absent = compete(
            "benchmarks.prediction", case, CONTENDERS, threads=threads, rounds=rounds
        )
        rows = summary(turns, IMAGES, "vitrail")
        print(table(f"{case}: forward pass, {threads} threads", rows, "vitrail"))
        for name, why in absent.items():
            print(f"  {name}: {why}")
        result[case] = {"rows": rows, "absent": absent}
        write_result("prediction", {"threads": threads, "rounds": rounds, "cases": result})


def main() -> None:
    """Measure; with --contender, be one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contender", choices=CONTENDERS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.contender:
        serve(turn_of(options.case[0], options.contender))
    else:
        measure(options.case, options.threads, options.rounds)


if __name__ == "__main__":
    main()
