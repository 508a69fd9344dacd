"""Principal components of the first layer's kernels (Figure 7, left, of arXiv 2010.11929).

The kernel (D, C, ph, pw) is D patches of pixels; its principal components over D (mean removed) are
patches again, of which the first 28 are shown as colours. The sign of a component means nothing; it
is chosen so that the largest value is positive. Of models with convolutions before the tokens it is
the first convolution, standardised as it is applied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.models.create import Model
from vitrail.models.layers.std_conv import StdConv2d, standardised
from vitrail.models.resnet.conv_norm import ConvNorm

SHOWN = 28  # as in the paper


@dataclass(frozen=True, eq=False)
class Components:
    """patches: float64 (n, ph, pw, C), each of length 1; shares: of the variance, (n,)."""

    patches: NDArray[np.float64]
    shares: NDArray[np.float64]


def first_kernel(model: Model) -> Tensor:
    """What touches the pixels, (D, C, ph, pw)."""
    for module in model.modules():  # in the order of the forward pass
        if isinstance(module, ConvNorm):
            return module.kernel()
        if isinstance(module, StdConv2d):
            return standardised(module.weight, module.eps, module.form)
        if isinstance(module, torch.nn.Conv2d):
            return module.weight
    raise TypeError(f"a {type(model).__name__} has no kernel")


def principal_components(model: Model, count: int = SHOWN) -> Components:
    """The first `count` components, or as many as there are."""
    kernel = first_kernel(model).detach().double().cpu().numpy()
    return components_of(kernel, count)


def components_of(kernel: NDArray[np.float64], count: int) -> Components:
    """kernel: (D, C, ph, pw)."""
    D, C, ph, pw = kernel.shape
    rows = kernel.reshape(D, -1)
    rows = rows - rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    variance = sizes**2
    count = min(count, len(variance), max(D - 1, 1))
    found = directions[:count]
    largest = np.abs(found).argmax(axis=1)
    found = found * np.sign(found[np.arange(count), largest])[:, None]
    patches = found.reshape(count, C, ph, pw).transpose(0, 2, 3, 1)
    return Components(patches, variance[:count] / (variance.sum() or 1.0))
