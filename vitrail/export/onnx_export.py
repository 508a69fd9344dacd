"""A graph as one ONNX file of standard operators: torch.export, then onnxscript's decompositions.

The file holds its weights and, under the key `vitrail.record`, the text of model.json: it is enough
alone. What the exporter notes of the source code (paths of this machine) is taken out; the names of
modules stay, because without them nobody can say which layer a node is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitrail.errors import ModelError, lacking
from vitrail.export.graph import Graph, NormalisedGraph, batch_sizes

OPSET = 20
MOST_BYTES = 2**31 - 1  # of a protobuf message
RECORD_KEY = "vitrail.record"
SCOPES = "pkg.torch.onnx.name_scopes"


def require_exporter() -> None:
    """Raise EnvironmentFault VIT-520 without onnx or onnxscript."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise lacking("writing ONNX", f"{error.name}", "export") from error


def onnx_bytes(graph: Graph | NormalisedGraph, record: str, *, opset: int = OPSET) -> bytes:
    """`graph` as the content of an .onnx file; record: the text of model.json.

    Raises EnvironmentFault VIT-520, ModelError VIT-470 where it cannot be expressed, VIT-471 where
    what came out is not one file of standard operators with any number of images.
    """
    require_exporter()
    document = traced(graph, opset)
    clean(document)
    document.producer_name = "vitrail"
    entry = document.metadata_props.add()
    entry.key, entry.value = RECORD_KEY, record
    check(document)
    content: bytes = document.SerializeToString()
    return content


def traced(graph: Graph | NormalisedGraph, opset: int) -> Any:
    """The ModelProto of `graph`."""
    try:
        # In the plain form of attention, because that with a mask has strides of its own, which
        # its decomposition does not have (torch 2.13: relative positions).
        with quiet(), sdpa_kernel(SDPBackend.MATH):
            program = torch.onnx.export(
                graph,
                (graph.example(),),
                dynamo=True,
                opset_version=opset,
                external_data=False,
                input_names=[graph.input_name],
                output_names=list(graph.output_names),
                dynamic_shapes=batch_sizes(),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise not_exportable(error) from error
    assert program is not None
    return program.model_proto


def not_exportable(error: Exception) -> ModelError:
    """VIT-470, with the first line of what the exporter says."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    return ModelError(
        "VIT-470",
        f"this model cannot be exported: {line[:300]}",
        hint="Another target: vitrail export --list. Please report it with the model's model.json.",
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of operators that were not asked for, and of its own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def clean(document: Any) -> None:
    """Take out notes on how the graph was made; of a node its modules stay."""
    graph = document.graph
    for item in (*graph.initializer, *graph.value_info, *graph.input, *graph.output, graph):
        del item.metadata_props[:]
    for node in graph.node:
        kept = [(one.key, one.value) for one in node.metadata_props if one.key == SCOPES]
        del node.metadata_props[:]
        for key, value in kept:
            entry = node.metadata_props.add()
            entry.key, entry.value = key, value
        node.doc_string = ""


def check(document: Any) -> None:
    """Raise ModelError VIT-470 for more than 2 GB; VIT-471 for data outside the file, operators
    outside ai.onnx, or a fixed number of images.
    """
    import onnx

    size = document.ByteSize()
    if size > MOST_BYTES:
        raise ModelError(
            "VIT-470",
            f"this model needs {size:,} bytes; one ONNX file holds {MOST_BYTES:,}.",
            hint="A smaller model, or --to torch-export.",
        )
    onnx.checker.check_model(document, full_check=True)
    faults = []
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in document.graph.initializer):
        faults.append("its weights are in another file")
    domains = {one.domain for one in document.opset_import} | {
        n.domain for n in document.graph.node
    }
    if others := sorted(domains - {"", "ai.onnx"}):
        faults.append(f"it has operators of {', '.join(others)}")
    if not document.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        faults.append("its number of images is fixed")
    if faults:
        raise ModelError(
            "VIT-471",
            f"the exported file cannot be used: {'; '.join(faults)}.",
            hint="A fault of vitrail: please report it with the command.",
        )
