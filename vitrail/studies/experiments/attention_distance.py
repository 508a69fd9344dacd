"""How far does attention reach? (arXiv 2010.11929, section 4.5, Figures 7 and 11)

Mean attention distance by depth, of ViTs that were trained on more and more images, and of the
hybrid. The distance of uniform attention, which an untrained network is near, stands beside it.

Full scale: ViT-L/16 and R50+ViT-L/16, 128 images of ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.figures.plot import Figure, Series
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.families import HYBRID, VIT, Settings, families, macs
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import (
    Difference,
    Point,
    difference,
    each_arm,
    in_words,
    points,
    series,
)
from vitrail.studies.setup import Setup

DEPTH = 6
CLAIM = (
    "Some heads of the lowest layers attend to most of the image already, others are local; "
    "distance grows with depth; local heads are rarer where a ResNet comes first."
)
LIMITS = (
    "Six layers of three heads on small grids; the paper's figure has 24 layers of 16 heads.",
    "Attention says where tokens are mixed, not what decides.",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x (the ViT at every size, the hybrid at the largest)."""
    found = []
    vit, hybrid = _models(setup)
    ratio = macs(vit, setup) / macs(hybrid, setup)
    for seed in setup.seeds:
        for size in setup.sizes:
            found.append(_cell(setup, VIT, vit, size, seed, setup.examples))
        examples = max(1, int(setup.examples * ratio))
        found.append(_cell(setup, HYBRID, hybrid, setup.sizes[-1], seed, examples))
    return found


def _models(setup: Setup) -> tuple[Settings, Settings]:
    if setup.is_full:
        return {"model.name": "vit_l16"}, {"model.name": "r50_vit_l16"}
    models = families(setup)
    return models[VIT] | {"model.depth": DEPTH}, models[HYBRID] | {"model.depth": DEPTH}


def _cell(setup: Setup, arm: str, model: Settings, size: int, seed: int, examples: int) -> Cell:
    own = {**model, "data.train_pictures": size}
    return from_scratch(
        setup, arm, {"pictures": size}, own, examples, seed, measures=("attention",)
    )


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Distance over depth for every number of images, and nearest and farthest head."""
    done = [row for row in rows if row.values]
    layers = _by_layer(done)
    figures = [_figure(layers, "mean", "Mean attention distance by depth")]
    biggest = [row for row in layers if row.axes["pictures"] == setup.sizes[-1]]
    figures.append(_heads_figure(biggest))
    tables = {
        "Mean distance by layer, px": _table(layers, "mean"),
        "Nearest head by layer, px": _table(layers, "nearest"),
        "Farthest head by layer, px": _table(layers, "farthest"),
    }
    return Outcome(_verdict(setup, layers), figures, tables, {"uniform_px": _uniform(done)})


def _uniform(rows: Sequence[Row]) -> dict[str, float]:
    return {row.arm: row.values["attention/uniform"] for row in rows}


def _by_layer(rows: Sequence[Row]) -> list[Row]:
    """A row a layer, so that layers can be an axis."""
    found = []
    for row in rows:
        names = sorted(key for key in row.values if key.startswith("attention/mean_"))
        for layer, key in enumerate(names):
            end = key.removeprefix("attention/mean_")
            values = {
                kind: row.values[f"attention/{kind}_{end}"]
                for kind in ("mean", "nearest", "farthest")
            } | {"uniform": row.values["attention/uniform"]}
            arm = f"{row.arm}, {row.axes['pictures']:,} images"
            axes = {"layer": layer, "pictures": row.axes["pictures"], "family": row.arm}
            found.append(row.seen_as(arm, values, axes))
    return found


def _figure(layers: Sequence[Row], value: str, title: str) -> Figure:
    lines = points(layers, value, "layer")
    return Figure(
        "attention",
        title,
        "layer",
        "distance, px of the image",
        each_arm(lines),
        note="Mean over heads and 128 held-out images, then over seeds with its 95 % interval.",
    )


def _heads_figure(layers: Sequence[Row]) -> Figure:
    drawn: list[Series] = []
    for kind in ("nearest", "farthest"):
        for arm, line in points(layers, kind, "layer").items():
            drawn.append(series(f"{arm.split(',')[0]}, {kind} head", line, colour=len(drawn)))
    return Figure(
        "heads",
        "The most local and the most global head of each layer",
        "layer",
        "distance, px of the image",
        drawn,
        note="All training images; mean over seeds with its 95 % interval.",
    )


def _table(layers: Sequence[Row], value: str) -> list[list[str]]:
    lines = points(layers, value, "layer")
    depth = max((len(line) for line in lines.values()), default=0)
    return [["", *map(str, range(depth))], *([arm, *map(_px, line)] for arm, line in lines.items())]


def _px(point: Point) -> str:
    if point.low is None or point.high is None:
        return f"{point.mean:.1f}"
    return f"{point.mean:.1f} ({point.low:.1f}-{point.high:.1f})"


def _verdict(setup: Setup, layers: Sequence[Row]) -> Verdict:
    vit = [row for row in layers if row.axes["family"] == VIT]
    sizes = sorted({int(row.axes["pictures"]) for row in vit})
    if not sizes:
        nothing = "No result: too few finished runs."
        return Verdict(nothing, CLAIM, "arXiv 2010.11929, section 4.5, Figure 7", [], LIMITS)
    own = {size: [row for row in vit if row.axes["pictures"] == size] for size in sizes}
    grows = {size: _growth(rows) for size, rows in own.items()}
    evidence = [
        f"ViT, {size:,} images: {_px_words(gap, 'the last layer', 'the first')}."
        for size, gap in grows.items()
    ]
    local = _local(own[sizes[-1]])
    evidence.append(
        f"First layer, {sizes[-1]:,} images: "
        f"{_px_words(local, 'the most local head', 'uniform attention')}."
    )
    evidence += _first_layer(vit, sizes)
    evidence += _hybrid(layers, sizes[-1])
    answer = evidence[len(sizes) - 1]
    if not (local.is_clear and local.mean < 0):
        answer += (
            " But no head of the first layer reaches clearly less far than uniform attention: this "
            "training is too short for attention to have a shape. Use a longer --budget."
        )
    return Verdict(answer, CLAIM, "arXiv 2010.11929, section 4.5, Figure 7", evidence, LIMITS)


def _px_words(gap: Difference, first: str, second: str) -> str:
    return in_words(gap, first, second, unit="px", scale=1.0)


def _growth(rows: Sequence[Row]) -> Difference:
    """Mean distance of the last layer less that of the first."""
    last = max(int(row.axes["layer"]) for row in rows)
    ends = [
        row.seen_as("last" if row.axes["layer"] == last else "first")
        for row in rows
        if row.axes["layer"] in (0, last)
    ]
    return difference(ends, "last", "first", "mean")


def _local(rows: Sequence[Row]) -> Difference:
    """The nearest head of the first layer less uniform attention."""
    first = [row for row in rows if row.axes["layer"] == 0]
    ends = [
        row.seen_as(arm, {"px": row.values[kind]})
        for row in first
        for arm, kind in (("head", "nearest"), ("uniform", "uniform"))
    ]
    return difference(ends, "head", "uniform", "px")


def _first_layer(vit: Sequence[Row], sizes: Sequence[int]) -> list[str]:
    """Local and global heads of the first layer, and what more images change."""
    first = [row for row in vit if row.axes["layer"] == 0]
    most = [row for row in first if row.axes["pictures"] == sizes[-1]]
    near = sum(row.values["nearest"] for row in most) / len(most)
    far = sum(row.values["farthest"] for row in most) / len(most)
    found = [
        f"First layer, {sizes[-1]:,} images: the nearest head reaches {near:.1f} px, "
        f"the farthest {far:.1f} px."
    ]
    if len(sizes) > 1:
        ends = [
            row.seen_as("many" if row.axes["pictures"] == sizes[-1] else "few")
            for row in first
            if row.axes["pictures"] in (sizes[0], sizes[-1])
        ]
        for kind in ("nearest", "mean"):
            gap = difference(ends, "many", "few", kind)
            words = _px_words(gap, f"{sizes[-1]:,} images", f"{sizes[0]:,}")
            found.append(f"First layer, {kind} head: {words}.")
    return found


def _hybrid(layers: Sequence[Row], size: int) -> list[str]:
    first = [
        row.seen_as(str(row.axes["family"]))
        for row in layers
        if row.axes["layer"] == 0 and row.axes["pictures"] == size
    ]
    if {VIT, HYBRID} - {row.arm for row in first}:
        return []
    gap = difference(first, HYBRID, VIT, "nearest")
    return [f"Most local head of the first layer: {_px_words(gap, HYBRID, VIT)}."]


STUDY = Study(
    name="attention",
    title="How far attention reaches, by depth and number of images",
    claim=CLAIM,
    source="arXiv 2010.11929, section 4.5",
    cells=cells,
    outcome=outcome,
    full="ViT-L/16 and R50+ViT-L/16, 128 images of ImageNet",
    has_sizes=True,
)
