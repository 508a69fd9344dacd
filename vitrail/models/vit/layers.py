"""Layers of a Vision Transformer. Parameter names are timm's, so that its files load unchanged.

Source: arXiv 2010.11929 section 3.1, equations 2 and 3, and appendix A for attention; options as
noted. Shapes: B batch, N tokens with prefix, D width, M mlp_dim.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.layers.matmul import attention, dense, linear
from vitrail.models.layers.tap import Tap
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.posemb import RelativeBias, learned_tables, rotate

GELU: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # x Phi(x) by erf: timm, torchvision, Hugging Face, DeiT, DINOv2
    "gelu_tanh": lambda x: F.gelu(
        x, approximate="tanh"
    ),  # Flax's default: Google's ViT and big_vision
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # OpenAI CLIP
    "relu": F.relu,
}


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zeroes whole examples of x: (B, ...), and scales the others by 1 / (1 - rate).

    Stochastic depth (arXiv 1603.09382); draws from torch's global generator.
    """
    if not training or rate == 0:
        return x
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    return x * x.new_empty(shape).bernoulli_(1 - rate).div_(1 - rate)


def drop_tokens(x: Tensor, num_prefix: int, rate: float, training: bool) -> Tensor:
    """Leaves out a share `rate` of the patch tokens of each example of x: (B, N, D); the others
    keep their order, and the prefix stays. At least one patch is left.

    PatchDropout (arXiv 2208.07220), FLIP (arXiv 2212.00794); draws from torch's global generator.
    """
    if not training or rate == 0:
        return x
    B, N, D = x.shape
    P = N - num_prefix
    kept = max(1, int(P * (1 - rate)))
    order = torch.rand(B, P, device=x.device).argsort(dim=1, stable=True)
    places = order[:, :kept].sort(dim=1).values + num_prefix  # (B, kept)
    patches = x.gather(1, places.unsqueeze(2).expand(-1, -1, D))
    return torch.cat([x[:, :num_prefix], patches], dim=1)


class PatchEmbed(nn.Module):
    """Equation 1: each patch, flattened, times a matrix.

    The matrix has the shape of a convolution's kernel, for its name in files; a convolution with
    equal kernel and stride is the same product, and on a CPU takes four times as long.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.proj = nn.Conv2d(
            config.channels,
            config.width,
            config.kept_kernel,
            config.kept_kernel,
            bias=not config.pre_norm,
        )

    def forward(
        self, images: Tensor, tap: Tap | None = None, *, is_checkpointed: bool = False
    ) -> Tensor:
        """images: (B, C, H, W). Returns (B, P, D), patches in row-major order.

        The other arguments are for stems (`hybrid.py`); a product has nothing to tap or repeat.
        """
        return self.project(patchify(images, self.patch_size))

    def project(self, patches: Tensor, kernel: Tensor | None = None) -> Tensor:
        """patches: (B, P, C*ph*pw); kernel: (D, C, ph, pw), the layer's own unless given. Returns
        (B, P, D).
        """
        kernel = self.proj.weight if kernel is None else kernel
        return linear(patches, kernel.flatten(1), self.proj.bias)


def patchify(images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """images: (B, C, H, W). Returns (B, P, C*ph*pw), patches in row-major order.

    What no whole patch covers is left out (`drop_rest`).
    """
    ph, pw = patch_size
    images = images[:, :, : images.shape[2] // ph * ph, : images.shape[3] // pw * pw]
    B, C, H, W = images.shape
    patches = images.reshape(B, C, H // ph, ph, W // pw, pw).permute(
        0, 2, 4, 1, 3, 5
    )  # (B, h, w, C, ph, pw)
    return patches.reshape(B, (H // ph) * (W // pw), C * ph * pw)


class Attention(nn.Module):
    """Multi-head self-attention (appendix A, equations 5 to 8), q, k and v in one matrix."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, head_dim = config.width, config.head_dim
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(head_dim, eps=config.ln_eps) if config.qk_norm else None
        self.k_norm = nn.LayerNorm(head_dim, eps=config.ln_eps) if config.qk_norm else None
        is_relative = config.posemb == "relative"
        self.relative = (
            RelativeBias(config.grid, config.num_prefix, head_dim) if is_relative else None
        )
        self.proj = nn.Linear(width, width)
        self.dropout = config.dropout

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None,
        tap: Tap | None,
        name: str,
        num_queries: int | None,
        key_bias: Tensor | None = None,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """x: (B, N, D); rope: (2, P, head_dim) or None. Returns (B, n, D), n = num_queries or N.

        num_queries: only the first n tokens, all in the prefix, ask; None: all do. key_bias: (B, 1,
        1, N), added to every query's logits. seen: receives the keys, (B, heads, N, head_dim).
        """
        B, N, D = x.shape
        q, k, v = self._project(x, num_queries)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        if rope is not None:
            q, k = q if num_queries else rotate(q, rope), rotate(k, rope)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, heads, N, head_dim)
        if seen is not None:
            seen.append(k)
        bias = None if self.relative is None else self.relative(q).to(q.dtype)
        if key_bias is not None:
            bias = key_bias.to(q.dtype) if bias is None else bias + key_bias.to(q.dtype)
        mixed = attend(q, k, v, bias, tap, f"{name}/attention")
        mixed = mixed.transpose(1, 2).reshape(B, num_queries or N, D)
        return F.dropout(dense(self.proj, mixed), self.dropout, self.training)

    def _project(self, x: Tensor, num_queries: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, N, D). Returns q (B, n, heads, head_dim), k and v (B, N, heads, head_dim)."""
        B, N, D = x.shape
        if num_queries is None or type(self.qkv) is not nn.Linear:  # replaced: no weight to cut
            q, k, v = dense(self.qkv, x).view(B, N, 3, self.num_heads, -1).unbind(2)
            return q[:, :num_queries], k, v
        weight, bias = self.qkv.weight, self.qkv.bias
        q = linear(x[:, :num_queries].contiguous(), weight[:D], bias[:D])
        k, v = linear(x, weight[D:], bias[D:]).view(B, N, 2, self.num_heads, -1).unbind(2)
        return q.view(B, num_queries, self.num_heads, -1), k, v


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tap: Tap | None, name: str
) -> Tensor:
    """softmax(q k^T / sqrt(head_dim) + bias) v, in one kernel unless gradients of a tapped softmax
    are wanted: looking on changes no bit of the answer.

    q, k, v: (B, heads, N, head_dim); bias: (B, heads, N, N). Returns (B, heads, N, head_dim).
    """
    if tap is None or name not in tap.asked:
        return attention(q, k, v, bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights = (logits if bias is None else logits + bias).softmax(dim=-1)  # (B, heads, N, N)
    tap.write(name, weights)
    mixed: Tensor = weights @ v if weights.requires_grad else attention(q, k, v, bias)
    return mixed


class Mlp(nn.Module):
    """Two dense layers with GELU (section 3.1); dropout after both (appendix B.1)."""

    def __init__(self, width: int, mlp_dim: int, gelu: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, width)
        self.gelu, self.dropout = GELU[gelu], dropout

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D). Returns (B, N, D)."""
        x = F.dropout(self.gelu(dense(self.fc1, x)), self.dropout, self.training)  # (B, N, M)
        return F.dropout(dense(self.fc2, x), self.dropout, self.training)


class SwiGlu(nn.Module):
    """silu(a) * b, a and b the halves of fc1(x) (arXiv 2002.05202); DINOv2's w12, timm's fc1."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, 2 * config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.width)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D). Returns (B, N, D)."""
        gate, value = dense(self.fc1, x).chunk(2, dim=-1)  # each (B, N, M)
        x = F.dropout(F.silu(gate) * value, self.dropout, self.training)
        return F.dropout(dense(self.fc2, x), self.dropout, self.training)


class LayerScale(nn.Module):
    """A factor per channel on a residual branch (CaiT, arXiv 2103.17239)."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D). Returns (B, N, D)."""
        return x * self.gamma


class Block(nn.Module):
    """Equations 2 and 3: x + MSA(LN(x)), then x + MLP(LN(x)). `index` counts from 0. The field
    `block` has other places of the norms.

    With posemb_at="every" each but the first holds the position table of its input, which the model
    adds (`ViT.run_block`); that of the first is the model's.
    """

    def __init__(self, config: ViTConfig, index: int) -> None:
        super().__init__()
        if config.posemb_at == "every" and index > 0:
            for name, table in learned_tables(config).items():
                self.register_parameter(name, table)
        self.order = config.block
        self.norm1 = nn.LayerNorm(config.width, eps=config.ln_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.ln_eps)
        is_swiglu = config.mlp == "swiglu"
        self.mlp = (
            SwiGlu(config)
            if is_swiglu
            else Mlp(config.width, config.mlp_dim, config.gelu, config.dropout)
        )
        scale = config.layer_scale
        self.ls1 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        self.ls2 = nn.Identity() if scale is None else LayerScale(config.width, scale)
        is_linear = config.drop_path_schedule == "linear"
        self.drop_path = config.drop_path * (index / max(1, config.depth - 1) if is_linear else 1)
        self.name = f"block{index:02d}"

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        tap: Tap | None = None,
        num_outputs: int | None = None,
        key_bias: Tensor | None = None,
    ) -> Tensor:
        """x: (B, N, D); key_bias: (B, 1, 1, N), of the attention. Returns (B, N, D), or (B, n, D)
        where only the first n tokens are read.
        """
        return self.mixed(self.attended(x, rope, tap, num_outputs, key_bias), tap)

    def attended(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        tap: Tap | None = None,
        num_outputs: int | None = None,
        key_bias: Tensor | None = None,
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """The first half: attention and its sum. seen: receives the keys."""
        is_before = self.order in ("pre", "between")
        asked = self.norm1(x) if is_before else x
        branch = self.attn(asked, rope, tap, self.name, num_outputs, key_bias, seen)
        x = x if num_outputs is None else x[:, :num_outputs].contiguous()
        return self._added(x, branch, self.norm1, self.ls1)

    def mixed(self, x: Tensor, tap: Tap | None = None) -> Tensor:
        """The second half: the MLP and its sum. x: (B, N, D) of `attended`."""
        if self.order == "between":
            x = self.norm2(x)
        branch = self.mlp(self.norm2(x) if self.order == "pre" else x)
        x = self._added(x, branch, self.norm2, self.ls2)
        if tap is not None:
            tap.write(f"{self.name}/output", x)
        return x

    def _added(self, x: Tensor, branch: Tensor, norm: nn.Module, scale: nn.Module) -> Tensor:
        """The residual sum, with the norm where it follows the branch or the sum."""
        branch = scale(norm(branch) if self.order == "branch" else branch)
        x = x + drop_path(branch, self.drop_path, self.training)
        return norm(x) if self.order == "post" else x


class MapHead(nn.Module):
    """Attention pooling of big_vision (`MAPHead`): y = MHA(probe, x), then y + MLP(LN(y)).

    There is no residual around the attention. The probe sees all tokens, registers too, or with
    map_prefix=false the patches only.
    """

    mask: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.map_heads or config.num_heads
        self.num_hidden = 0 if config.map_prefix else config.num_prefix
        if self.num_hidden:
            hidden = np.where(np.arange(config.num_tokens) < config.num_prefix, -np.inf, 0.0)
            mask = torch.from_numpy(hidden).float().view(1, 1, 1, -1)  # (1, 1, 1, N)
            self.register_buffer("mask", mask, persistent=False)
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.ln_eps)
        self.mlp = Mlp(width, config.map_mlp_dim or config.mlp_dim, config.gelu)

    def forward(self, x: Tensor, tap: Tap | None, key_bias: Tensor | None = None) -> Tensor:
        """x: (B, N, D); key_bias: (B, 1, 1, N), added to the logits. Returns (B, D)."""
        B, N, D = x.shape
        q = (
            dense(self.q, self.latent)
            .view(1, 1, self.num_heads, -1)
            .transpose(1, 2)
            .expand(B, -1, -1, -1)
        )
        k, v = (
            dense(self.kv, x).view(B, N, 2, self.num_heads, -1).unbind(2)
        )  # each (B, N, heads, head_dim)
        bias = self.mask[..., :N].to(q.dtype) if self.num_hidden else None
        if key_bias is not None:
            bias = key_bias.to(q.dtype) if bias is None else bias + key_bias.to(q.dtype)
        pooled = attend(q, k.transpose(1, 2), v.transpose(1, 2), bias, tap, "pool/attention")
        pooled = dense(self.proj, pooled.transpose(1, 2).reshape(B, 1, D))
        pooled = pooled + self.mlp(self.norm(pooled))
        return torch.select(pooled, 1, 0)  # (B, D)


class SeqPool(nn.Module):
    """Mean of the tokens, each weighted by the softmax of a learned score (CCT, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, tap: Tap | None, key_bias: Tensor | None = None) -> Tensor:
        """x: (B, N, D); key_bias: (B, 1, 1, N), added to the scores. Returns (B, D)."""
        scores = self.score(x)  # (B, N, 1)
        if key_bias is not None:
            scores = scores + key_bias[:, 0, 0].unsqueeze(2)
        weights = scores.softmax(dim=1).transpose(1, 2).unsqueeze(1)  # (B, 1, 1, N)
        if tap is not None:
            tap.write("pool/attention", weights)
        pooled: Tensor = weights.squeeze(1).to(x.dtype) @ x  # (B, 1, D)
        return pooled.flatten(1)
