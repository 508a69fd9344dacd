"""What a configuration costs, by formula: parameters, multiply-adds, memory. No torch, no model
built.

D width, M mlp_dim, N tokens with prefix, P patches, L depth, K classes, R features entering the
head. The constants of google-research/vision_transformer `models_test.py` and timm's profiler are
the tests (spec 1.2).
"""

from __future__ import annotations

from vitrail.models.configs import ViTConfig


def parameters(config: ViTConfig) -> int:
    """Trainable numbers of the model."""
    c, D = config, config.width
    total = c.channels * c.patch_size[0] * c.patch_size[1] * D + (
        0 if c.pre_norm else D
    )  # patch embedding
    total += c.num_prefix * D + _posemb_parameters(c)
    total += c.depth * _block_parameters(c)
    total += 2 * D * (2 if c.pre_norm else 1)  # final norm, and the one before the blocks
    if c.pool == "map":
        total += D + 4 * (D * D + D) + 2 * D + _mlp_parameters(D, c.mlp_dim)
    if c.representation_size:
        total += D * c.representation_size + c.representation_size
    if c.num_classes:
        total += (c.num_features + 1) * c.num_classes * (2 if c.distillation_token else 1)
    return total


def _posemb_parameters(c: ViTConfig) -> int:
    if c.posemb == "learned":
        return c.posemb_rows * c.width
    return sum(c.grid) * (c.width // 2) if c.posemb == "learned_2d" else 0


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


def macs(config: ViTConfig) -> int:
    """Multiply-adds of one image's forward pass: patch embedding, blocks, pooling, head.

    Norms, softmax, GELU and additions are left out, as in timm's profiler and most papers, whose
    "GFLOPs" are this number. It counts the last block in full, as they do; with pool="cls" the
    model computes only the tokens of that block which are read.
    """
    c, D, N, M = config, config.width, config.num_tokens, config.mlp_dim
    total = c.num_patches * c.channels * c.patch_size[0] * c.patch_size[1] * D
    block = N * 4 * D * D + 2 * N * N * D + N * (3 if c.mlp == "swiglu" else 2) * D * M
    block += N * N * D if c.posemb == "relative" else 0
    total += c.depth * block
    if c.pool == "map":
        total += 2 * D * D + 2 * N * D * D + 2 * N * D + 2 * D * M
    if c.representation_size:
        total += D * c.representation_size
    return total + c.num_features * c.num_classes * (2 if c.distillation_token else 1)


def activation_bytes(config: ViTConfig, batch_size: int, *, is_checkpointed: bool = False) -> int:
    """Memory that a float32 training step keeps from forward to backward, parameters apart.

    Exact for CPU kernels but for the pooling and the head of each image. is_checkpointed: with
    `checkpoint_activations` the inputs of all blocks stay, and the inside of one at a time.
    bfloat16 needs less.
    """
    c, D, N = config, config.width, config.num_tokens
    num_read = 1 + c.distillation_token if c.pool == "cls" else N  # of the last block
    outside = c.num_patches * c.channels * c.patch_size[0] * c.patch_size[1]
    outside += N * (D + 2) if c.pre_norm else 0
    outside += N * D if c.dropout else 0
    outside += num_read * (D + 2)  # input of the final norm, its statistics
    outside += 3 * N * D if c.pool == "map" else 0
    inside = [_block_activations(c, batch_size, N)] * (c.depth - 1)
    inside.append(_block_activations(c, batch_size, num_read))
    kept = c.depth * N * D + max(inside) if is_checkpointed else sum(inside)
    return 4 * batch_size * (outside + kept)


def _block_activations(c: ViTConfig, batch_size: int, num_queries: int) -> int:
    """Numbers one block keeps for one image; num_queries: tokens whose output is read."""
    D, M, heads = c.width, c.mlp_dim, c.num_heads
    # Of every token the input, norm and its statistics, key, value.
    per_key = 4 * D + 2
    per_key += D + 2 * heads if c.qk_norm else 0
    per_key += D if c.posemb == "rope_2d" else 0
    # Of those read the query and mixed values; input, norm and statistics of the MLP, softmax.
    per_query = 4 * D + 2 + heads
    per_query += 2 * M + (2 * M if c.mlp == "swiglu" else M if c.gelu == "quick_gelu" else 0)
    per_query += 2 * D if c.layer_scale is not None else 0
    per_query += D + 2 * heads if c.qk_norm else 0
    per_query += 2 * D + M if c.dropout else 0
    per_query += D if c.posemb == "rope_2d" and num_queries == c.num_tokens else 0
    if c.posemb == "relative":  # softmax, scaled queries, gathered keys (once a batch)
        per_query += c.num_tokens * (heads + c.head_dim // batch_size) + D - heads
    return c.num_tokens * per_key + num_queries * per_query
