"""Linear CKA: how alike the representations of two layers are, of one model or two.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited" (arXiv
1905.00414): HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the Gram matrices of centred
features. 1 for the same representation up to turning and scaling. With fewer images than features
that estimate is far too large; the unbiased HSIC (Song et al. 2012, as in arXiv 2010.15327) is what
the figures show, and its values may lie a little below 0. Both are in the table.

An image's representation in a layer is the mean over its patch tokens, or over the positions of a
map. So models with other grids, and convolutional ones, can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrail.explain.methods.walk import evaluating, run_blocks
from vitrail.models.create import Model, ResidualNet
from vitrail.models.layers.tap import TapDict, map_names
from vitrail.models.vit.model import ViT

Floats = NDArray[np.float64]
LEAST = 4  # images that the unbiased estimate needs


def gram(features: Floats) -> Floats:
    """features: (n, D). Returns (n, n), of the centred features."""
    centred = features - features.mean(axis=0)
    found: Floats = centred @ centred.T
    return found


def hsic(first: Floats, second: Floats, *, unbiased: bool) -> float:
    """Of two Gram matrices (n, n), up to a factor that CKA does not see. unbiased: n >= 4."""
    if not unbiased:
        return float((first * second).sum())
    n = len(first)
    k, m = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
    mixed = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return float((k * m).sum() + mixed)


def linear_cka(first: Floats, second: Floats, *, unbiased: bool = True) -> float:
    """Of two Gram matrices (n, n) of the same images; NaN where one is constant."""
    own = hsic(first, first, unbiased=unbiased) * hsic(second, second, unbiased=unbiased)
    return hsic(first, second, unbiased=unbiased) / own**0.5 if own > 0 else float("nan")


def cka_table(first: list[Floats], second: list[Floats], *, unbiased: bool = True) -> Floats:
    """CKA of every layer of one list of features (n, D) with every one of the other."""
    a, b = [gram(one) for one in first], [gram(one) for one in second]
    return np.array([[linear_cka(x, y, unbiased=unbiased) for y in b] for x in a])


def representations(model: Model, batches: Iterable[Tensor]) -> dict[str, Floats]:
    """Features (n, D) of every layer by name. batches: images (B, C, H, W), preprocessed."""
    found: dict[str, list[Floats]] = {}
    with evaluating(model):
        for images in batches:
            layers = (
                _of_bit(model, images) if isinstance(model, ResidualNet) else _of_vit(model, images)
            )
            for name, values in layers.items():
                found.setdefault(name, []).append(values.double().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _of_vit(model: ViT, images: Tensor) -> dict[str, Tensor]:
    prefix = model.config.num_prefix
    x = model.embed(images)
    layers = {"embedded": x[:, prefix:].mean(dim=1)}

    def keep(index: int, output: Tensor) -> None:
        layers[f"block{index:02d}"] = output[:, prefix:].mean(dim=1)

    run_blocks(model, x, on_output=keep)
    return layers


def _of_bit(model: ResidualNet, images: Tensor) -> dict[str, Tensor]:
    store: TapDict = dict.fromkeys(map_names(model.config))
    model(images, tap=store)
    return {name: value.mean(dim=(2, 3)) for name, value in store.items() if value is not None}
