"""What is exported: the model with all that follows from its record, between pixels and answers.

Decoding, resizing and cropping stay outside (`Preprocess.values`); from there on one graph computes
everything, so that no user of the file can divide by the wrong number.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vitrail.data.images.preprocess import Preprocess

INPUT, OUTPUTS = "image", ("logits", "probabilities")
EXAMPLE_BATCH = 2  # torch.export takes 0 and 1 for constants
MAX_BATCH = 4096


class Graph(nn.Module):
    """model: images to logits, put in evaluation mode; scores: what probabilities are made by."""

    input_name, output_names = INPUT, OUTPUTS
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        temperature: float = 1.0,
        scores: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.scores = scores
        self.input_size = (preprocess.channels, preprocess.height, preprocess.width)
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            table = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)  # (C, 1, 1)
            self.register_buffer(name, table)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: float32 (B, C, H, W), 0 to 255. Returns logits and probabilities, both (B, K);
        the temperature is in the latter only.
        """
        logits = self.model((image / 255 - self.mean) / self.std)
        scaled = logits / self.temperature
        p = scaled.sigmoid() if self.scores == "sigmoid" else scaled.softmax(dim=1)
        return logits, p

    def example(self) -> Tensor:
        """An input to trace with. (2, C, H, W)"""
        generator = torch.Generator().manual_seed(0)
        return torch.rand((EXAMPLE_BATCH, *self.input_size), generator=generator) * 255


class NormalisedGraph(nn.Module):
    """The graph as transformers and transformers.js call it: normalised images in, logits out, the
    temperature in them, so that the softmax or sigmoid of a pipeline gives our probabilities.
    """

    input_name, output_names = "pixel_values", ("logits",)

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.model, self.temperature = graph.model, graph.temperature
        self.input_size = graph.input_size
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, K) of normalised images (B, C, H, W)."""
        logits: Tensor = self.model(pixel_values) / self.temperature
        return logits

    def example(self) -> Tensor:
        """An input to trace with. (2, C, H, W)"""
        generator = torch.Generator().manual_seed(0)
        return torch.randn((EXAMPLE_BATCH, *self.input_size), generator=generator)


def batch_sizes() -> tuple[dict[int, torch.export.Dim]]:
    """The one input of `Graph`, with any number of images."""
    return ({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},)
