"""The whole Vision Transformer in float64 NumPy, written from the papers and not from the package.

Parameters come as a dict of arrays by timm's names. Loops stand where the package reshapes, complex
numbers where it rotates halves, so that one mistake is not made twice. The two fixed tables are
rounded to float32, which is how the model keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tests.reference import residual_numpy, resnet_numpy
from vitrail.models.vit.config import ViTConfig

Array = NDArray[np.float64]
State = Mapping[str, Array]
STEM_MAPS = {
    "resnet": resnet_numpy.hybrid_map,
    "conv": resnet_numpy.conv_map,
    "residual": residual_numpy.stem_map,
}


def forward(state: State, config: ViTConfig, images: Array) -> dict[str, Array]:
    """images: (B, C, H, W). Returns every intermediate under the names of `tap`, and the logits."""
    per_image = [_forward_one(state, config, image) for image in images]
    return {name: np.stack([one[name] for one in per_image]) for name in per_image[0]}


def _forward_one(state: State, config: ViTConfig, image: Array) -> dict[str, Array]:
    out: dict[str, Array] = {}
    feature_map = image
    if config.stem != "none":
        feature_map = out["feature_map"] = STEM_MAPS[config.stem](state, config, image)
    out["patches"] = _patches(state, config, feature_map)
    x = _tokens(state, config, out["patches"])
    if config.pre_norm:
        x = _layer_norm(x, state, "norm_pre", config.ln_eps)
    out["embedded"] = x
    for i in range(config.depth):
        name = f"blocks.{i}"
        if i and config.posemb_at != "stem":
            x = x + _added(state, config, f"{name}." if config.posemb_at == "every" else "")
        x, weights = _block(x, state, name, config)
        out[f"block{i:02d}/attention"], out[f"block{i:02d}/output"] = weights, x
    is_bare = config.norm_after_pool or not config.final_norm
    tokens = x if is_bare else _layer_norm(x, state, "norm", config.ln_eps)
    out["tokens"] = tokens
    pooled = _pool(tokens, state, config, out)
    out["pooled"] = pooled
    if config.representation_size:
        pooled = np.tanh(_dense(pooled, state, "pre_logits"))
    out["pre_logits"] = pooled
    if config.distillation_token:
        both = [_dense(pooled[0], state, "head"), _dense(pooled[1], state, "head_dist")]
        out["logits"] = (both[0] + both[1]) / 2
    else:
        out["logits"] = _dense(pooled, state, "head")
    return out


def _dense(x: Array, state: State, name: str) -> Array:
    y: Array = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    return y


def _layer_norm(x: Array, state: State, name: str, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    y: Array = centred / np.sqrt(variance + eps) * state[f"{name}.weight"] + state[f"{name}.bias"]
    return y


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


def _block(x: Array, state: State, name: str, config: ViTConfig) -> tuple[Array, Array]:
    """One block with its norms before, after or inside the sum; and its attention."""
    eps = config.ln_eps
    weights = np.zeros(0)

    def attend(y: Array) -> Array:
        nonlocal weights
        branch, weights = _attention(y, state, f"{name}.attn", config)
        return branch

    def mlp(y: Array) -> Array:
        return _mlp(y, state, f"{name}.mlp", config)

    branches: list[Callable[[Array], Array]] = [attend, mlp]
    for place, branch in zip("12", branches, strict=True):
        scale = np.asarray(state.get(f"{name}.ls{place}.gamma", 1.0), np.float64)
        norm = f"{name}.norm{place}"
        if config.block == "pre" or (config.block == "between" and place == "1"):
            x = x + scale * branch(_layer_norm(x, state, norm, eps))
        elif config.block == "post":
            x = _layer_norm(x + scale * branch(x), state, norm, eps)
        elif config.block == "branch":
            x = x + scale * _layer_norm(branch(x), state, norm, eps)
        else:
            x = _layer_norm(x, state, norm, eps)
            x = x + scale * branch(x)
    return x, weights


def _patches(state: State, config: ViTConfig, image: Array) -> Array:
    """Cross-correlation at every patch: sum over channel, row and column of kernel times pixel."""
    if config.stem == "conv":
        return image.reshape(image.shape[0], -1).T
    kernel, (ph, pw) = state["patch_embed.proj.weight"], config.patch_size
    bias = state.get("patch_embed.proj.bias", np.zeros(config.width))
    rows = []
    for top in range(0, image.shape[1] - ph + 1, ph):
        for left in range(0, image.shape[2] - pw + 1, pw):
            patch = image[:, top : top + ph, left : left + pw]
            rows.append((kernel * patch).sum(axis=(1, 2, 3)) + bias)
    return np.stack(rows)


def _tokens(state: State, config: ViTConfig, patches: Array) -> Array:
    """Prefix and position: cls and dist (with rows of the table or not), registers, patches."""
    h, w = config.grid
    prefix = [state[name][0, 0] for name in ("cls_token", "dist_token") if name in state]
    if config.posemb in ("learned", "learned_rope_2d"):
        table = state["pos_embed"][0]
        if config.posemb_prefix:
            prefix = [token + row for token, row in zip(prefix, table, strict=False)]
            table = table[len(prefix) :]
        patches = patches + table
    if config.posemb == "learned_2d":
        patches = patches.copy()
        for row in range(h):
            for column in range(w):
                x, y = state["pos_embed_x"][0, column], state["pos_embed_y"][0, row]
                patches[row * w + column] = patches[row * w + column] + np.concatenate([x, y])
    if config.posemb == "sincos_2d":
        patches = patches + _sincos(h, w, config.width).astype(np.float32)
    prefix += list(state["reg_token"][0]) if config.num_registers else []
    return np.stack([*prefix, *patches])


def _added(state: State, config: ViTConfig, owner: str) -> Array:
    """(N, D): the table of `owner` row by row; zeros for registers, and cls or dist without row."""
    (h, w), total = config.grid, np.zeros((config.num_tokens, config.width))
    for patch in range(h * w):
        place = config.num_prefix + patch
        if config.posemb in ("learned", "learned_rope_2d"):
            table = state[f"{owner}pos_embed"][0]
            total[place] = table[len(table) - h * w + patch]
        elif config.posemb == "learned_2d":
            half = config.width // 2
            total[place, :half] = state[f"{owner}pos_embed_x"][0, patch % w]
            total[place, half:] = state[f"{owner}pos_embed_y"][0, patch // w]
        else:
            total[place] = _sincos(h, w, config.width)[patch].astype(np.float32)
    if config.posemb_prefix:
        total[0] = state[f"{owner}pos_embed"][0, 0]
        if config.distillation_token:
            total[1] = state[f"{owner}pos_embed"][0, 1]
    return total


def _sincos(h: int, w: int, width: int) -> Array:
    table = np.zeros((h * w, width))
    quarter = width // 4
    for row in range(h):
        for column in range(w):
            for k in range(quarter):
                omega = 1 / 10_000 ** (k / (quarter - 1))
                values = (
                    math.sin(column * omega),
                    math.cos(column * omega),
                    math.sin(row * omega),
                    math.cos(row * omega),
                )
                table[row * w + column, k::quarter] = values
    return table


def _attention(x: Array, state: State, name: str, config: ViTConfig) -> tuple[Array, Array]:
    """x: (N, D). Returns the projected output (N, D) and the weights (heads, N, N)."""
    q, k, v = np.split(_dense(x, state, f"{name}.qkv"), 3, axis=-1)
    size = config.head_dim
    outputs, all_weights = [], []
    for head in range(config.num_heads):
        columns = slice(head * size, (head + 1) * size)
        query, key, value = q[:, columns], k[:, columns], v[:, columns]
        if config.qk_norm:
            query = _layer_norm(query, state, f"{name}.q_norm", config.ln_eps)
            key = _layer_norm(key, state, f"{name}.k_norm", config.ln_eps)
        if config.posemb.endswith("rope_2d"):
            query, key = _rotate(query, config), _rotate(key, config)
        logits = query @ key.T
        if config.posemb == "relative":
            logits = logits + _relative(query, state[f"{name}.relative.keys"], config)
        weights = _softmax(logits / math.sqrt(size))
        all_weights.append(weights)
        outputs.append(weights @ value)
    return _dense(np.concatenate(outputs, axis=-1), state, f"{name}.proj"), np.stack(all_weights)


def _rotate(x: Array, config: ViTConfig) -> Array:
    """Channels i and i + head_dim/2 are one complex number, turned by the angle of channel i."""
    (h, w), quarter, half = config.grid, config.head_dim // 4, config.head_dim // 2
    out = x.copy()
    for patch in range(h * w):
        row, column = divmod(patch, w)
        if config.rope == "centred":
            middles = ((row + 0.5) / h * 2 - 1, (column + 0.5) / w * 2 - 1)
            y_x = [2 * math.pi * middle for middle in middles]
        else:
            y_x = [row + config.rope_start, column + config.rope_start]
            if config.rope_grid is not None:
                y_x = [y_x[0] / h * config.rope_grid[0], y_x[1] / w * config.rope_grid[1]]
        angles = [c / config.rope_base ** (k / quarter) for c in y_x for k in range(quarter)]
        turn = np.cos(angles).astype(np.float32) + 1j * np.sin(angles).astype(np.float32).astype(
            np.float64
        )
        place = config.num_prefix + patch
        turned = (x[place, :half] + 1j * x[place, half:]) * turn
        out[place] = np.concatenate([turned.real, turned.imag])
    return out


def _relative(query: Array, keys: Array, config: ViTConfig) -> Array:
    """Logits of the extra attention: query times the embedding of each offset (p_q - p_k)."""
    (h, w), num_prefix = config.grid, config.num_prefix
    count = len(query)
    logits = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            if i < num_prefix or j < num_prefix:
                kind = 2 if i < num_prefix and j < num_prefix else int(j < num_prefix)
                row = (2 * h - 1) * (2 * w - 1) + kind
            else:
                (yi, xi), (yj, xj) = divmod(i - num_prefix, w), divmod(j - num_prefix, w)
                row = (yi - yj + h - 1) * (2 * w - 1) + (xi - xj + w - 1)
            logits[i, j] = query[i] @ keys[row]
    return logits


def _gelu(x: Array, kind: str) -> Array:
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu":
        y: Array = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    elif kind == "gelu_tanh":
        y = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    else:
        y = x / (1 + np.exp(-1.702 * x))
    return y


def _mlp(x: Array, state: State, name: str, config: ViTConfig) -> Array:
    hidden = _dense(x, state, f"{name}.fc1")
    if config.mlp == "swiglu" and name.startswith("blocks"):
        gate, value = hidden[:, : config.mlp_dim], hidden[:, config.mlp_dim :]
        hidden = gate / (1 + np.exp(-gate)) * value
    else:
        hidden = _gelu(hidden, config.gelu)
    return _dense(hidden, state, f"{name}.fc2")


def _pool(tokens: Array, state: State, config: ViTConfig, out: dict[str, Array]) -> Array:
    mean: Array = tokens[config.num_prefix :].mean(axis=0)
    if config.pool == "gap":
        if config.norm_after_pool:
            return _layer_norm(mean, state, "fc_norm", config.ln_eps)
        return mean
    if config.pool == "cls_gap":
        return np.concatenate([tokens[0], mean])
    if config.pool == "seq":
        weights = _softmax(_dense(tokens, state, "seq_pool.score")[:, 0])
        out["pool/attention"] = weights[None, None]
        weighted: Array = weights @ tokens
        return weighted
    if config.pool == "cls":
        return tokens[:2] if config.distillation_token else tokens[0]
    num_heads = config.map_heads or config.num_heads
    size = config.width // num_heads
    seen = slice(0 if config.map_prefix else config.num_prefix, None)
    query = _dense(state["attn_pool.latent"][0], state, "attn_pool.q")  # (1, D)
    key, value = np.split(_dense(tokens, state, "attn_pool.kv"), 2, axis=-1)
    heads, all_weights = [], []
    for head in range(num_heads):
        columns = slice(head * size, (head + 1) * size)
        weights = np.zeros((1, len(tokens)))
        weights[:, seen] = _softmax(query[:, columns] @ key[seen, columns].T / math.sqrt(size))
        all_weights.append(weights)
        heads.append(weights @ value[:, columns])
    out["pool/attention"] = np.stack(all_weights)
    y = _dense(np.concatenate(heads, axis=-1), state, "attn_pool.proj")
    normed = _layer_norm(y, state, "attn_pool.norm", config.ln_eps)
    pooled: Array = (y + _mlp(normed, state, "attn_pool.mlp", config))[0]
    return pooled
