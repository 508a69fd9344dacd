"""Outliers of a LayerNorm, shared with the dense layer that reads it: the same function of images.

A channel that a LayerNorm makes a hundred times as large as the others takes the whole range of
eight bits. Each channel is divided by a number, and the weights that read it are multiplied by the
same number, so that activations and weights are about as hard to round (SmoothQuant, arXiv
2211.10438, section 4.1, with alpha = 0.5; here the factor goes into the LayerNorm, and a LayerNorm
that anything else reads is left as it is).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.export.graph import Graph
from vitrail.models.vit.model import ViT

ALPHA = 0.5
TINY = 1e-8
Pair = tuple[str, str]  # a LayerNorm and the dense layer that alone reads it


def equalise(graph: Graph, batches: Iterable[NDArray[np.float32]]) -> list[str]:
    """Change the weights of `graph.model`; its outputs stay, but for rounding. batches: pixels
    (B, C, H, W). Returns the names of the LayerNorms.
    """
    pairs = pairs_of(graph.model)
    largest = largest_outputs(graph, [norm for norm, _ in pairs], batches) if pairs else {}
    for norm, dense in pairs:
        _share(graph.model.get_submodule(norm), graph.model.get_submodule(dense), largest[norm])
    return [norm for norm, _ in pairs]


def pairs_of(model: nn.Module) -> list[Pair]:
    """Of a Vision Transformer; none of another network, whose norms are followed by ReLU."""
    return list(_pairs(model)) if isinstance(model, ViT) else []


def _pairs(model: ViT) -> Iterator[Pair]:
    order = model.config.block
    for index in range(model.config.depth):
        block = f"blocks.{index}"
        if order in ("pre", "between"):
            yield f"{block}.norm1", f"{block}.attn.qkv"
        if order == "pre":  # otherwise the residual sum goes through norm2
            yield f"{block}.norm2", f"{block}.mlp.fc1"
    if model.config.pool == "map":
        yield "attn_pool.norm", "attn_pool.mlp.fc1"


def largest_outputs(
    graph: Graph, names: list[str], batches: Iterable[NDArray[np.float32]]
) -> dict[str, Tensor]:
    """The largest absolute output of each channel of these LayerNorms, (D,) each."""
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        most = output.abs().flatten(0, -2).amax(dim=0)
        found[name] = torch.maximum(found.get(name, most), most)

    hooks = [
        graph.model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: keep(name, output)
        )
        for name in names
    ]
    try:
        with torch.inference_mode():
            for pixels in batches:
                graph(torch.from_numpy(pixels))
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def _share(norm: nn.Module, dense: nn.Module, largest: Tensor) -> None:
    """Between a LayerNorm (D,) and a dense layer (M, D)."""
    weight = dense.get_parameter("weight")
    reach = weight.abs().amax(dim=0) + TINY  # (D,)
    factor = (largest + TINY) ** ALPHA / reach ** (1 - ALPHA)
    norm.get_parameter("weight").div_(factor)
    norm.get_parameter("bias").div_(factor)
    weight.mul_(factor)
