"""bfloat16 products where a run asks for them."""

from __future__ import annotations

import torch

from vitrail.config import TrainConfig


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The context in which networks of a run compute."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
