"""An ONNX file in static int8: which products are computed so, and the file that does it.

Weights are int8 with a scale for each output channel, what multiplies them is uint8 with a fixed
scale, found on calibration images: an answer does not depend on the other images of a batch, as it
does where scales are taken from each batch. Patch embedding and head, LayerNorm, softmax, products
without weights and residual sums stay in float: they cost accuracy and hardly any time.

Weights have 7 bits: processors without VNNI add two products in 16 bits, which 8 bits overflow
without a word, and a file is used on other machines than the one that wrote it.
"""

from __future__ import annotations

import ast
import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.export.graph import INPUT
from vitrail.export.onnx_export import RECORD_KEY, SCOPES, check, quiet

PRODUCTS = ("MatMul", "Conv")
FOLDED = 2**31  # bytes of a constant that is computed beforehand, at most
RANGES = "ranges.json"
Pixels = NDArray[np.float32]
Parameters = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Product:
    """A product with weights. node: its name in the graph; name: of the layer, for people; numbers:
    how many weights it has.
    """

    node: str
    name: str
    numbers: int


def constant_folded(content: bytes) -> Any:
    """The graph of a file, with weights computed that follow from others: only what is stored can
    be stored as int8.
    """
    import onnx
    from onnxscript import optimizer

    with quiet():
        return optimizer.optimize(
            onnx.load_from_string(content),
            onnx_shape_inference=False,
            input_size_limit=FOLDED,
            output_size_limit=FOLDED,
        )


def products_of(document: Any, parameters: Parameters) -> list[Product]:
    """Every product with weights but the first and the last ones, in order. parameters: of the
    model, by name, to name them.
    """
    graph = document.graph
    weights = {one.name: one for one in graph.initializer}
    found = [node for node in graph.node if node.op_type in PRODUCTS and node.input[1] in weights]
    edges = _first_and_last(graph)
    return [
        Product(
            node.name,
            _name_of(node, _array(weights[node.input[1]]), parameters),
            int(np.prod(weights[node.input[1]].dims)),
        )
        for node in found
        if node.name not in edges
    ]


def _array(tensor: Any) -> NDArray[np.float32]:
    import onnx

    return np.asarray(onnx.numpy_helper.to_array(tensor), np.float32)


def _first_and_last(graph: Any) -> set[str]:
    """Names of products that no other one comes before, and of those that none comes behind."""
    products = (*PRODUCTS, "Gemm")
    behind, before = set[str](), set[str]()  # tensors behind a product, and before one
    edges = set[str]()
    for nodes, reached, is_forward in (
        (graph.node, behind, True),
        (reversed(graph.node), before, False),
    ):
        for node in nodes:
            source, target = (node.input, node.output) if is_forward else (node.output, node.input)
            is_reached = any(name in reached for name in source)
            is_product = node.op_type in products
            if is_product and not is_reached:
                edges.add(node.name)
            if is_product or is_reached:
                reached.update(target)
    return edges


def _name_of(node: Any, weight: NDArray[np.float32], parameters: Parameters) -> str:
    """The layer whose weights these are, with its rows where they are a part of it; otherwise the
    module that computes them.
    """
    scopes = next((one.value for one in node.metadata_props if one.key == SCOPES), "[]")
    named = [name for name in ast.literal_eval(scopes)[:-1] if name.startswith("model.")]
    scope = named[-1].removeprefix("model.") if named else ""
    rows = weight.T if weight.ndim == 2 else weight.reshape(len(weight), -1)
    for name, values in parameters.items():
        if not name.startswith(scope) or values.ndim < 2 or values[0].size != rows.shape[1]:
            continue
        flat = values.reshape(len(values), -1)
        starts = np.flatnonzero((flat == rows[0]).all(axis=1))
        for start in starts[:1]:
            layer = name.removesuffix(".weight")
            is_whole = len(flat) == len(rows)
            return layer if is_whole else f"{layer}[{start}:{start + len(rows)}]"
    return scope or str(node.name)


@contextlib.contextmanager
def calibrated(
    document: Any, products: Sequence[Product], batches: Iterable[Pixels]
) -> Iterator[Calibrated]:
    """The ranges of all activations on `batches`, pixels (B, C, H, W), are found once; then any
    choice of `products` can be quantised.
    """
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    add_pre_process_metadata(document)  # or the quantiser logs that it was not done
    with TemporaryDirectory(prefix="vitrail-int8-") as folder:
        yield Calibrated(document, products, _Images(iter(batches)), Path(folder))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """`document` with the ranges of its activations, which are kept in `folder`."""

    document: Any
    products: Sequence[Product]
    images: _Images
    folder: Path

    def quantised(self, kept: Collection[Product] = ()) -> bytes:
        """The file in which all products but `kept` are int8."""
        nodes = [one.node for one in self.products if one not in kept]
        return _quantised(self.document, nodes, self.images, self.folder / RANGES)


@dataclass(frozen=True)
class _Images:
    """What onnxruntime asks for batches; asked once, as the ranges are kept."""

    batches: Iterator[Pixels]

    def get_next(self) -> dict[str, Pixels] | None:
        pixels = next(self.batches, None)
        return None if pixels is None else {INPUT: pixels}


def _quantised(document: Any, nodes: Sequence[str], images: _Images, ranges: Path) -> bytes:
    """The file in which these products are int8."""
    import onnx
    from onnxruntime import quantization as ort

    place = ranges.with_name("quantised.onnx")
    ort.quantize_static(
        copy.deepcopy(document),
        place,
        images,
        op_types_to_quantize=[*PRODUCTS, "Relu"],
        nodes_to_quantize=[*nodes, *_relus_behind(document.graph, nodes)],
        per_channel=True,
        reduce_range=True,
        activation_type=ort.QuantType.QUInt8,
        weight_type=ort.QuantType.QInt8,
        calibration_cache_path=ranges,
        extra_options={
            "MatMulConstBOnly": True,
            # A product's sum stays in float; that of a convolution is rounded, or it is not
            # computed in int8 at all.
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
        },
    )
    written = onnx.load(place)
    _clean(written, document)
    check(written)
    content: bytes = written.SerializeToString()
    return content


def _relus_behind(graph: Any, nodes: Sequence[str]) -> list[str]:
    """ReLUs that follow these convolutions: they become a bound of what is rounded."""
    outputs = {node.output[0] for node in graph.node if node.name in nodes}
    return [node.name for node in graph.node if node.op_type == "Relu" and node.input[0] in outputs]


def _clean(written: Any, document: Any) -> None:
    """Give back what the quantiser replaced; take out what it noted, and notes that cost room."""
    del written.graph.value_info[:]
    for node in written.graph.node:
        del node.metadata_props[:]
    used = {node.domain for node in written.graph.node}
    kept = [one for one in written.opset_import if one.domain in used | {"", "ai.onnx"}]
    del written.opset_import[:]
    written.opset_import.extend(kept)
    entries = [one for one in document.metadata_props if one.key == RECORD_KEY]
    del written.metadata_props[:]
    written.metadata_props.extend(entries)
    written.producer_name = document.producer_name
    written.producer_version = document.producer_version
