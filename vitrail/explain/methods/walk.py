"""A ViT block by block: the attention of chosen layers forwards, gradients of one output backwards.

Plain prediction keeps no attention, because the fused kernel never makes it. Here the probabilities
are computed again for the chosen layers only, one layer at a time: each is reduced to what is
wanted before the next block starts. Gradients need no graph of the whole model either: the input of
every block is kept, (N, D) each, and a block is computed again when its turn comes. So no more than
two layers' worth of attention, 2 heads N^2 numbers, is alive at any time, whatever the depth
(`tests/explain/methods/test_memory.py` counts).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrail.models.layers.tap import Tap, TapDict
from vitrail.models.vit.layers import Block
from vitrail.models.vit.model import ViT

Visit = Callable[[int, Tensor], None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, nothing recorded for gradients unless asked; the mode comes back afterwards.

    It also ends an inference mode around it, whose tensors could not be differentiated.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        model.train(was_training)


def blocks_of(model: ViT) -> list[Block]:
    """The blocks in order."""
    return [block for block in model.blocks if isinstance(block, Block)]


def run_blocks(
    model: ViT,
    x: Tensor,
    layers: Collection[int] = (),
    on_attention: Visit | None = None,
    on_output: Visit | None = None,
) -> Tensor:
    """x: (B, N, D), `model.embed(images)`. Returns the output of the last block, (B, N, D).

    on_attention(index, (B, heads, N, N)) is called for the blocks in `layers`, which alone do
    without the fused kernel; on_output(index, (B, N, D)) for every block.
    """

    def run(index: int, x: Tensor) -> Tensor:
        if index in layers and on_attention is not None:
            x = _tapped(model, index, x, on_attention)
        else:
            x = model.run_block(index, x)
        if on_output is not None:
            on_output(index, x)
        return x

    return model.run_blocks(x, run)


def _tapped(model: ViT, index: int, x: Tensor, visit: Visit) -> Tensor:
    """One block, its probabilities handed to `visit` and then forgotten."""
    name = f"{blocks_of(model)[index].name}/attention"
    store: TapDict = {name: None}
    x = model.run_block(index, x, Tap(store, [name]))
    attention = store.pop(name)
    assert attention is not None
    visit(index, attention)
    return x


def logits_of(model: ViT, x: Tensor, tap: Tap | None = None) -> Tensor:
    """x: (B, N, D) from the last block. Returns logits (B, K), or features without a head."""
    return model.read(model.final_norm(x), tap)


@dataclass(frozen=True)
class Trail:
    """One forward pass: what `run_block` was given for each block, the last output, (B, N, D) each,
    logits (B, K).

    Nothing else of it is kept.
    """

    inputs: list[Tensor]
    output: Tensor
    logits: Tensor


def forward(model: ViT, images: Tensor) -> Trail:
    """images: (B, C, H, W)."""
    x = model.embed(images)
    inputs = [x]
    x = run_blocks(model, x, on_output=lambda index, value: inputs.append(value))
    inputs.pop()
    return Trail(inputs, x, logits_of(model, x))


def output_gradient(model: ViT, trail: Trail, target: int) -> Tensor:
    """Gradient of the logits [:, target] with respect to the last block's output, (B, N, D)."""
    with torch.enable_grad():
        x = trail.output.detach().requires_grad_()
        return torch.autograd.grad(logits_of(model, x)[:, target].sum(), x)[0]


def input_gradient(model: ViT, index: int, x: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient of a block's output to that of its input x, (B, N, D); fused attention."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return _pulled_back(model.run_block(index, x), x, gradient)


def attention_gradient(
    model: ViT, index: int, x: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """A block's attention and the gradient of the logit with respect to it, (B, heads, N, N) each.

    x: its input, gradient: that of its output, (B, N, D). The softmax is not differentiated here:
    that would take a third layer's worth of memory.
    """
    name = f"{blocks_of(model)[index].name}/attention"
    store: TapDict = {name: None}
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        output = model.run_block(index, x, Tap(store, [name]))
        attention = store.pop(name)
        assert attention is not None
        slope = _pulled_back(output, attention, gradient)
    return attention.detach(), slope


def _pulled_back(output: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient of `output` to that of `value`: the bits of autograd.grad's grad_outputs,
    which loads sympy, 0.6 s of processor time, to compare two shapes (torch 2.13).
    """
    return torch.autograd.grad((output * gradient).sum(), value)[0]
