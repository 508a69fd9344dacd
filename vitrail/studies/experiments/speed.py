"""How fast are the models, and how much memory do they take? (arXiv 2010.11929, appendix D.5,
Figure 12)

Nothing is trained: named models at 224 px and the three small families at the data's own size are
timed, predicting and in training steps, each repeat in a process of its own (`timing.py`). A seed
is a repeat. What can be compared across models of different cost is speed per multiply-add, and
memory an image.

Full scale: ViT and BiT sizes at 64 to 512 px on a TPUv3 core, largest batch that fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.families import BIT, HYBRID, RESNET, VIT, families, macs
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import difference, points, series
from vitrail.studies.setup import Setup

PREDICT, TRAIN, MEMORY = "predict/images_per_sec", "train/images_per_sec", "train/bytes"
NAMED = {
    VIT: ("vit_ti16", "vit_s16", "vit_b32"),
    BIT: ("bit_r26x1", "bit_r50x1"),
    HYBRID: ("r_vit_ti16", "r26_vit_s32"),
}
FULL = {
    VIT: ("vit_b32", "vit_b16", "vit_l32", "vit_l16", "vit_h14"),
    BIT: ("bit_r50x1", "bit_r50x2", "bit_r101x1", "bit_r152x2", "bit_r152x4"),
    HYBRID: ("r50_vit_b32", "r50_vit_b16", "r50_vit_l32", "r50_vit_l16"),
}
# Pairs of about equal multiply-adds; against a ResNet.
PAIRS = (("vit_s16", "bit_r50x1"), ("vit_b32", "bit_r50x1"), ("r26_vit_s32", "bit_r50x1"))
REFERENCE = "vit_s16"
PUBLISHED = {"model.channels": 3, "model.num_classes": 1000}
BATCH, FULL_BATCH, SMALL_BATCH = 4, 64, 64  # at 224 px, there on an accelerator, small images
CLAIM = (
    "ViTs are about as fast as ResNets of similar cost, and large ViTs are clearly more "
    "memory-efficient."
)
LIMITS = (
    "The paper has a TPUv3 core and batches as large as fit; a processor's caches and libraries "
    "favour other shapes.",
    "Intervals are over repeats on one machine with one version of torch, not over machines; what "
    "else runs on the machine is in them.",
    "Memory is of float32 training with AdamW, weights and moments included; the part "
    "that grows with the batch is by formula what a step keeps until its gradients are there.",
)


def cells(setup: Setup) -> list[Cell]:
    """Repeats x models; the reference, ViT-S/16, is shown `setup.examples` images, others as many
    as take the same multiply-adds.
    """
    models = _models(setup)
    reference = macs({"model.name": REFERENCE, "data.image_size": (224, 224), **PUBLISHED}, setup)
    return [
        _cell(setup, arm, name, model, seed, reference)
        for seed in setup.seeds
        for arm, name, model in models
    ]


def _models(setup: Setup) -> list[tuple[str, str, dict[str, Any]]]:
    """(arm, name, settings)."""
    batch = FULL_BATCH if setup.is_full or setup.device != "cpu" else BATCH
    found: list[tuple[str, str, dict[str, Any]]] = [
        (
            arm,
            name,
            {"model.name": name, **PUBLISHED, "data.image_size": (224, 224), "batch_size": batch},
        )
        for arm, names in (FULL if setup.is_full else NAMED).items()
        for name in names
    ]
    if setup.is_full:
        return found
    own = {"model.channels": setup.facts.channels, "model.num_classes": setup.num_classes}
    for arm, model in families(setup).items():
        fields = {key: value for key, value in model.items() if key.startswith("model.")}
        small = {**fields, **own, "data.image_size": setup.image_size, "batch_size": SMALL_BATCH}
        found.append((arm, f"small {arm}", small))
    return found


def _cell(
    setup: Setup, arm: str, name: str, model: dict[str, Any], seed: int, reference: int
) -> Cell:
    cost = macs(model, setup)
    settings = {
        **model,
        "device": setup.device,
        "threads": setup.threads,
        "precision": "float32" if setup.device == "cpu" else "auto",
        "examples": max(1, int(setup.examples * reference / cost)),
    }
    axes: dict[str, Axis] = {
        "model": name,
        "px": int(model["data.image_size"][0]),
        "gigamacs": float(f"{cost / 1e9:.3g}"),
    }
    return Cell(arm, axes, settings, seed, measures=("speed",))


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Speed over multiply-adds, a table of everything, and pairs of about equal cost."""
    figures = [
        _figure(rows, "speed", PREDICT, "prediction"),
        _figure(rows, "training-speed", TRAIN, "training steps"),
    ]
    tables = {"Images a second and memory, mean of the repeats": _table(rows)}
    return Outcome(_verdict(rows), figures, tables, {})


def _figure(rows: Sequence[Row], key: str, cost: str, what: str) -> Figure:
    lines = points(_with(rows, "speed", lambda row: row.cost[cost]), "speed", "gigamacs")
    return Figure(
        key,
        f"Speed of {what}",
        "billion multiply-adds an image",
        "images a second",
        [
            series(arm, line, colour=place, kind="marks")
            for place, (arm, line) in enumerate(lines.items())
        ],
        log_x=True,
        log_y=True,
        note="Mean of the repeats with its 95 % interval (Student).",
    )


def _with(rows: Sequence[Row], name: str, value: Callable[[Row], float]) -> list[Row]:
    """Rows with one value that is made of their costs."""
    return [replace(row, values={name: value(row)}) for row in rows if PREDICT in row.cost]


def _table(rows: Sequence[Row]) -> list[list[str]]:
    """Models down, by cost."""
    head = [
        "model",
        "px",
        "G mult-adds",
        "predict/s",
        "train/s",
        "G mult-adds/s predicting",
        "MB training",
        "batch",
        "MB an image",
    ]
    groups: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        if PREDICT in row.cost:
            place = (float(row.axes["gigamacs"]), str(row.axes["model"]))
            groups.setdefault(place, []).append(row)
    lines = [head]
    for (gigamacs, name), found in sorted(groups.items()):
        predict, train, peak = (_mean(found, cost) for cost in (PREDICT, TRAIN, MEMORY))
        each = found[0].values["activation_bytes"] / 1e6
        lines.append(
            [
                name,
                str(found[0].axes["px"]),
                f"{gigamacs:.3g}",
                f"{predict:.3g}",
                f"{train:.3g}",
                f"{predict * gigamacs:.3g}",
                f"{peak / 1e6:,.0f}",
                f"{found[0].cost['batch_size']:.0f}",
                f"{each:.3g}",
            ]
        )
    return lines


def _mean(rows: Sequence[Row], cost: str) -> float:
    return math.fsum(row.cost[cost] for row in rows) / len(rows)


def _verdict(rows: Sequence[Row]) -> Verdict:
    pairs = [
        *PAIRS,
        (f"small {VIT}", f"small {RESNET}"),
        (f"small {VIT}", f"small {BIT}"),
        (f"small {HYBRID}", f"small {BIT}"),
    ]
    said = [sentences for one, other in pairs if (sentences := _compared(rows, one, other))]
    return Verdict(
        answer=" ".join(said[0]) if said else "Too few models are timed to compare any.",
        claim=CLAIM,
        source="arXiv 2010.11929, section 4.4 and appendix D.5, Figure 12",
        evidence=[sentence for sentences in said for sentence in sentences],
        limits=LIMITS,
    )


def _compared(rows: Sequence[Row], one: str, other: str) -> list[str]:
    """Speed per multiply-add and memory of two models."""
    both = [
        replace(row, arm=str(row.axes["model"]), axes={})
        for row in rows
        if row.axes.get("model") in (one, other) and PREDICT in row.cost
    ]
    if {row.arm for row in both} != {one, other}:
        return []
    found = {row.arm: row.values for row in both}
    predicts = _times(both, one, other, lambda row: row.cost[PREDICT] * row.values["macs"])
    trains = _times(both, one, other, lambda row: row.cost[TRAIN] * row.values["macs"])
    each = found[one]["activation_bytes"] / found[other]["activation_bytes"]
    peak = _times(both, one, other, lambda row: row.cost[MEMORY])
    batch = next(row.cost["batch_size"] for row in rows if row.axes.get("model") == one)
    return [
        f"{one} against {other}, per multiply-add: prediction is {predicts} as fast, a training "
        f"step {trains}.",
        f"Its training takes {peak} the memory in batches of {batch:.0f}; the part that grows with "
        f"the batch is {each:.2g} times that of {other}.",
    ]


def _times(rows: Sequence[Row], one: str, other: str, value: Callable[[Row], float]) -> str:
    """The ratio of two models with its interval over repeats: 1.4 times (1.2 to 1.6, 3 repeats)."""
    gap = difference(_with(rows, "log", lambda row: math.log(value(row))), one, other, "log")
    ratio = f"{math.exp(gap.mean):.2g}"
    if gap.low is None or gap.high is None:
        return f"{ratio} times (one repeat: no interval)"
    ends = f"{math.exp(gap.low):.2g} to {math.exp(gap.high):.2g}, {gap.num} repeats"
    return f"{ratio} times ({ends}{'' if gap.is_clear else ': no evidence of a difference'})"


STUDY = Study(
    name="speed",
    title="Speed and memory of the models",
    claim=CLAIM,
    source="arXiv 2010.11929, appendix D.5",
    cells=cells,
    outcome=outcome,
    full="ViT, BiT and hybrid sizes of Table 6 at 224 px in batches of 64 on an accelerator",
    is_alone=True,
)
