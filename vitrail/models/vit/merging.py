"""Token merging for prediction (ToMe, arXiv 2210.09461): alike tokens become one, block by block.

Between attention and MLP of every block but the last, the patch tokens are split into two sets by
turns. Each token of the first is matched with the token of the second whose key, a mean over the
heads, is most alike by cosine; the best matched of the first set become one with their match: a
mean weighted by how many patches each stands for, its size (sections 3.1 and 3.2). Attention adds
log(size) to the logits of keys (proportional attention, equation 1), and the pooling likewise.
Prefix tokens never merge. Nothing is trained.

Differences to the paper: the merged tokens keep their order; the numbers merged in the blocks
differ by at most one, so that any share of tokens can be asked for; the last block, whose tokens
are read, merges none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.models.vit.config import ViTConfig


class Merged(NamedTuple):
    """tokens: (B, N, D); sizes: (B, N), patches that each stands for, 1 of a prefix token; places:
    (B, P), the token that each patch of the image is part of, counted without the prefix.
    """

    tokens: Tensor
    sizes: Tensor
    places: Tensor

    def key_bias(self) -> Tensor:
        """(B, 1, 1, N), what attention adds to the logits of keys."""
        return self.sizes.log()[:, None, None]


def check_mergeable(config: ViTConfig, share: float) -> None:
    """Raises UsageError VIT-288 where tokens of this model cannot be merged, or by this share."""
    if not 0 < share <= 1:
        message = f"--tokens {share:g}: expected a share above 0 and up to 1."
        raise UsageError("VIT-288", message, hint="--tokens 0.6 keeps 60 % of the tokens.")
    has_places = config.is_rotary or config.posemb == "relative"
    reasons = {
        "attention looks at places, and a merged token has none": has_places,
        "positions are added at every layer": config.posemb_at != "stem",
        "it takes images of variable resolution": config.max_patches is not None,
        "it has one block, whose tokens are read": config.depth == 1,
    }
    for reason, holds in reasons.items():
        if holds and share != 1:
            message = f"--tokens {share:g}: tokens of this model cannot be merged: {reason}."
            raise UsageError("VIT-288", message, hint="Leave --tokens out.")


def tokens_left(config: ViTConfig, share: float) -> list[int]:
    """Patch tokens behind each block, `share` of them behind the last but one, or as few as halving
    at each block leaves.
    """
    left, found = config.num_patches, []
    gone = round(config.num_patches * (1 - share))
    for index in range(config.depth - 1):
        wanted = config.num_patches - round(gone * (index + 1) / (config.depth - 1))
        left = max(wanted, left - left // 2)
        found.append(left)
    return [*found, left]


def unmerged(tokens: Tensor, num_prefix: int) -> Merged:
    """Every token as it stands. tokens: (B, N, D)."""
    B, N, _ = tokens.shape
    places = torch.arange(N - num_prefix, device=tokens.device).expand(B, -1)
    return Merged(tokens, tokens.new_ones(B, N), places)


def merge(merged: Merged, keys: Tensor, num_prefix: int, count: int) -> Merged:
    """`count` patch tokens fewer. keys: (B, heads, N, head_dim)."""
    if count == 0:
        return merged
    x, sizes, places = merged
    B, N, D = x.shape
    source, target = _matched(keys.mean(dim=1)[:, num_prefix:].float(), count)  # (B, count) each
    source, target = source + num_prefix, target + num_prefix
    stays = torch.ones(B, N, dtype=torch.bool, device=x.device).scatter_(1, source, False)
    rows = torch.arange(B, device=x.device)[:, None]
    slots = stays.cumsum(dim=1) - 1  # of tokens that stay
    kept = _in_order(stays, slots, N - count)
    new = slots.gather(1, target)  # (B, count)
    moved = sizes.gather(1, source)
    total = sizes.gather(1, kept).scatter_add(1, new, moved)  # (B, N - count)
    y = x[rows, kept] * (sizes.gather(1, kept) / total)[:, :, None]
    parts = x[rows, source] * (moved / total.gather(1, new))[:, :, None]
    flat = (new + rows * (N - count)).flatten()
    y = y.reshape(-1, D).index_add(0, flat, parts.reshape(-1, D).to(y.dtype)).view(B, N - count, D)
    slots = slots.scatter(1, source, new)  # of every token
    return Merged(y.to(x.dtype), total, slots[:, num_prefix:].gather(1, places) - num_prefix)


def _in_order(stays: Tensor, slots: Tensor, count: int) -> Tensor:
    """The tokens that stay, (B, count): as `nonzero`, for which a GPU would have to be waited."""
    B, N = stays.shape
    places = torch.arange(N, device=stays.device).expand(B, -1)
    others = torch.where(stays, slots, count)  # what goes, into a column that is cut off
    return places.new_zeros(B, count + 1).scatter_(1, others, places)[:, :-1]


def _matched(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Bipartite soft matching of keys (B, P, head_dim): which of the tokens 0, 2, 4 ... merge, and
    into which of 1, 3, 5 ..., (B, count) each; equal matches by their order.
    """
    keys = torch.nn.functional.normalize(keys, dim=-1)
    likeness = keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)  # (B, ceil(P / 2), floor(P / 2))
    best, partner = likeness.max(dim=2)
    order = best.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return 2 * order, 2 * partner.gather(1, order) + 1


def no_tokens() -> UsageError:
    """VIT-288 for a network without tokens."""
    return UsageError(
        "VIT-288",
        "--tokens: this model has no tokens; it is no Vision Transformer.",
        hint="Leave --tokens out.",
    )


def no_taps() -> UsageError:
    """VIT-288 for intermediates of a model that merges its tokens."""
    return UsageError(
        "VIT-288",
        "merged tokens have no intermediates: a block's attention is over other tokens.",
        hint="Without --tokens: every method. With it: --method occlusion",
    )
