"""`vitrail doctor --plan MODEL`: do N GPUs train it, with how many images, how long?"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli.display.output import Output, table
from vitrail.errors import GateError, UsageError
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.models.names import ModelConfig
    from vitrail.training.ranks.memory_plan import MemoryPlan

BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GiB)", re.IGNORECASE)
CLASSES = 21_843  # of ImageNet-21k, whose head is a part of the weights
MOST_GPUS = 4096


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What is planned, and for which GPUs."""

    plan: str | None = None
    """Memory, collectives, batch and GPU-hours of pre-training this model; needs no GPU."""
    gpus: int = 1
    """With --plan: number of GPUs, one process each."""
    gpu_memory: str = "80GB"
    """With --plan: memory of each, as 80GB or 24GiB."""
    gpu_tflops: float = 400.0
    """With --plan: TFLOP/s that training reaches on one: 40 % of an H100's 989 in bfloat16."""
    shard: Annotated[bool, Parameter(negative=())] = False
    """With --plan: weights, gradients and optimizer in shards (FSDP2)."""
    image_size: int | None = None
    """With --plan: image size in pixels. Default: the model's own"""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """With --plan: numbers in matrix products."""
    checkpoint_activations: Annotated[bool, Parameter(negative=())] = False
    """With --plan: activations are computed again in the backward pass."""


def show_plan(options: PlanOptions, output: Output) -> int:
    """Follow a training step on fake tensors and print what it needs; the exit code.

    Raises UsageError VIT-202 for a number that cannot be, GateError VIT-707 where not one image
    fits.
    """
    from vitrail.models.cost import macs, parameters
    from vitrail.models.names import resolve_model
    from vitrail.training.ranks.memory_plan import memory_plan

    memory = gpu_bytes(options)
    size = options.image_size
    config = resolve_model(
        str(options.plan), num_classes=CLASSES, image_size=(size, size) if size else None
    )
    found = memory_plan(
        config,
        options.gpus,
        is_sharded=options.shard,
        precision=options.precision,
        is_recomputed=options.checkpoint_activations,
    )
    fits = found.fitting(memory)
    record = {
        "model": options.plan,
        "image_size": list(config.image_size),
        "classes": CLASSES,
        "parameters": parameters(config),
        "gpus": options.gpus,
        "gpu_memory_bytes": memory,
        "shard": options.shard,
        "precision": options.precision,
        "checkpoint_activations": options.checkpoint_activations,
        "batch_per_gpu": fits,
        "image_bytes": found.image_bytes,
        "fixed_bytes": found.peak_bytes(0),
        "peaks": [asdict(peak) | {"total": peak.total} for peak in found.peaks],
        "collective_bytes": found.collectives,
        "pretraining": hours(config, macs(config), options),
    }
    output.result(record, plan_lines(record, found))
    if not fits:
        raise GateError(
            "VIT-707",
            f"{options.plan} does not fit {options.gpu_memory} a GPU: one image needs "
            f"{found.peak_bytes(1) / 1e9:.1f} GB, and 10 % + 2 GB stay free.",
            hint="Try --shard with more --gpus, --checkpoint-activations, or a smaller model",
        )
    return 0


def gpu_bytes(options: PlanOptions) -> float:
    """The memory of a GPU. Raises UsageError VIT-202 for an option that makes no sense."""
    said = BYTES.fullmatch(options.gpu_memory.strip())
    if said is None or float(said[1]) <= 0:
        raise UsageError(
            "VIT-202",
            f"--gpu-memory {options.gpu_memory}: expected gigabytes, as 80GB or 24GiB.",
            hint="For instance: --gpu-memory 80GB",
        )
    least = 2 if options.shard else 1
    if not least <= options.gpus <= MOST_GPUS:
        raise UsageError(
            "VIT-202",
            f"--gpus {options.gpus}: expected {least} to {MOST_GPUS}"
            f"{' with --shard' if options.shard else ''}.",
            hint="For instance: --gpus 8",
        )
    if options.gpu_tflops <= 0:
        raise UsageError(
            "VIT-202",
            f"--gpu-tflops {options.gpu_tflops:g}: expected a number above 0.",
            hint="400 is 40 % of what an H100 has in bfloat16",
        )
    return float(said[1]) * (1e9 if said[2].lower() == "gb" else 2**30)


def hours(config: ModelConfig, multiply_adds: int, options: PlanOptions) -> list[dict[str, Any]]:
    """The pre-trainings of the paper, with their operations and GPU-hours."""
    from vitrail.models.names import resolve_model
    from vitrail.recipes.pretraining import PRETRAININGS, TABLE_6, exaflops, gpu_hours

    names = {name for name, _ in TABLE_6}
    same = {name for name in names if resolve_model(name, num_classes=CLASSES) == config}
    found = []
    for training in PRETRAININGS:
        operations = exaflops(multiply_adds, training)
        needed = gpu_hours(operations, options.gpu_tflops * 1e12)
        paper = [TABLE_6.get((name, training.epochs)) for name in same]
        is_there = training.recipe == "paper.jft"
        found.append(
            asdict(training)
            | {
                "exaflops": operations,
                "exaflops_table_6": next(iter(paper), None) if is_there else None,
            }
            | {"gpu_hours": needed, "days": needed / options.gpus / 24}
        )
    return found


def plan_lines(record: dict[str, Any], found: MemoryPlan) -> list[str]:
    """The record for people."""
    size = "x".join(map(str, record["image_size"]))
    way = "in shards (FSDP2)" if record["shard"] else "whole on each GPU (DDP)"
    rows: list[tuple[str, ...]] = [
        ("GB a GPU", "weights", "gradients", "optimizer", "activations", "gathered", "other")
    ]
    for one in found.peaks:
        parts = (one.weights, one.gradients, one.optimizer, one.activations, one.gathered)
        cells = [f"{value / 1e9:.2f}" for value in (*parts, one.other)]
        rows.append((f"{count(one.batch, 'image')}: {one.total / 1e9:.2f}", *cells))
    carried = ", ".join(f"{kind} {size / 1e9:.2f} GB" for kind, size in found.collectives.items())
    costs: list[tuple[str, ...]] = [
        ("recipe", "images", "epochs", "exaFLOPs", "Table 6", "GPU-hours", "days")
    ]
    for item in record["pretraining"]:
        paper = item["exaflops_table_6"]
        costs.append(
            (
                item["recipe"],
                f"{item['images'] / 1e6:,.0f} M",
                str(item["epochs"]),
                f"{item['exaflops']:,.0f}",
                "" if paper is None else f"{paper:,}",
                f"{item['gpu_hours']:,.0f}",
                f"{item['days']:,.1f}",
            )
        )
    fits = record["batch_per_gpu"]
    room = f"{fits * record['gpus']:,} in all; 10 % + 2 GB stay free"
    return [
        f"model     {record['model']}, {size} px, {record['parameters'] / 1e6:,.1f} M parameters",
        f"GPUs      {record['gpus']} of {record['gpu_memory_bytes'] / 1e9:.0f} GB, {way}, "
        f"{record['precision']}, AdamW",
        "",
        *table(rows),
        "",
        f"fits      {count(fits, 'image')} a GPU, {room}" if fits else "fits      not one image",
        f"a step    {carried or 'no collectives'}",
        "",
        *table(costs),
    ]
