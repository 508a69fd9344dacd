"""Low-rank adapters (LoRA, arXiv 2106.09685, section 4.1) on the dense layers of the blocks.

W x becomes W x + (alpha / rank) B A x. W stays as it is; A (rank, in) starts random, B (out, rank)
at zero, so that the first output is that of the model one started from. Which layers: query, key
and value (one matrix here), the attention's projection, and both layers of the MLP. When the model
is saved the product is added to W: what remains is an ordinary model.

The gradient reaches A and B through two thin products; none as large as W is formed, which is what
makes adapters cheaper to train than W.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

from vitrail.config import LoraConfig
from vitrail.keyed_random import mix
from vitrail.models.layers.matmul import linear
from vitrail.run_model import with_adapter

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


class LoraLinear(nn.Module):
    """A dense layer with an adapter. Parameters: weight, bias (the layer's own), lora_a, lora_b."""

    def __init__(self, layer: nn.Linear, config: LoraConfig, seed: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = config.alpha / config.rank
        num_out, num_in = layer.weight.shape
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(num_in)  # the authors' kaiming_uniform_(a=sqrt(5))
        a = torch.empty(config.rank, num_in).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(num_out, config.rank))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in). Returns (..., out)."""
        low = linear(x, self.lora_a) * self.scale  # (..., rank)
        return linear(x, self.weight, self.bias) + linear(low, self.lora_b)

    def merged(self) -> Tensor:
        """The weight (out, in) of the dense layer that gives the same outputs."""
        return with_adapter(self.weight, self.lora_a, self.lora_b, self.scale)


def add_adapters(model: nn.Module, config: LoraConfig, seed: int) -> int:
    """Replace the dense layers of the blocks of `model` by layers with adapters; how many.

    An adapter's first values depend on the seed and the layer's name only.
    """
    names = [
        name
        for name, layer in model.named_modules()
        if name.startswith("blocks.") and name.endswith(LAYERS) and type(layer) is nn.Linear
    ]
    for name in names:
        key = mix(seed, zlib.crc32(name.encode()))
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(name, LoraLinear(layer, config, key))
    return len(names)


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the ordinary model that gives the same outputs as one with adapters."""
    state = dict(model.state_dict())
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            state[f"{name}.weight"] = layer.merged()
    return {name: value for name, value in state.items() if ".lora_" not in name}
