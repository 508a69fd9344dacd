"""Images a second of a training step, against plain PyTorch, Hugging Face transformers and the
products alone.

    python -m benchmarks.training_step [--threads 2] [--rounds 7] [--case vit_32px ...]

Every contender does the same step on the same shapes: forward, softmax cross-entropy, backward,
gradients clipped to norm 1, AdamW. vitrail runs the function its training loop runs. "textbook" and
"transformers" are what their readers get: torch's default AdamW and malloc; "tuned" gives
transformers vitrail's other advantages, fused AdamW and kept memory, so that what remains is the
model's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.products import all_products
from benchmarks.textbook import TextbookViT, vit_named
from benchmarks.timing import compete, serve, summary, table, write_result
from vitrail.config import OptimConfig, TrainConfig
from vitrail.device import keep_freed_memory, pick_precision
from vitrail.errors import UsageError
from vitrail.models.vit.config import ViTConfig
from vitrail.training.optim.schedule import StepSchedule
from vitrail.training.ranks.share import Part
from vitrail.training.ranks.spread import Alone
from vitrail.training.state import start_state
from vitrail.training.step import update
from vitrail.training.tasks import objectives
from vitrail.training.tasks.task import Forward, Parts

CASES = {  # batch size, steps a turn
    "vit_32px": (128, 3),  # patch 4, width 192, depth 6, 3 heads
    "vit_ti16_224px": (32, 2),
    "vit_28px_grey": (128, 6),  # patch 4, width 128, depth 6, 4 heads
}
FLOORS = {  # kernel, last block as short as in vitrail's model
    "its products, fastest kernel": ("fastest", True),
    "its products, torch.mm": ("torch", True),
    "all products, torch.mm": ("torch", False),
}
CONTENDERS = [
    "vitrail",
    "textbook",
    "transformers",
    "transformers, tuned",
    *FLOORS,
    "vitrail, bfloat16",
    "textbook, bfloat16",
]


def config_of(case: str) -> ViTConfig:
    """The architecture of a case."""
    if case == "vit_ti16_224px":
        return vit_named("vit_ti16", num_classes=1000)
    small = {"patch_size": (4, 4), "depth": 6}
    if case == "vit_32px":
        return vit_named("vit_ti16", num_classes=10, image_size=32, overrides=small)
    return vit_named(
        "vit_ti16",
        num_classes=10,
        image_size=28,
        channels=1,
        overrides={**small, "width": 128, "num_heads": 4, "mlp_dim": 256},
    )


def turn_of(case: str, name: str) -> Callable[[], None] | str:
    """What contender `name` does in one turn, or why it cannot."""
    config, (batch_size, steps) = config_of(case), CASES[case]
    images = torch.randn(batch_size, config.channels, *config.image_size)
    labels = torch.arange(batch_size) % config.num_classes
    if name in FLOORS:
        keep_freed_memory()
        kernel, is_short = FLOORS[name]
        step = all_products(config, batch_size, kernel=kernel, is_short=is_short, is_train=True)
    elif name.startswith("vitrail"):
        precision = "bfloat16" if name.endswith("bfloat16") else "float32"
        try:
            pick_precision(precision, torch.device("cpu"))
        except UsageError as error:
            return error.message
        step = vitrail_step(config, images, labels, precision)
    else:
        model = transformers_model(config) if name.startswith("transformers") else None
        if isinstance(model, str):
            return model
        step = plain_step(
            model or TextbookViT(config),
            images,
            labels,
            is_tuned=name.endswith("tuned"),
            is_half=name.endswith("bfloat16"),
        )

    def turn() -> None:
        for _ in range(steps):
            step()

    return turn


def vitrail_step(
    config: ViTConfig, images: Tensor, labels: Tensor, precision: str
) -> Callable[[], None]:
    """The step of `vitrail train`."""
    keep_freed_memory()
    settings = TrainConfig(steps=1, precision=precision, optim=OptimConfig(lr=1e-4), device="cpu")  # type: ignore[arg-type]
    state = start_state(settings, config, StepSchedule.of(1), torch.device("cpu"))
    state.model.train()
    targets = F.one_hot(labels, config.num_classes).float()

    def loss(forward: Forward, parts: Parts) -> Tensor:
        return objectives.loss(forward(parts[0]), parts[1], settings.loss)

    def step() -> None:
        update(Alone(state.model), state, [Part((images, targets), 0)], loss, settings)

    return step


def plain_step(
    model: nn.Module, images: Tensor, labels: Tensor, *, is_tuned: bool, is_half: bool
) -> Callable[[], None]:
    """The usual loop around any model."""
    if is_tuned:
        keep_freed_memory()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True if is_tuned else None)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            output = model(images)
        logits = output if isinstance(output, Tensor) else output.logits
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def transformers_model(config: ViTConfig) -> nn.Module | str:
    """Hugging Face's class of the same shape, with its default attention, or why there is none."""
    try:
        from transformers import ViTConfig as TheirConfig
        from transformers import ViTForImageClassification
    except ImportError:
        return "transformers is not installed: pip install 'vitrail[bench]'"
    theirs = TheirConfig(
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=config.mlp_dim,
        image_size=config.image_size[0],
        patch_size=config.patch_size[0],
        num_channels=config.channels,
        num_labels=config.num_classes,
    )
    model: nn.Module = ViTForImageClassification(theirs)
    return model


def measure(cases: list[str], threads: int, rounds: int) -> None:
    """Run, print, and write results/training_step.json."""
    result: dict[str, object] = {"threads": threads, "rounds": rounds, "cases": {}}
    for case in cases:
        turns, absent = compete(
            "benchmarks.training_step", case, CONTENDERS, threads=threads, rounds=rounds
        )
        batch_size, steps = CASES[case]
        rows = summary(turns, batch_size * steps, "vitrail")
        print(
            table(f"{case}: training step, batch {batch_size}, {threads} threads", rows, "vitrail")
        )
        for name in FLOORS:
            wall, cpu = rows[name]["ours_is_faster"][0], rows[name]["ours_is_faster_cpu"][0]
            print(f"  speed over that of {name}: {wall:.2f} wall, {cpu:.2f} processor")
        for name, why in absent.items():
            print(f"  {name}: {why}")
        assert isinstance(result["cases"], dict)
        result["cases"][case] = {"batch_size": batch_size, "rows": rows, "absent": absent}
        write_result("training_step", result)


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
