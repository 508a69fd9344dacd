"""What a configuration costs, by formula: parameters, multiply-adds, memory. No torch, no model
built.

D width, M mlp_dim, N tokens with prefix, P patches, L depth, K classes, R features entering the
head. The constants of google-research/vision_transformer `models_test.py` and timm's profiler are
the tests (spec 1.2, 1.5, 1.6). Of BiT and of stems: `models/bit/cost.py`.
"""

from __future__ import annotations

from vitrail.models.bit.config import BiTConfig
from vitrail.models.bit.cost import (
    NORM_NUMBERS,
    final_norm_macs,
    root_activations,
    root_macs,
    root_parameters,
    stage_activations,
    unit_macs,
    unit_parameters,
    unit_weights,
)
from vitrail.models.layers.stages import halved
from vitrail.models.names import ModelConfig
from vitrail.models.resnet.config import ResNetConfig, conv_weights
from vitrail.models.resnet.cost import (
    conv_macs,
    conv_parameters,
    ends_with_relu,
    trunk_activations,
)
from vitrail.models.vit.config import ViTConfig


def parameters(config: ModelConfig) -> int:
    """Trainable numbers of the model."""
    if isinstance(config, BiTConfig):
        return _bit_parameters(config)
    if isinstance(config, ResNetConfig):
        return conv_parameters(config.convs) + (config.num_features + 1) * config.num_classes
    c, D = config, config.width
    total = _embedding_parameters(c)
    total += c.num_prefix * D + _posemb_parameters(c)
    total += c.depth * _block_parameters(c)
    total += 2 * D * (int(c.final_norm) + int(c.pre_norm))  # the one before the blocks
    if c.pool == "map":
        total += D + 4 * (D * D + D) + 2 * D + _mlp_parameters(D, c.map_mlp_dim or c.mlp_dim)
    total += D + 1 if c.pool == "seq" else 0
    if c.representation_size:
        total += c.pooled_width * c.representation_size + c.representation_size
    if c.num_classes:
        total += (c.num_features + 1) * c.num_classes * (2 if c.distillation_token else 1)
    return total


def running_values(config: ModelConfig) -> int:
    """Numbers of the state dict that are not trained: BatchNorm's running means and variances."""
    if isinstance(config, BiTConfig):
        return 0
    if isinstance(config, ResNetConfig):
        norm, convs = config.norm, config.convs
    else:
        norm, convs = config.stem_norm, config.residual_convs
    return 2 * sum(conv.num_out for conv in convs) if norm == "batch" else 0


def _bit_parameters(c: BiTConfig) -> int:
    is_preact = c.style == "v2"
    total = root_parameters(c.channels, c.stem_width, c.stem, is_preact=is_preact)
    total += sum(unit_parameters(unit, is_preact=is_preact) for unit in c.units)
    total += 2 * c.num_features if is_preact else 0
    return total + ((c.num_features + 1) * c.num_classes if c.num_classes else 0)


def _embedding_parameters(c: ViTConfig) -> int:
    if c.stem == "conv":
        return sum(kernel for _, kernel in _convolutions(c))
    total = c.map_channels * c.kept_kernel[0] * c.kept_kernel[1] * c.width
    total += 0 if c.pre_norm else c.width
    if c.stem == "resnet":
        total += root_parameters(c.channels, c.stem_width, c.stem_root, is_preact=False)
        total += sum(unit_parameters(unit, is_preact=False) for unit in c.stem_units)
    return total + conv_parameters(c.residual_convs)


def _convolutions(c: ViTConfig) -> list[tuple[int, int]]:
    """Of each convolution of a conv stem: positions, and numbers of its kernel."""
    sizes = [c.channels, *[c.stem_width] * (c.stem_convs - 1), c.width]
    found, size = [], c.image_size
    for a, b in zip(sizes, sizes[1:], strict=False):
        size = halved(size, c.conv_stride)
        found.append((size[0] * size[1], a * b * c.stem_kernel**2))
        size = halved(size)
    return found


def _posemb_parameters(c: ViTConfig) -> int:
    count = c.depth if c.posemb_at == "every" else 1
    if c.is_learned:
        return count * c.posemb_rows * c.width
    return count * sum(c.grid) * (c.width // 2) if c.posemb == "learned_2d" else 0


def _block_parameters(c: ViTConfig) -> int:
    D, M = c.width, c.mlp_dim
    total = 2 * 2 * D + 4 * (D * D + D)  # two norms; q, k, v and out
    total += D * 2 * M + 2 * M + M * D + D if c.mlp == "swiglu" else _mlp_parameters(D, M)
    total += 2 * D if c.layer_scale is not None else 0
    total += 2 * 2 * c.head_dim if c.qk_norm else 0
    if c.posemb == "relative":
        h, w = c.grid
        total += ((2 * h - 1) * (2 * w - 1) + (3 if c.num_prefix else 0)) * c.head_dim
    return total


def _mlp_parameters(D: int, M: int) -> int:
    return D * M + M + M * D + D


def macs(config: ModelConfig) -> int:
    """Multiply-adds of one image's forward pass: stem, patch embedding, blocks, pooling, head.

    LayerNorm, softmax, GELU and additions are left out, as in most papers, whose "GFLOPs" are this
    number; of residual networks `models/bit/cost.py` says what counts. The last block is counted in
    full, as there; with pool="cls" the model computes only the tokens of it which are read.
    """
    if isinstance(config, BiTConfig):
        return _bit_macs(config)
    if isinstance(config, ResNetConfig):
        return conv_macs(config.convs) + config.num_features * config.num_classes
    c, D, N, M = config, config.width, config.num_tokens, config.mlp_dim
    total = _embedding_macs(c)
    block = N * 4 * D * D + 2 * N * N * D + N * (3 if c.mlp == "swiglu" else 2) * D * M
    block += N * N * D if c.posemb == "relative" else 0
    total += c.depth * block
    if c.pool == "map":
        total += 2 * D * D + 2 * N * D * D + 2 * N * D + 2 * D * (c.map_mlp_dim or M)
    total += 2 * N * D if c.pool == "seq" else 0
    if c.representation_size:
        total += c.pooled_width * c.representation_size
    return total + c.num_features * c.num_classes * (2 if c.distillation_token else 1)


def _embedding_macs(c: ViTConfig) -> int:
    if c.stem == "conv":
        return sum(positions * kernel for positions, kernel in _convolutions(c))
    num_patches = c.max_patches or c.num_patches
    total = num_patches * c.map_channels * c.patch_size[0] * c.patch_size[1] * c.width
    if c.stem == "resnet":
        total += root_macs(c.channels, c.stem_width, c.stem_root, c.image_size, is_preact=False)
        total += sum(unit_macs(unit, is_preact=False) for unit in c.stem_units)
    return total + conv_macs(c.residual_convs)


def _bit_macs(c: BiTConfig) -> int:
    is_preact = c.style == "v2"
    total = root_macs(c.channels, c.stem_width, c.stem, c.image_size, is_preact=is_preact)
    total += sum(unit_macs(unit, is_preact=is_preact) for unit in c.units)
    total += final_norm_macs(c.num_features, c.map_size) if is_preact else 0
    return total + c.num_features * c.num_classes


def activation_bytes(config: ModelConfig, batch_size: int, *, is_checkpointed: bool = False) -> int:
    """Memory that a float32 training step keeps from forward to backward, parameters apart.

    Exact for CPU kernels but for the pooling and the head of each image. is_checkpointed: with
    `checkpoint_activations` the inputs of all blocks stay, and the inside of one at a time.
    bfloat16 needs less.
    """
    if isinstance(config, BiTConfig):
        return 4 * batch_size * _bit_activations(config, is_checkpointed)
    if isinstance(config, ResNetConfig):
        return 4 * batch_size * _resnet_activations(config, is_checkpointed)
    c, D = config, config.width
    N = c.num_tokens if c.max_patches else c.num_prefix + c.num_kept
    num_read = 1 + c.distillation_token if c.pool == "cls" else N  # of the last block
    outside = _embedding_activations(c, is_checkpointed)
    outside += N * (D + 2) if c.pre_norm else 0
    outside += N * D if c.dropout else 0
    outside += num_read * (D + 2) if c.final_norm else 0  # input of the final norm, its statistics
    outside += 3 * N * D if c.pool == "map" else 0
    outside += N * (D + 2) if c.pool == "seq" else 0
    inside = [_block_activations(c, batch_size, N)] * (c.depth - 1)
    inside.append(_block_activations(c, batch_size, num_read))
    kept = c.depth * N * D + max(inside) if is_checkpointed else sum(inside)
    return 4 * batch_size * (outside + kept)


def standardised_bytes(config: ModelConfig) -> int:
    """Memory of a step for the kernels as they are applied, whatever the batch: the values, and in
    the form "outside" also those before they are scaled."""
    if isinstance(config, ResNetConfig):
        weights = sum(conv_weights(conv) for conv in config.convs)
        return 4 * weights if config.norm == "group_std" else 0
    units = config.units if isinstance(config, BiTConfig) else config.stem_units
    weights = sum(unit_weights(unit) for unit in units)
    return (4 if config.std_form == "inside" else 8) * weights


def _bit_activations(c: BiTConfig, is_checkpointed: bool) -> int:
    is_preact = c.style == "v2"
    total = root_activations(c.channels, c.stem_width, c.stem, c.image_size, is_preact=is_preact)
    total += stage_activations(c.units, is_preact=is_preact, is_checkpointed=is_checkpointed)
    last = c.num_features * c.map_size[0] * c.map_size[1]
    return total + (2 * last + NORM_NUMBERS if is_preact else last)


def _resnet_activations(c: ResNetConfig, is_checkpointed: bool) -> int:
    is_on_sum = c.relu == "sum"
    total = trunk_activations(
        c.stem_conv, c.units, c.norm, is_relu_on_sum=is_on_sum, is_checkpointed=is_checkpointed
    )
    if c.pool == "mean" or ends_with_relu(c.units, is_relu_on_sum=is_on_sum):
        return total
    return total + c.num_features * c.map_size[0] * c.map_size[1]  # the maximum needs the map


def _embedding_activations(c: ViTConfig, is_checkpointed: bool) -> int:
    """Numbers kept in front of the tokens."""
    if c.stem == "conv":
        return _convolution_activations(c)
    patches = (c.max_patches or c.num_patches) * c.map_channels * c.patch_size[0] * c.patch_size[1]
    if c.stem == "none":
        return patches
    if c.stem == "residual":
        stem, units = c.stem_conv, c.stem_residuals
        trunk = trunk_activations(
            stem, units, c.stem_norm, is_relu_on_sum=False, is_checkpointed=is_checkpointed
        )
        return trunk + patches
    total = root_activations(c.channels, c.stem_width, c.stem_root, c.image_size, is_preact=False)
    total += stage_activations(c.stem_units, is_preact=False, is_checkpointed=is_checkpointed)
    return total + patches


def _convolution_activations(c: ViTConfig) -> int:
    """Of each convolution the input and its activated output; positions of a maximum, 8 bytes."""
    total, size, channels = 0, c.image_size, c.channels
    for index in range(c.stem_convs):
        total += channels * size[0] * size[1]
        channels = c.width if index + 1 == c.stem_convs else c.stem_width
        size = halved(size, c.conv_stride)
        total += channels * size[0] * size[1]
        size = halved(size)
        total += 2 * channels * size[0] * size[1]
    return total


def _block_activations(c: ViTConfig, batch_size: int, num_queries: int) -> int:
    """Numbers one block keeps for one image; num_queries: tokens whose output is read."""
    D, M, heads = c.width, c.mlp_dim, c.num_heads
    # Of every token the input, norm and its statistics, key, value.
    per_key = 4 * D + 2
    per_key += D + 2 * heads if c.qk_norm else 0
    per_key += D if c.is_rotary else 0
    # Of those read the query and mixed values; input, norm and statistics of the MLP, softmax.
    per_query = 4 * D + 2 + heads
    per_query += 2 * M + (2 * M if c.mlp == "swiglu" else M if c.gelu == "quick_gelu" else 0)
    per_query += 2 * D if c.layer_scale is not None else 0
    per_query += D + 2 * heads if c.qk_norm else 0
    per_query += 2 * D + M if c.dropout else 0
    per_query += D if c.is_rotary and num_queries == c.num_tokens else 0
    if c.posemb == "relative":  # softmax, scaled queries, gathered keys (once a batch)
        per_query += c.num_tokens * (heads + c.head_dim // batch_size) + D - heads
    return c.num_tokens * per_key + num_queries * per_query
