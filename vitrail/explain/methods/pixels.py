"""Methods that work on the input of any model: integrated gradients, occlusion, and chance.

Integrated gradients (arXiv 1703.01365): (x - x') times the mean gradient on the straight line from
a baseline x' to the image x, summed over channels, with sign. The integral is taken by
Gauss-Legendre quadrature; the sum over all pixels is logit(x) - logit(x') up to its error, which is
reported (completeness, proposition 1 of the paper). The baseline is 0 after normalisation: the
colour that the preprocessing calls the mean. Where GroupNorm follows the first convolution (BiT,
hybrids, residual networks without BatchNorm) a line from a constant image says nothing, as the
network hardly sees the scale of its input, and all change falls on one end of it; there the
baseline is the image blurred to 4 x 4.

Occlusion (arXiv 1311.2901): one cell after another is covered with the same mean colour; the value
is how far the logarithm of the class's probability falls. Slow, and true: it asks the model itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.device import sent
from vitrail.explain.methods.maps import Maps, Request, array, best, cell_edges, log_scores
from vitrail.keyed_random import uniforms
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import Model, ResidualNet
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

STEPS = 32
BATCH = 8  # images at a time
BLURRED_PX = 4  # a side of the baseline for networks with GroupNorm
CELLS = 14  # along the longer side, for models without patches


def cells_of(model: Model, size: Sequence[int] | None = None) -> tuple[int, int]:
    """Into how many cells (rows, columns) an image is cut: the patches, or squares of about 1/14
    of the longer side. size: (H, W) px of the image, of a model of variable resolution.
    """
    if not isinstance(model, ResidualNet):
        height, width = model.config.image_size if size is None else size
        return model.config.grid_of(height, width)
    height, width = model.config.image_size
    side = max(1, round(max(height, width) / CELLS))
    return -(-height // side), -(-width // side)


def integrated_gradients(model: Model, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). The grid is (H, W), a value a pixel."""
    baseline, name = baseline_of(model, images)
    ends = model(torch.cat([images, baseline]))  # (2, K)
    target = best(ends[:1], request.target)
    places, weights = np.polynomial.legendre.leggauss(request.steps or STEPS)
    total = torch.zeros_like(images)
    for first in range(0, len(places), BATCH):
        part = slice(first, first + BATCH)
        shares, scales = (
            sent(torch.tensor(values[part] / 2 + offset).to(images.dtype), images.device).view(
                -1, 1, 1, 1
            )
            for values, offset in ((places, 0.5), (weights, 0))  # from [-1, 1] to [0, 1]
        )
        between = baseline + (images - baseline) * shares
        total += (_gradients(model, between, target) * scales).sum(dim=0, keepdim=True)
    grid = ((images - baseline) * total).sum(dim=1)[0]  # (H, W)
    change = float(ends[0, target] - ends[1, target])
    facts = {
        "baseline": name,
        "steps": len(places),
        "logit_change": change,
        "completeness_error": float(grid.double().sum()) - change,
    }
    return Maps(array(grid), array(ends[0]), target=target, facts=facts)


def baseline_of(model: Model, images: Tensor) -> tuple[Tensor, str]:
    """Where the line to the image starts, (1, C, H, W), and its name."""
    if not _has_group_norm(model.config):
        return torch.zeros_like(images), "the mean colour (0 after normalisation)"
    small = F.adaptive_avg_pool2d(images, BLURRED_PX)
    large = F.interpolate(small, images.shape[2:], mode="bicubic", align_corners=False)
    return large, f"the image blurred to {BLURRED_PX} x {BLURRED_PX}"


def _has_group_norm(config: ModelConfig) -> bool:
    """Whether GroupNorm follows the first convolution, so that its scale does not count."""
    if isinstance(config, ViTConfig):
        return config.stem == "resnet" or (
            config.stem == "residual" and config.stem_norm != "batch"
        )
    return isinstance(config, BiTConfig) or config.norm != "batch"


def _gradients(model: Model, images: Tensor, target: int) -> Tensor:
    """Gradient of each image's logit, (B, C, H, W)."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        return torch.autograd.grad(model(images)[:, target].sum(), images)[0]


def occlusion(model: Model, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). The grid is one of cells (`cells_of`); values in nats."""
    logits = model(images)
    target = best(logits, request.target)
    size = images.shape[2:]
    rows, columns = cells_of(model, size)
    boxes = cell_boxes(seen_size(model, size), (rows, columns))
    found: list[Tensor] = []
    for first in range(0, len(boxes), BATCH):
        part = boxes[first : first + BATCH]
        covered = images.repeat(len(part), 1, 1, 1)
        for image, (top, bottom, left, right) in zip(covered, part, strict=True):
            image[:, top:bottom, left:right] = 0
        found.append(log_scores(model(covered), request.scores)[:, target])
    before = log_scores(logits, request.scores)[0, target]
    grid = (before - torch.cat(found)).view(rows, columns)
    facts = {"filling": "the mean colour", "cells": [rows, columns]}
    return Maps(array(grid), array(logits[0]), target=target, facts=facts)


def seen_size(model: Model, size: Sequence[int] | None = None) -> tuple[int, int]:
    """(height, width) px of the input that the cells cover: all, or what its patches see. size: of
    the input, of a model of variable resolution.
    """
    if isinstance(model, ResidualNet):
        return model.config.image_size
    if size is not None and model.config.max_patches is not None:
        return size[0], size[1]
    return model.config.seen_size


def cell_boxes(size: Sequence[int], cells: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every cell in rows. size: (H, W)."""
    y, x = cell_edges(size[0], cells[0]), cell_edges(size[1], cells[1])
    return [
        (top, bottom, left, right)
        for top, bottom in zip(y, y[1:], strict=False)
        for left, right in zip(x, x[1:], strict=False)
    ]


def chance(model: Model, images: Tensor, request: Request) -> Maps:
    """Uniform numbers by cell, a function of the seed: what every method has to beat."""
    rows, columns = cells_of(model, images.shape[2:])
    seed = request.seed or 0
    values = uniforms(seed, "explain", 0, np.arange(rows), columns)
    logits = model(images)[0, : model.config.num_classes]
    return Maps(values.astype(np.float32), array(logits), facts={"seed": seed})
