"""An exponential moving average of the weights (Polyak averaging; ViT paper, appendix B.1.1; DeiT,
table 9).

Kept in float32 beside the model whatever its type: the update of 1 - 0.9999 is below half a unit in
bfloat16's last place and would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Shadow weights: shadow = decay * shadow + (1 - decay) * weight after every optimiser step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.shadow = {
            name: _floating(value.detach()).clone() for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the shadow towards the model's weights; buffers that are not floating point are
        copied.
        """
        shadows, values = [], []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                shadows.append(self.shadow[name])
                values.append(value.float())
            else:
                self.shadow[name].copy_(value)
        torch._foreach_lerp_(shadows, values, 1.0 - self.decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averaged weights into `model`, in the type of its own."""
        model.load_state_dict(self.shadow)

    def tensors(self) -> dict[str, Tensor]:
        """The shadow by name, as a checkpoint stores it (no copy)."""
        return dict(self.shadow)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the shadow that `tensors` returned before."""
        if tensors.keys() != self.shadow.keys():
            raise ValueError(f"other names: {sorted(tensors.keys() ^ self.shadow.keys())[:10]}")
        for name, value in tensors.items():
            self.shadow[name].copy_(value)


def _floating(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
