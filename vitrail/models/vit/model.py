"""The Vision Transformer (arXiv 2010.11929, figure 1, section 3.1), every option of `ViTConfig`.

One forward path: patches -> tokens with position and prefix -> blocks -> final norm -> pool ->
pre_logits -> head. Build it with `create_model`, which also sets the initial values; `ViT(config)`
alone leaves torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.models.layers.tap import Tap, TapDict, check_images
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.fields import ADDED
from vitrail.models.vit.flexible import Resizes
from vitrail.models.vit.hybrid import create_embedding
from vitrail.models.vit.layers import Block, MapHead, PatchEmbed, SeqPool, drop_tokens, patchify
from vitrail.models.vit.merging import (
    Merged,
    check_mergeable,
    merge,
    no_taps,
    tokens_left,
    unmerged,
)
from vitrail.models.vit.posemb import added, added_to_all, learned_tables, rope_2d, sincos_2d
from vitrail.models.vit.variable import (
    Grid,
    check_variable_images,
    mean_of_patches,
    positions,
    read_packed,
)


class ViT(nn.Module):
    """Images to logits.

    With the attribute `checkpoint_activations` set to True, training keeps only the input of each
    block and computes the block again in the backward pass; values and gradients are the same. With
    `kept_tokens` below 1, prediction merges alike tokens until this share is left (`merging.py`).
    With `patch_sizes`, training computes at the attribute `patch`, (height, width) px.
    """

    pos_embed_fixed: Tensor
    rope: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        self.kept_tokens = 1.0
        self.patch = config.patch_size
        width = config.width
        self.patch_embed = create_embedding(config)
        if config.cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.distillation_token:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.num_registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.num_registers, width))
        self._create_posemb()
        self.norm_pre = nn.LayerNorm(width, eps=config.ln_eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        final = nn.LayerNorm(width, eps=config.ln_eps)
        if config.norm_after_pool:
            self.fc_norm = final
        else:
            self.norm = final if config.final_norm else nn.Identity()
        if config.pool == "map":
            self.attn_pool = MapHead(config)
        elif config.pool == "seq":
            self.seq_pool = SeqPool(width)
        if config.representation_size:
            self.pre_logits = nn.Linear(config.pooled_width, config.representation_size)
        if config.num_classes:
            self.head = nn.Linear(config.num_features, config.num_classes)
            if config.distillation_token:
                self.head_dist = nn.Linear(width, config.num_classes)

    def _create_posemb(self) -> None:
        config = self.config
        for name, learned in learned_tables(config).items():
            self.register_parameter(name, learned)
        if config.posemb == "sincos_2d":
            table = (
                torch.from_numpy(sincos_2d(config.grid, config.width)).float().unsqueeze(0)
            )  # (1, P, D)
            self.register_buffer("pos_embed_fixed", table, persistent=False)
        if config.is_rotary:
            table = torch.from_numpy(rope_2d(config)).float()  # (2, P, head_dim)
            self.register_buffer("rope", table, persistent=False)
        if config.patch_sizes:
            self.resizes = Resizes(config)

    def forward(self, images: Tensor, *, tap: TapDict | None = None) -> Tensor:
        """images: (B, C, H, W) float, normalised; with `max_patches` of any size in whole patches,
        or a packed batch (`variable.py`). Returns logits (B, K).

        Without a head (num_classes=0): features, (B, R).

        With a distillation token: (B, 2, K), cls then dist, in training, and the mean of the two,
        (B, K), in evaluation.
        tap: see `tap.py`; a dict that receives intermediates by name.
        Raises UsageError: VIT-224 other image shape, VIT-223 unknown name in tap.
        """
        reader = None if tap is None else Tap(tap, tap_names(self.config))
        tokens, key_bias = self._tokens(images, reader)
        return self.read(tokens, reader, key_bias)

    def features(self, images: Tensor, *, tap: TapDict | None = None) -> Tensor:
        """What enters the head, (B, R), R = representation_size or D.

        With a distillation token: the mean of the two tokens, which enter a head each.
        """
        reader = None if tap is None else Tap(tap, tap_names(self.config))
        tokens, key_bias = self._tokens(images, reader)
        features = self._features(tokens, reader, key_bias)
        return features.mean(1) if self.config.distillation_token else features

    def read(
        self, tokens: Tensor, tap: Tap | None = None, key_bias: Tensor | None = None
    ) -> Tensor:
        """From the tokens of `encode`, (B, N, D), to what `forward` returns. key_bias: as of
        `encode`.
        """
        features = self._features(tokens, tap, key_bias)
        if not self.config.num_classes:
            return features.mean(1) if self.config.distillation_token else features
        logits = self._head(features)
        if tap is not None:
            tap.write("logits", logits)
        return logits

    def _tokens(self, images: Tensor, tap: Tap | None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D), and the bias of keys (B, 1, 1, N) where some are of no patch. Of the last
        block only the tokens that are read, unless a tap may read all.
        """
        num_pooled = 1 + self.config.distillation_token if self.config.pool == "cls" else None
        count = num_pooled if tap is None else None
        if self.kept_tokens < 1 and not self.training:
            if tap is not None:
                raise no_taps()
            merged = self.merged(self.embed(images), count)
            return self.final_norm(merged.tokens), merged.key_bias()
        if self.config.max_patches is None or images.ndim == 4:
            return self.encode(self.embed(images, tap), tap, count), None
        x, key_bias = self._embed_packed(images, tap)
        return self.encode(x, tap, count, key_bias), key_bias

    def _features(self, tokens: Tensor, tap: Tap | None, key_bias: Tensor | None) -> Tensor:
        """(B, R); with a distillation token (B, 2, D)."""
        pooled = self.pool(tokens, tap, key_bias)
        features = (
            torch.tanh(self.pre_logits(pooled)) if self.config.representation_size else pooled
        )
        if tap is not None:
            tap.write("pooled", pooled)
            tap.write("pre_logits", features)
        return features

    def _head(self, features: Tensor) -> Tensor:
        """(B, K); with a distillation token (B, 2, K) in training."""
        logits: Tensor = self.head(features if features.ndim == 2 else features[:, 0])  # (B, K)
        if not self.config.distillation_token:
            return logits
        both = torch.stack([logits, self.head_dist(features[:, 1])], dim=1)  # (B, 2, K)
        return both if self.training else both.mean(1)

    def embed(self, images: Tensor, tap: Tap | None = None) -> Tensor:
        """Equation 1 up to the first block. images: (B, C, H, W). Returns (B, N, D)."""
        config = self.config
        if config.max_patches is None:
            check_images(images, (config.channels, *config.image_size))
            grids = None
        else:
            check_variable_images(images, config)
            grids = [config.grid_of(images.shape[2], images.shape[3])]
        if config.patch_sizes:
            return self._embed_resized(images, tap)
        is_checkpointed = self.checkpoint_activations and self.training and tap is None
        patches = self.patch_embed(images, tap, is_checkpointed=is_checkpointed)
        return self._arranged(patches, tap, grids)

    def _embed_resized(self, images: Tensor, tap: Tap | None) -> Tensor:
        """The same with the kernel resized to the patch in use."""
        size = self.patch if self.training else self.config.patch_size
        assert isinstance(self.patch_embed, PatchEmbed), "there is no stem"
        kernel = self.resizes.kernel(self.patch_embed.proj.weight, size)
        patches = self.patch_embed.project(patchify(images, size), kernel)
        return self._arranged(patches, tap, [self.config.grid_at(size)])

    def _embed_packed(self, images: Tensor, tap: Tap | None) -> tuple[Tensor, Tensor | None]:
        """The same of a packed batch (B, L, 2 + C*ph*pw): (B, N, D), and the bias of its keys."""
        batch = read_packed(images, self.config)
        assert isinstance(self.patch_embed, PatchEmbed), "there is no stem"
        patches = self.patch_embed.project(batch.values)
        bias = batch.key_bias
        if bias is not None:  # prefix tokens are there for every image
            bias = F.pad(bias, (self.config.num_prefix, 0))
        return self._arranged(patches, tap, batch.grids), bias

    def _arranged(self, patches: Tensor, tap: Tap | None, grids: Sequence[Grid] | None) -> Tensor:
        # The sum over blocks keeps the parameters' precision, also under autocast.
        patches = patches.to(self.blocks[0].get_parameter("norm1.weight").dtype)  # (B, P, D)
        if tap is not None:
            tap.write("patches", patches)
        x = self.arrange(patches, grids)
        if tap is not None:
            tap.write("embedded", x)
        return x

    def arrange(self, patches: Tensor, grids: Sequence[Grid] | None = None) -> Tensor:
        """From patches (B, P, D) to what enters the first block (B, N, D): prefix and position.

        grids: of each image, or one for all, with `max_patches`; one with `patch_sizes`.
        """
        config = self.config
        tokens = self._with_prefix_and_posemb(patches, grids)  # (B, N, D)
        tokens = F.dropout(tokens, config.dropout, self.training)
        tokens = drop_tokens(tokens, config.num_prefix, config.patch_drop, self.training)
        x: Tensor = self.norm_pre(tokens)
        return x

    def _with_prefix_and_posemb(self, patches: Tensor, grids: Sequence[Grid] | None) -> Tensor:
        """(B, P, D) to (B, N, D): cls, dist and patches with position, registers without."""
        config = self.config
        prefix: list[Tensor] = [self.cls_token] if config.cls_token else []
        prefix += [self.dist_token] if config.distillation_token else []
        if config.posemb in ADDED:
            rows, table = added(config, self)
            if config.posemb_prefix:
                prefix = [token + rows[:, i : i + 1] for i, token in enumerate(prefix)]
            if config.patch_sizes and grids is not None:
                table = self.resizes.table(table, grids[0])
            elif grids is not None:
                table = positions(table, config, grids, patches.shape[1])
            patches = patches + table
        prefix += [self.reg_token] if config.num_registers else []
        if not prefix:
            return patches
        expanded = [token.expand(patches.shape[0], -1, -1) for token in prefix]
        return torch.cat([*expanded, patches], dim=1)

    def encode(
        self,
        x: Tensor,
        tap: Tap | None = None,
        num_outputs: int | None = None,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """Equations 2 to 4: blocks and final norm. x: (B, N, D). Returns (B, N, D).

        With num_outputs, (B, num_outputs, D): the last block computes no other token. key_bias:
        (B, 1, 1, N), added to the logits of every attention.
        """

        def run(index: int, x: Tensor) -> Tensor:
            count = num_outputs if index + 1 == self.config.depth else None
            if self.checkpoint_activations and self.training and tap is None:
                block: Tensor = checkpoint(
                    self.run_block, index, x, tap, count, key_bias, use_reentrant=False
                )
                return block
            return self.run_block(index, x, tap, count, key_bias)

        x = self.final_norm(self.run_blocks(x, run))
        if tap is not None:
            tap.write("tokens", x)
        return x

    def merged(self, x: Tensor, num_outputs: int | None = None) -> Merged:
        """x: (B, N, D), `embed`'s tokens, through every block, alike tokens merged on the way.

        tokens: of the last block, before the final norm; with num_outputs its first ones only.
        """
        check_mergeable(self.config, self.kept_tokens)
        first, last = self.config.num_prefix, self.config.depth - 1
        left = tokens_left(self.config, self.kept_tokens)
        found = unmerged(x, first)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            bias = found.key_bias() if found.tokens.shape[1] < x.shape[1] else None
            seen: list[Tensor] = []
            count = num_outputs if index == last else None
            tokens = block.attended(found.tokens, None, None, count, bias, seen)
            found = found._replace(tokens=tokens)
            if index < last:
                num_gone = tokens.shape[1] - first - left[index]
                found = merge(found, seen[0], first, num_gone)
            found = found._replace(tokens=block.mixed(found.tokens))
        return found

    def run_blocks(self, x: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
        """x: (B, N, D) through every block by `run`, which is `run_block` and what is done beside
        it. Returns the output of the last block."""
        for index in range(self.config.depth):
            x = run(index, x)
        return x

    def final_norm(self, x: Tensor) -> Tensor:
        """What the pooling gets of the last block's output x, (B, N, D)."""
        tokens: Tensor = x if self.config.norm_after_pool else self.norm(x)
        return tokens

    def run_block(
        self,
        index: int,
        x: Tensor,
        tap: Tap | None = None,
        num_outputs: int | None = None,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """One block. x: (B, N, D), `embed`'s tokens or what the block before it gave.

        Behind the first one, position is added to x where `posemb_at` says so (Table 8).
        Returns (B, N, D), or (B, num_outputs, D).
        """
        config, block = self.config, self.blocks[index]
        if index and config.posemb_at != "stem":
            x = x + added_to_all(config, block if config.posemb_at == "every" else self)
        rope = self.rope if config.is_rotary else None
        output: Tensor = block(x, rope, tap, num_outputs, key_bias)
        return output

    def pool(
        self, tokens: Tensor, tap: Tap | None = None, key_bias: Tensor | None = None
    ) -> Tensor:
        """tokens: (B, N, D). Returns (B, D); with a distillation token (B, 2, D).

        With pool="cls_gap" (B, 2 D). No prefix token ever enters a mean.
        """
        config = self.config
        if config.pool == "map":
            pooled: Tensor = self.attn_pool(tokens, tap, key_bias)
            return pooled
        if config.pool == "seq":
            weighted: Tensor = self.seq_pool(tokens, tap, key_bias)
            return weighted
        if config.pool == "cls":
            return tokens[:, :2] if config.distillation_token else tokens[:, 0]
        first = config.num_prefix
        of_patches = None if key_bias is None else key_bias[..., first:]
        mean = mean_of_patches(tokens[:, first:], of_patches)  # (B, D)
        if config.pool == "cls_gap":
            return torch.cat([tokens[:, 0], mean], dim=1)
        normed: Tensor = self.fc_norm(mean) if config.norm_after_pool else mean
        return normed


def tap_names(config: ViTConfig) -> list[str]:
    """Every intermediate of a ViT, in the order of computation.

    feature_map (B, C, h, w) behind a stem; patches (B, P, D) before posemb; embedded (B, N, D) into
    the first block; per block attention (B, heads, N, N) after the softmax and output (B, N, D),
    without the position that a `posemb_at` adds to the next block's input;
    tokens (B, N, D) after the final norm, or without one where it follows the mean; pool/attention
    (B, heads, 1, N) of pool="map", (B, 1, 1, N) of pool="seq"; pooled (B, D); pre_logits (B, R);
    logits (B, K). Prefix tokens come first: cls, dist, registers.
    """
    names = ["feature_map"] if config.stem != "none" else []
    names += ["patches", "embedded"]
    for index in range(config.depth):
        names += [f"block{index:02d}/attention", f"block{index:02d}/output"]
    names += ["tokens"] + (["pool/attention"] if config.pool in ("map", "seq") else [])
    names += ["pooled", "pre_logits"]
    return names + (["logits"] if config.num_classes else [])
