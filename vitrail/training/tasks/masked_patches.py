"""Masked patch prediction, the ViT paper's self-supervision (arXiv 2010.11929, section 4.6 and
appendix B.1.2), after BERT.

Half of the patches of an image are corrupted, as embeddings: 80 % of those become a learned mask
embedding, 10 % the embedding of another patch of the image, 10 % stay; position is added after
that. For every corrupted patch, those that stay included, the model says which of 8 levels the mean
of each colour in the patch has: with three channels a choice of 512.

Which patches, and what becomes of them, is a function of (seed, step, place in the batch); of held
out images, of (seed, image), so that every evaluation asks the same. Exactly round(P / 2)
patches of each image are corrupted, so that parts of a batch weigh the same. The paper has colour
images; of gray ones there are 8 targets, not 512.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.keyed_random import mix, uniforms
from vitrail.models.create import Model
from vitrail.models.vit.model import ViT
from vitrail.training.plan.compatibility import check_encoder

SHARE = 0.5  # of the patches that are corrupted
MASKED, REPLACED = 0.8, 0.1  # of the corrupted; the rest stays
KEEP, MASK, REPLACE = 0, 1, 2
LEVELS = 8  # 3 bits a channel
MASK_STD = 0.02


class Corruption(NamedTuple):
    """Of B images, M patches each. Tensors int64 (B, M).

    places: which patches. roles: KEEP, MASK or REPLACE. partners: the patch that takes the place.
    """

    places: Tensor
    roles: Tensor
    partners: Tensor


def num_corrupted(num_patches: int) -> int:
    """Corrupted patches of an image, at least one."""
    return max(1, round(SHARE * num_patches))


def draw_corruption(numbers: NDArray[np.float64], num_patches: int) -> Corruption:
    """The corruption that `numbers` (B, 3 P), uniform in [0, 1), stand for."""
    order, role, other = np.split(numbers, 3, axis=1)  # each (B, P)
    count = num_corrupted(num_patches)
    places = np.sort(np.argsort(order, axis=1, kind="stable")[:, :count], axis=1)  # (B, M)
    role, other = (np.take_along_axis(part, places, axis=1) for part in (role, other))
    roles = np.where(role < MASKED, MASK, np.where(role < MASKED + REPLACED, REPLACE, KEEP))
    skip = np.floor(other * (num_patches - 1)).astype(np.int64)  # one of the P - 1 others
    partners = skip + (skip >= places) if num_patches > 1 else np.zeros_like(places)
    return Corruption(
        *(torch.from_numpy(part.astype(np.int64)) for part in (places, roles, partners))
    )


def corruption_of_step(
    seed: int, step: int, batch_size: int, num_patches: int, *, first: int = 0
) -> Corruption:
    """The corruption of `batch_size` rows of a training batch from row `first` on; keyed by (seed,
    step) and the row.
    """
    rows = np.arange(first, first + batch_size, dtype=np.int64)
    return draw_corruption(
        uniforms(seed, "masked patches", step, rows, 3 * num_patches), num_patches
    )


def corruption_of_images(seed: int, indices: Tensor, num_patches: int) -> Corruption:
    """The corruption of held-out images (B,), the same at every evaluation."""
    numbers = uniforms(
        seed, "masked patches of held-out pictures", 0, indices.numpy(), 3 * num_patches
    )
    return draw_corruption(numbers, num_patches)


def colour_targets(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean colour of each patch in 3 bits a channel, int64 (B, P), from uint8 (B, C, H, W).

    The first channel counts most: of RGB 64 r + 8 g + b with r, g, b in 0..7. Integer sums: exact.
    """
    B, C, H, W = images.shape
    h, w = grid
    cells = images.reshape(B, C, h, H // h, w, W // w).to(torch.int64).sum(dim=(3, 5))
    levels = cells * LEVELS // (256 * (H // h) * (W // w))  # (B, C, h, w) in 0..7
    weights = LEVELS ** torch.arange(C - 1, -1, -1, device=images.device)
    return (levels * weights.view(-1, 1, 1)).sum(dim=1).flatten(1)  # (B, P)


class MaskedPatches(nn.Module):
    """An encoder with what only this training needs: mask_token (1, 1, D) and the layer predict."""

    def __init__(self, encoder: Model, seed: int) -> None:
        super().__init__()
        config = check_encoder(encoder.config)
        assert isinstance(encoder, ViT)
        self.encoder = encoder
        generator = torch.Generator().manual_seed(mix(seed, 1))
        token = torch.empty(1, 1, config.width).normal_(0, MASK_STD, generator=generator)
        self.mask_token = nn.Parameter(token)
        # Zeros, as the head of a classifier: the first loss is ln(number of targets).
        self.predict = nn.Linear(config.width, LEVELS**config.channels)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)

    def forward(self, images: Tensor, places: Tensor, roles: Tensor, partners: Tensor) -> Tensor:
        """images: (B, C, H, W) float, normalised; the rest as `Corruption`, (B, M).

        Returns logits (B, M, 8^C) of the corrupted patches.
        """
        encoder = self.encoder
        patches = encoder.patch_embed(images).to(self.mask_token.dtype)  # (B, P, D)
        new = self._corrupted(patches, Corruption(places, roles, partners))
        tokens = encoder.encode(encoder.arrange(new))  # (B, N, D)
        outputs = tokens[:, encoder.config.num_prefix :]  # (B, P, D)
        if encoder.config.norm_after_pool:
            outputs = encoder.fc_norm(outputs)
        logits: Tensor = self.predict(_rows(outputs, places))
        return logits

    def _corrupted(self, patches: Tensor, corruption: Corruption) -> Tensor:
        """patches (B, P, D) with the corrupted ones in place."""
        places, roles, partners = corruption
        role = roles.unsqueeze(2)  # (B, M, 1)
        new = torch.where(role == REPLACE, _rows(patches, partners), _rows(patches, places))
        new = torch.where(role == MASK, self.mask_token.to(patches.dtype), new)  # (B, M, D)
        where = places.unsqueeze(2).expand_as(new)
        return patches.scatter(1, where, new)


def _rows(x: Tensor, places: Tensor) -> Tensor:
    """Rows `places` (B, M) of x (B, P, D): (B, M, D)."""
    return x.gather(1, places.unsqueeze(2).expand(-1, -1, x.shape[2]))


def patch_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in float32. logits: (B, M, K); targets: (B, M) int64."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
