"""int8 with a budget: a model is quantised, measured on held-out images, and layers that hurt go
back to float until the budget is kept, or the export ends.

The budget is more than accuracy: a model that was calibrated with noise keeps its accuracy and
loses its calibration (docs/decisions.md).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import GateError, ModelError
from vitrail.export.check_images import CheckImages
from vitrail.export.equalise import equalise
from vitrail.export.gate import Comparison, Limits, compare
from vitrail.export.graph import Graph
from vitrail.export.likeness import require_alike
from vitrail.export.onnx_export import onnx_bytes
from vitrail.export.quantise import (
    Calibrated,
    Product,
    calibrated,
    constant_folded,
    products_of,
)
from vitrail.export.speed import Table
from vitrail.runtime.onnx_session import OnnxSession
from vitrail.spelling import count

MAX_DROP = 0.5  # percentage points
CALIBRATE = 200  # images
LEAST_SHARE = 0.75  # of the numbers in products that stay int8
FEW = 128  # images that one product at a time is measured on
SHOWN = 12  # layers in a message
Floats = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Int8:
    """What is asked for. images: of training, to calibrate with; max_drop: of accuracy, in
    percentage points; min_speedup: against float32 of the same engine, one image at a time; None:
    it may be slower, and the export says so.
    """

    images: CheckImages
    max_drop: float = MAX_DROP
    min_speedup: float | None = None
    is_equalised: bool = True


@dataclass(frozen=True)
class Layer:
    """A product that alone is int8: how far the probabilities of an image move."""

    name: str
    p99_dp: float
    is_float: bool


@dataclass(frozen=True, eq=False)
class Found:
    """A file that keeps the budget. kept: products that are in float; layers: worst first, measured
    only where the budget was missed with all products in int8.
    """

    content: bytes
    comparison: Comparison
    limits: Limits
    kept: Sequence[Product] = ()
    layers: Sequence[Layer] = ()


@dataclass(frozen=True, eq=False)
class Quantisation:
    """A file in int8, and how it came to be. whole: the same model in float32."""

    found: Found
    equalised: Sequence[str]
    products: Sequence[Product]
    whole: bytes

    @property
    def content(self) -> bytes:
        """Of the file."""
        return self.found.content

    @property
    def limits(self) -> Limits:
        """Its budget."""
        return self.found.limits

    def to_json(self, asked: Int8, engine: str, speed: Table) -> dict[str, Any]:
        """What export.json says of it. Raises GateError VIT-705 for less than `min_speedup`."""
        images, kept = asked.images, self.found.kept
        speedup = speedup_of(engine, speed)
        if asked.min_speedup is not None and not speedup >= asked.min_speedup:
            raise too_slow(speedup, asked.min_speedup)
        return {
            "method": "static QDQ, weights int8 (7 bits) per channel, activations uint8",
            "calibration": {"data": images.data, "split": images.split, "n": len(images)},
            "equalised": list(self.equalised),
            "int8": [one.name for one in self.products if one not in kept],
            "float": [one.name for one in kept],
            "layers": [asdict(one) for one in self.found.layers],
            "speedup": round(speedup, 2),
        }


def budget(max_drop: float, nll: float | None, images: int) -> Limits:
    """The most that int8 may differ. nll: of torch on the check images, in nats. A budget of more
    than half a point widens the other limits in proportion.
    """
    wide = max(1.0, max_drop / MAX_DROP)
    return Limits(
        max_dp=None,
        p99_dp=0.05 * wide,
        changed_with_margin=max(1, math.ceil(0.02 * wide * images)),
        margin=0.0,
        accuracy_drop=max_drop,
        nll_rise=max(0.005, 0.02 * (nll or 0.0)) * wide,
        ece_rise=0.015 * wide,
    )


def quantise(
    graph: Graph,
    record: str,
    before: Floats,
    images: CheckImages,
    asked: Int8,
    *,
    opset: int,
    threads: int,
    say: Say,
) -> Quantisation:
    """`graph` in int8. before: torch's probabilities (n, K) of `images`, which are held out;
    record: the text of model.json.

    Raises GateError VIT-704 where the budget is missed; ModelError VIT-470.
    """
    require_alike(graph, asked.images, images)
    whole = copy.deepcopy(graph)
    equalised = equalise(whole, asked.images.batches()) if asked.is_equalised else []
    content = onnx_bytes(whole, record, opset=opset)
    document = constant_folded(content)
    named = {name: value.detach().numpy() for name, value in whole.model.named_parameters()}
    products = products_of(document, named)
    if not products:
        raise nothing_to_quantise()
    say(f"calibrating with {count(len(asked.images), 'image')} ({asked.images.data})")
    with calibrated(document, products, asked.images.batches()) as made:
        search = Search(made, before, images, graph.scores, threads, say)
        found = search.run(asked.max_drop)
    return Quantisation(found, equalised, products, content)


@dataclass(frozen=True, eq=False)
class Search:
    """Which products can be int8: all of them, or all but the fewest of the 1, 2, 4 ... worst."""

    calibrated: Calibrated
    before: Floats
    images: CheckImages
    scores: Literal["softmax", "sigmoid"]
    threads: int
    say: Say

    def run(self, max_drop: float) -> Found:
        """Raises GateError VIT-704."""
        content, comparison = self.measured(())
        nll = None if comparison.nll is None else comparison.nll[0]
        limits = budget(max_drop, nll, comparison.images)
        missed = comparison.missed(limits)
        if not missed:
            return Found(content, comparison, limits)
        self.say(f"int8 misses its budget ({missed[0]}): measuring one layer at a time")
        ranked = self.ranked()
        for num_float in self.counts([one for one, _ in ranked]):
            kept = [one for one, _ in ranked[:num_float]]
            self.say(f"{num_float} of {len(ranked)} layers back to float")
            content, comparison = self.measured(kept)
            if not comparison.missed(limits):
                return Found(content, comparison, limits, kept, layers_of(ranked, num_float))
        raise missed_budget(comparison, limits, layers_of(ranked, 0))

    def measured(
        self, kept: Sequence[Product], most: int | None = None
    ) -> tuple[bytes, Comparison]:
        """The file in which `kept` stay in float, on the first `most` images."""
        content = self.calibrated.quantised(kept)
        session = OnnxSession(content, "model.int8.onnx", threads=self.threads)
        places = self.images.spread(most or len(self.images))
        images = self.images.at(places)
        after = np.concatenate([session(pixels)[1] for pixels in images.batches()])
        return content, compare(self.before[places], after, images.labels, scores=self.scores)

    def ranked(self) -> list[tuple[Product, float]]:
        """Every product, alone in int8, and how far it moves probabilities; worst first."""
        found, products = [], self.calibrated.products
        for product in products:
            others = [one for one in products if one != product]
            found.append((product, self.measured(others, FEW)[1].p99_dp))
        return sorted(found, key=lambda pair: -pair[1])

    def counts(self, ranked: Sequence[Product]) -> list[int]:
        """How many of the worst to try in float: 1, 2, 4 ... while enough numbers stay int8."""
        sizes = np.cumsum([one.numbers for one in ranked])
        most = int((sizes <= (1 - LEAST_SHARE) * sizes[-1]).sum())
        return sorted({min(2**power, most) for power in range(most.bit_length() + 1)} - {0})


def layers_of(ranked: Sequence[tuple[Product, float]], num_float: int) -> list[Layer]:
    """The table of layers, of which the first `num_float` stay in float."""
    return [
        Layer(one.name, round(p99, 5), index < num_float) for index, (one, p99) in enumerate(ranked)
    ]


def speedup_of(engine: str, speed: Table) -> float:
    """Images per second in int8, one at a time on one thread, next to the engine's float32."""
    rates = speed[min(speed)]
    return rates[f"{engine} int8"][1] / rates[f"{engine} float32"][1]


def missed_budget(found: Comparison, limits: Limits, layers: Sequence[Layer]) -> GateError:
    """VIT-704, with the layers that hurt most."""
    lines = [f"  {one}" for one in found.missed(limits)]
    lines.append("  99th percentile of differences with one layer in int8:")
    lines += [f"    {one.name}: {one.p99_dp:.3g}" for one in layers[:SHOWN]]
    return GateError(
        "VIT-704",
        f"int8 loses too much on {count(found.images, 'image')}, even with a quarter of the "
        "weights in float; nothing is written.\n" + "\n".join(lines),
        hint="Allow more: --max-drop 1; calibrate with more images: --calibrate 500; or leave "
        "--precision float32.",
        details={
            "parity": found.to_json(),
            "limits": asdict(limits),
            "layers": [asdict(one) for one in layers],
        },
    )


def too_slow(speedup: float, wanted: float) -> GateError:
    """VIT-705."""
    return GateError(
        "VIT-705",
        f"int8 is {speedup:.2f} times as fast as float32 here, one image at a time; --min-speedup "
        f"asks for {wanted:g}. Nothing is written.",
        hint="Use float32, or leave --min-speedup out: the file is four times smaller.",
        details={"speedup": speedup, "min_speedup": wanted},
    )


def nothing_to_quantise() -> ModelError:
    """VIT-470 for a model whose products are the first and the last one."""
    return ModelError(
        "VIT-470",
        "this model has no product that can be int8: the first and the last stay in float.",
        hint="--precision float32",
    )
