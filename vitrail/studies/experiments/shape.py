"""Deeper, wider or finer? (arXiv 2010.11929, appendix D.2, Figure 8)

One dimension of a base model at a time, and all together, trained equally long; accuracy over
training compute. Depth and width, the MLP, and the patch (smaller patches: more tokens, hardly any
more weights).

Full scale: 8 layers, width 1024, MLP 2048, patch 32 on JFT, each halved and doubled, depth up to 64
layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.figures.plot import Figure, Series
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell, short
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.comparison import shown
from vitrail.studies.experiments.families import macs, small_vit
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import Difference, difference, in_words, points
from vitrail.studies.setup import Setup

BASE = "base"
DIMENSIONS = ("depth", "width", "mlp", "patch", "all")
DOUBLE = 2.0
FACTORS = (0.5, DOUBLE)
FULL_FACTORS = {"depth": (*FACTORS, 4.0, 8.0)}
HEAD_DIM, FULL_HEAD_DIM = 32, 64
CLAIM = (
    "Depth brings the largest improvements (diminishing beyond 16 layers), width the smallest; "
    "smaller patches help without more weights; scaling everything together is robust."
)
LIMITS = (
    "Models of two to eight layers stand for models of up to 64; at this length of training "
    "large models are far from done, so that scaling pays less than it would.",
    "Each dimension at two factors, over one base model.",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x (the base, every dimension halved and doubled)."""
    return [
        from_scratch(setup, arm, {"factor": factor}, model, setup.examples, seed)
        for seed in setup.seeds
        for arm, factor, model in shapes(setup)
    ]


def shapes(setup: Setup) -> list[tuple[str, float, dict[str, Any]]]:
    """(dimension, factor, settings) of every model."""
    base = _base(setup)
    found: list[tuple[str, float, dict[str, Any]]] = [(BASE, 1.0, _model(base, setup))]
    for name in DIMENSIONS:
        for factor in FULL_FACTORS.get(name, FACTORS) if setup.is_full else FACTORS:
            scaled = _scaled(base, name, factor, setup)
            if scaled is not None:
                found.append((name, factor, _model(scaled, setup)))
    return found


def _base(setup: Setup) -> dict[str, int]:
    """Depth, width, MLP and patch."""
    if setup.is_full:
        return {"depth": 8, "width": 1024, "mlp": 2048, "patch": 32}
    small = small_vit(setup.image_size)
    patch = int(str(small["model.name"]).removeprefix("vit_ti"))
    return {
        "depth": small["model.depth"],
        "width": small["model.width"],
        "mlp": small["model.mlp_dim"],
        "patch": patch,
    }


def _scaled(
    base: Mapping[str, int], name: str, factor: float, setup: Setup
) -> dict[str, int] | None:
    """`base` with a dimension at `factor` times its size; None where that cannot be.

    A patch grows finer with the factor: half the side at 2. "all" has the cost of a doubled depth
    and width between them: every dimension but the patch at the root of the factor.
    """
    found = dict(base)
    if name == "patch":
        found["patch"] = _patch(base["patch"], factor, setup)
        return found if found["patch"] != base["patch"] else None
    names = ("depth", "width", "mlp") if name == "all" else (name,)
    power = factor**0.5 if name == "all" else factor
    for one in names:
        step = 1 if one == "depth" else _head_dim(setup)
        found[one] = max(step, round(base[one] * power / step) * step)
    return found if found != dict(base) else None


def _patch(patch: int, factor: float, setup: Setup) -> int:
    """The divisor of the image nearest to patch / factor, on that side of it."""
    size = setup.image_size
    divisors = [p for p in range(1, min(size) + 1) if not any(side % p for side in size)]
    fitting = [p for p in divisors if (p < patch) == (factor > 1) and p != patch]
    return min(fitting, key=lambda p: abs(p - patch / factor), default=patch)


def _model(shape: Mapping[str, int], setup: Setup) -> dict[str, Any]:
    model = {} if setup.is_full else small_vit(setup.image_size)
    return {
        **model,
        "model.name": f"vit_ti{shape['patch']}",
        "model.depth": shape["depth"],
        "model.width": shape["width"],
        "model.mlp_dim": shape["mlp"],
        "model.num_heads": max(1, shape["width"] // _head_dim(setup)),
    }


def _head_dim(setup: Setup) -> int:
    """Width of a head; other widths are multiples of it."""
    return FULL_HEAD_DIM if setup.is_full else HEAD_DIM


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Accuracy over training compute, and what each doubling brings."""
    done = [row for row in rows if row.values]
    compute = {
        (arm, factor): 6 * macs(model, setup) * setup.examples
        for arm, factor, model in shapes(setup)
    }
    return Outcome(
        _verdict(done), [_figure(done, compute)], {"Test top-1": _table(done, compute)}, {}
    )


def _table(rows: Sequence[Row], compute: Mapping[tuple[str, float], int]) -> list[list[str]]:
    lines = points(rows, "test/top1", "factor")
    weights = {(row.arm, row.axes["factor"]): row.values["parameters"] for row in rows}
    body = [
        [
            arm,
            short(point.x),
            shown(point),
            f"{weights[arm, point.x] / 1e6:.2f} M",
            f"{compute[arm, float(point.x)] / 1e12:.2f}",
        ]
        for arm, line in lines.items()
        for point in line
    ]
    return [["dimension", "factor", "test top-1", "weights", "training TFLOPs"], *body]


def _figure(rows: Sequence[Row], compute: Mapping[tuple[str, float], int]) -> Figure:
    lines = points(rows, "test/top1", "factor")
    base = lines.get(BASE, [])
    drawn = []
    for place, (arm, line) in enumerate(lines.items()):
        path = sorted([*line, *(base if arm != BASE else [])], key=lambda one: float(one.x))
        places = [compute[one.arm, float(one.x)] / 1e12 for one in path]
        drawn.append(
            Series(
                arm,
                places,
                [one.mean for one in path],
                [one.mean if one.low is None else one.low for one in path],
                [one.mean if one.high is None else one.high for one in path],
                "marks" if arm == BASE else "line",
                place,
            )
        )
    return Figure(
        "shape",
        "Test top-1 over training compute, one dimension at a time",
        "training TFLOPs",
        "top-1",
        drawn,
        log_x=True,
        note="Every line runs through the base model; mean over seeds with its 95 % interval.",
    )


def _verdict(rows: Sequence[Row]) -> Verdict:
    gains = {
        name: _gain(rows, name)
        for name in DIMENSIONS
        if any(row.arm == name and row.axes["factor"] == DOUBLE for row in rows)
        and any(row.arm == BASE for row in rows)
    }
    ordered = sorted(gains.items(), key=lambda one: -one[1].mean)
    evidence = [f"Doubled: {in_words(gap, name, BASE)}." for name, gap in ordered]
    answer = "No result: too few finished runs."
    if ordered:
        listed = ", ".join(f"{name} {100 * gap.mean:+.1f}" for name, gap in ordered)
        answer = f"Points gained by doubling a dimension at this scale: {listed}."
        unclear = [name for name, gap in ordered if not gap.is_clear]
        if unclear:
            answer += f" Within the noise of seeds: {', '.join(unclear)}."
    return Verdict(answer, CLAIM, "arXiv 2010.11929, appendix D.2, Figure 8", evidence, LIMITS)


def _gain(rows: Sequence[Row], name: str) -> Difference:
    chosen = [
        row for row in rows if row.arm == BASE or (row.arm == name and row.axes["factor"] == DOUBLE)
    ]
    return difference(chosen, name, BASE, "test/top1", besides=("factor",))


STUDY = Study(
    name="shape",
    title="Depth, width, MLP, patch, or all together",
    claim=CLAIM,
    source="arXiv 2010.11929, appendix D.2",
    cells=cells,
    outcome=outcome,
    full="8 layers, width 1024, MLP 2048, patch 32 on JFT; each halved and doubled, 64 layers",
)
