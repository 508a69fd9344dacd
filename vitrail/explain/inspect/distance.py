"""How far attention reaches: mean distance (Figures 7, right, and 11), and its entropy.

Distance, as an author of the paper defines it (google-research/vision_transformer issue 162): for
each head the expected Euclidean distance on the token grid between a query's patch and the patches
it attends to, weighted by attention, times the pixels between two tokens; the mean over queries and
images. Prefix tokens are neither queries nor keys. Two conventions exist for the weights that
remain when those columns are gone, and both are computed: `renormalised` (rows scaled to sum 1
again; what the figures show) and as they are. Behind a stem the pixels between two tokens are those
of the image, and rows and columns count with their own where patches are not square.

Entropy: -sum a ln a over all tokens, prefix tokens too, mean over patch queries and images; ln N
is the most there can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.explain.methods.walk import evaluating, run_blocks
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reach:
    """Of every layer and head, (L, heads): distances in px of the model's input, with rows scaled
    to sum 1 over patches and as they are; entropy in nats. num: images; most: ln N.
    """

    renormalised: Floats
    plain: Floats
    entropy: Floats
    num: int
    most: float


def distances(config: ViTConfig, shown: tuple[int, int] | None = None) -> Tensor:
    """Between the centres of every two patches, (P, P) float64, in px of the model's input.

    shown: (height, width) px of an image, where those of a model differ (`max_patches`).
    """
    (h, w), (height, width) = config.grid, config.seen_size
    if shown is not None and config.max_patches is not None:
        (h, w), (height, width) = config.grid_of(*shown), shown
    y, x = np.divmod(np.arange(h * w), w)
    y, x = y * height / h, x * width / w
    found = np.hypot(y[:, None] - y, x[:, None] - x)
    return torch.from_numpy(found)


def reach(model: ViT, batches: Iterable[Tensor]) -> Reach:
    """batches: images (B, C, H, W), preprocessed, on the model's device, of one size each. One
    layer's attention is alive at a time.
    """
    config = model.config
    totals = torch.zeros(3, config.depth, config.num_heads, dtype=torch.float64)
    num, uniform = 0, 0.0

    with evaluating(model):
        for images in batches:
            tokens = model.embed(images)  # (B, N, D)
            table = distances(config, (images.shape[2], images.shape[3])).to(tokens.device)

            def add(index: int, attention: Tensor, table: Tensor = table) -> None:
                totals[:, index] += sums(attention, table, config.num_prefix).cpu()

            run_blocks(model, tokens, range(config.depth), add)
            num += len(images)
            uniform += len(images) * math.log(tokens.shape[1])
    means = (totals / max(num, 1)).numpy()
    return Reach(means[0], means[1], means[2], num, uniform / max(num, 1))


def sums(attention: Tensor, table: Tensor, num_prefix: int) -> Tensor:
    """attention: (B, heads, N, N). Returns (3, heads): the sums over images, of the mean over
    queries, of both distances and the entropy.
    """
    found = torch.zeros(3, attention.shape[1], dtype=torch.float64, device=attention.device)
    for image in attention:
        for head, weights in enumerate(image):  # one at a time: no copy of a layer
            rows = weights[num_prefix:].double()  # (P, N)
            among = rows[:, num_prefix:]
            plain = (among * table).sum(dim=1)
            kept = among.sum(dim=1)
            found[0, head] += (plain / kept.clamp(min=torch.finfo(torch.float64).tiny)).mean()
            found[1, head] += plain.mean()
            found[2, head] += torch.special.entr(rows).sum(dim=1).mean()
    return found
