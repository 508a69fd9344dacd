"""A graph as torch's own .pt2, for ExecuTorch, AOTInductor and C++.

A .pt2 is a container of pickles: it is written and never read, not even to check it. What is
checked is the program in memory that was written.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import ExportedProgram

from vitrail.export.graph import Graph, batch_sizes
from vitrail.export.onnx_export import not_exportable, quiet


def exported_program(graph: Graph) -> ExportedProgram:
    """`graph` as torch.export has it, for any number of images. Raises ModelError VIT-470."""
    try:
        with quiet():
            return torch.export.export(
                graph, (graph.example(),), dynamic_shapes=batch_sizes(), strict=False
            )
    except (RuntimeError, ValueError, TypeError) as error:  # torch's own errors derive from these
        raise not_exportable(error) from error


def write_torch_export(program: ExportedProgram, path: Path) -> None:
    """Write the .pt2."""
    with quiet():
        torch.export.save(program, path)
