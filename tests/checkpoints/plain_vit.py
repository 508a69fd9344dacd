"""A small ViT in plain torch under timm's names: random weights, and what they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def state(
    *,
    width: int = 48,
    depth: int = 2,
    mlp: int = 40,
    patch: int = 4,
    side: int = 3,
    classes: int = 5,
    cls: bool = True,
    pre_norm: bool = False,
    seed: int = 0,
) -> State:
    """side: patches along an axis."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.15

    found = {
        "patch_embed.proj.weight": draw(width, 3, patch, patch),
        "pos_embed": draw(1, side * side + int(cls), width),
    }
    found |= {} if pre_norm else {"patch_embed.proj.bias": draw(width)}
    found |= {"cls_token": draw(1, 1, width)} if cls else {}
    norms = ["norm", *(["norm_pre"] if pre_norm else [])]
    for i in range(depth):
        at = f"blocks.{i}."
        norms += [f"{at}norm1", f"{at}norm2"]
        for name, (rows, columns) in {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (mlp, width),
            "mlp.fc2": (width, mlp),
        }.items():
            found |= {f"{at}{name}.weight": draw(rows, columns), f"{at}{name}.bias": draw(rows)}
    for norm in norms:
        found |= {f"{norm}.weight": 1 + draw(width), f"{norm}.bias": draw(width)}
    if classes:
        found |= {"head.weight": draw(classes, width), "head.bias": draw(classes)}
    return found


def forward(
    s: Mapping[str, Tensor],
    x: Tensor,
    heads: int,
    *,
    eps: float = 1e-6,
    act: Callable[[Tensor], Tensor] = F.gelu,
    pool: str = "cls",
    block: str = "pre",
) -> Tensor:
    """Logits, or features without a head. block: as `ViTConfig.block`."""
    kernel = s["patch_embed.proj.weight"]
    x = F.conv2d(x, kernel, s.get("patch_embed.proj.bias"), stride=kernel.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    if "cls_token" in s:
        x = torch.cat([s["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + s["pos_embed"] if "pos_embed" in s else x
    x = blocks(s, x, heads, eps=eps, act=act, block=block)
    x = x[:, 0] if pool == "cls" else x[:, int("cls_token" in s) :].mean(1)
    return F.linear(x, s["head.weight"], s.get("head.bias")) if "head.weight" in s else x


def blocks(
    s: Mapping[str, Tensor],
    x: Tensor,
    heads: int,
    *,
    eps: float = 1e-6,
    act: Callable[[Tensor], Tensor] = F.gelu,
    block: str = "pre",
) -> Tensor:
    """Tokens (B, N, D) through the blocks and the norms around them."""
    width, depth = x.shape[2], len({n.split(".")[1] for n in s if n.startswith("blocks.")})

    def norm(t: Tensor, name: str) -> Tensor:
        return F.layer_norm(t, (width,), s[f"{name}.weight"], s[f"{name}.bias"], eps)

    def linear(t: Tensor, name: str) -> Tensor:
        return F.linear(t, s[f"{name}.weight"], s.get(f"{name}.bias"))

    def attend(t: Tensor, at: str) -> Tensor:
        batch, count, _ = t.shape
        qkv = linear(t, f"{at}attn.qkv").view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        return linear(mixed, f"{at}attn.proj")

    def mlp(t: Tensor, at: str) -> Tensor:
        return linear(act(linear(t, f"{at}mlp.fc1")), f"{at}mlp.fc2")

    x = norm(x, "norm_pre") if "norm_pre.weight" in s else x
    for i in range(depth):
        at = f"blocks.{i}."
        if block == "post":
            x = norm(x + attend(x, at), f"{at}norm1")
            x = norm(x + mlp(x, at), f"{at}norm2")
        elif block == "branch":
            x = x + norm(attend(x, at), f"{at}norm1")
            x = x + norm(mlp(x, at), f"{at}norm2")
        elif block == "between":
            x = norm(x + attend(norm(x, f"{at}norm1"), at), f"{at}norm2")
            x = x + mlp(x, at)
        else:
            x = x + attend(norm(x, f"{at}norm1"), at)
            x = x + mlp(norm(x, f"{at}norm2"), at)
    return norm(x, "norm") if "norm.weight" in s else x


def images(px: int = 12, count: int = 4) -> Tensor:
    """Random images."""
    return torch.randn(count, 3, px, px, generator=torch.Generator().manual_seed(1))
