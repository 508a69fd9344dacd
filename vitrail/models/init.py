"""Initial values of a whole model, in one function. Reference: Google's vision_transformer and
big_vision (spec 1.4).

| parameter | value |
|---|---|
| q, k, v, out kernels, also of the attention pool | Xavier-uniform per projection, (D, D) each |
| MLP kernels | Xavier-uniform; the two halves of a packed SwiGLU layer each on their own |
| MLP biases | normal(1e-6) |
| patch kernel, pre_logits kernel | LeCun-normal: cut at 2 deviations, then variance 1 / fan_in |
| patch kernel of several sizes | normal(1 / sqrt(D)), as in FlexiViT |
| standardised kernels of stems and BiT | LeCun-normal; their scale counts for the step size only |
| running mean, running variance of BatchNorm | 0, 1 |
| kernels of the residual network for small images | He-normal, variance 2 / fan_in |
| kernels of the convolutional tokenizer | He-normal, variance 2 / fan_in (Compact-Transformers) |
| pos_embed, pos_embed_x, pos_embed_y, also of blocks; relative keys | normal(0.02) |
| cls_token | zeros |
| dist_token, reg_token | normal(0.02): equal zeros would stay equal for ever |
| attention-pool probe | Xavier-uniform of a (1, D) matrix |
| LayerNorm, GroupNorm, BatchNorm | scale 1, bias 0 |
| last GroupNorm of a post-activated unit | scale 0: the unit starts as its shortcut |
| LayerScale | config.layer_scale |
| head, head_dist, head.fc | kernel zeros, bias head_bias_init: the first loss is ln(num_classes) |
| other biases | zeros |

A Xavier over the fused (3D, D) kernel would give bounds smaller by sqrt(2). Each parameter draws
from a generator keyed by (seed, its name): another head, depth or option leaves every other
parameter's value as it was.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import ModelConfig
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.vit.config import ViTConfig

TRUNCATED_DEVIATION = 0.87962566103423978  # of a standard normal cut at +-2


def initial_value(name: str, shape: torch.Size, config: ModelConfig, seed: int) -> Tensor:
    """The float32 value a parameter starts from; the table above. Depends on nothing but the
    arguments."""
    generator = torch.Generator().manual_seed(_key(seed, name))
    value = torch.zeros(shape, dtype=torch.float32, device="cpu")
    layer, kind = name.rsplit(".", 2)[-2:] if "." in name else ("", name)
    if kind in ("pos_embed", "pos_embed_x", "pos_embed_y", "keys", "dist_token", "reg_token"):
        return value.normal_(0, 0.02, generator=generator)
    if isinstance(config, BiTConfig | ResNetConfig) or name.startswith(
        ("patch_embed.backbone", "patch_embed.convs")
    ):
        return _convolutional(name, value, config, generator)
    if kind == "gamma":
        return value.fill_(config.layer_scale or 0.0)
    if kind == "latent":
        return xavier_uniform(value[0], 1, generator).unsqueeze(0)
    if "norm" in layer:
        return value.fill_(1.0 if kind == "weight" else 0.0)
    if layer in ("head", "head_dist"):
        return value if kind == "weight" else value.fill_(config.head_bias_init)
    if layer in ("fc1", "fc2") and kind == "bias":
        return value.normal_(0, 1e-6, generator=generator)
    if kind == "weight" and (name == "patch_embed.proj.weight" or layer == "pre_logits"):
        return _cut_normal(name, value, config, generator)
    if kind == "weight":
        is_packed = layer == "fc1" and config.mlp == "swiglu" and name.startswith("blocks.")
        return xavier_uniform(
            value, 2 if is_packed else {"qkv": 3, "kv": 2}.get(layer, 1), generator
        )
    return value  # cls_token and the other biases


def _cut_normal(name: str, value: Tensor, config: ViTConfig, generator: torch.Generator) -> Tensor:
    """Of pre_logits and of the patch kernel, which is another with several patch sizes."""
    if name != "pre_logits.weight" and config.patch_sizes:
        return value.normal_(0, config.width**-0.5, generator=generator)
    return lecun_normal(value, generator)


def _convolutional(
    name: str, value: Tensor, config: ModelConfig, generator: torch.Generator
) -> Tensor:
    """Of BiT and of stems."""
    layer, kind = name.rsplit(".", 2)[-2:]
    if name.startswith("head."):
        return value if kind == "weight" else value.fill_(config.head_bias_init)
    if kind.startswith("running_"):
        return value.fill_(1.0 if kind == "running_var" else 0.0)
    is_small = isinstance(config, ResNetConfig) or (
        isinstance(config, ViTConfig) and config.stem == "residual"
    )
    if "norm" in layer:
        is_preact = isinstance(config, BiTConfig) and config.style == "v2"
        starts_at_zero = layer == "norm3" and not is_preact
        return value.fill_(0.0 if kind == "bias" or starts_at_zero else 1.0)
    if is_small or name.startswith("patch_embed.convs"):
        return value.normal_(0, math.sqrt(2 / value[0].numel()), generator=generator)
    return lecun_normal(value, generator)


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little") >> 1


def xavier_uniform(value: Tensor, num_projections: int, generator: torch.Generator) -> Tensor:
    """Fills value: (num_projections * out, in) with uniform(+-sqrt(6 / (in + out))); fans are those
    of one projection."""
    fan_in, fan_out = value.shape[1], value.shape[0] // num_projections
    bound = math.sqrt(6 / (fan_in + fan_out))
    return value.uniform_(-bound, bound, generator=generator)


def lecun_normal(value: Tensor, generator: torch.Generator) -> Tensor:
    """Fills value: (out, ...) as Flax's default: normal cut at 2 deviations, with variance 1 /
    fan_in after the cut."""
    deviation = math.sqrt(1 / value[0].numel()) / TRUNCATED_DEVIATION
    return torch.nn.init.trunc_normal_(
        value, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator
    )
