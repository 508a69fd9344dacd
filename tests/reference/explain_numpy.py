"""Explanations in float64 NumPy, written from the papers: loops, and derivatives by complex steps.

f'(x) = Im f(x + i h) / h is exact to rounding for h = 1e-30, because nothing is subtracted. So the
gradient with respect to every single attention weight comes out without any rule of differentiation
that the package could share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = Mapping[str, Array]
STEP = 1e-30


def rollout(attentions: Sequence[Array]) -> Array:
    """attentions: (heads, N, N) of each layer. Returns (N, N)."""
    N = attentions[0].shape[1]
    total = np.eye(N)
    for layer in attentions:
        mixed = np.zeros((N, N))
        for query in range(N):
            for key in range(N):
                mixed[query, key] = sum(head[query, key] for head in layer) / len(layer)
                mixed[query, key] += 1.0 if query == key else 0.0
            mixed[query] /= mixed[query].sum()
        product = np.zeros((N, N))
        for query in range(N):
            for middle in range(N):
                product[query] += mixed[query, middle] * total[middle]
        total = product
    return total


def relevance(attentions: Sequence[Array], slopes: Sequence[Array]) -> Array:
    """The paper's order: R = I, then R = R + A-bar R from the first layer on. Returns (N, N)."""
    N = attentions[0].shape[1]
    total = np.eye(N)
    for layer, slope in zip(attentions, slopes, strict=True):
        weighted = np.zeros((N, N))
        for head in range(len(layer)):
            weighted += np.maximum(0, layer[head] * slope[head]) / len(layer)
        total = total + weighted @ total
    return total


def distance(attention: Array, grid: tuple[int, int], pixels: tuple[float, float]) -> Array:
    """Mean distance of each head, rows scaled to sum 1 and as they are, (heads, 2). attention:
    (heads, N, N); pixels: between two rows and two columns of patches.
    """
    h, w = grid
    prefix = attention.shape[1] - h * w
    found = np.zeros((len(attention), 2))
    for head, weights in enumerate(attention):
        for query in range(h * w):
            total = plain = 0.0
            for key in range(h * w):
                dy = (query // w - key // w) * pixels[0]
                dx = (query % w - key % w) * pixels[1]
                weight = weights[prefix + query, prefix + key]
                plain += weight * math.sqrt(dy * dy + dx * dx)
                total += weight
            found[head] += np.array([plain / total, plain]) / (h * w)
    return found


class TinyViT:
    """The plain ViT with tanh-GELU, learned positions and pools cls, gap, cls_gap or map, in
    complex numbers, with something added to the attention weights: i h in one place at a time.
    """

    def __init__(self, state: State, heads: int, depth: int, pool: str, eps: float) -> None:
        self.state, self.heads, self.depth = state, heads, depth
        self.pool, self.eps = pool, eps

    def dense(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"])

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.eps)
        return np.asarray(
            centred / scale * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]
        )

    def softmax(self, x: Array) -> Array:
        e = np.exp(x - x.real.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def mlp(self, x: Array, name: str) -> Array:
        x = self.dense(x, f"{name}.fc1")
        x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return self.dense(x, f"{name}.fc2")

    def attend(self, q: Array, k: Array, v: Array, change: Array) -> tuple[Array, Array]:
        """q: (n, D); k, v: (N, D); change: (heads, n, N), added to the weights."""
        size = q.shape[1] // self.heads
        outputs, kept = [], []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            weights = self.softmax(q[:, part] @ k[:, part].T / math.sqrt(size)) + change[head]
            kept.append(weights)
            outputs.append(weights @ v[:, part])
        return np.concatenate(outputs, axis=1), np.stack(kept)

    def blocks(self, x: Array, changes: Mapping[int, Array]) -> tuple[Array, list[Array]]:
        """x: (N, D). Returns the tokens after the final norm, and the attention of every layer."""
        kept, N = [], len(x)
        for layer in range(self.depth):
            name = f"blocks.{layer}"
            q, k, v = np.split(self.dense(self.norm(x, f"{name}.norm1"), f"{name}.attn.qkv"), 3, 1)
            none = np.zeros((self.heads, N, N))
            mixed, weights = self.attend(q, k, v, changes.get(layer, none))
            kept.append(weights.real)
            x = x + self.dense(mixed, f"{name}.attn.proj")
            x = x + self.mlp(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
        return self.norm(x, "norm"), kept

    def logits(self, tokens: Array, num_prefix: int, change: Array | None = None) -> Array:
        """tokens: (N, D) after the final norm; change: (heads, 1, N) of the pooling's attention."""
        mean = tokens[num_prefix:].mean(axis=0)
        if self.pool == "map":
            q = self.dense(self.state["attn_pool.latent"][0], "attn_pool.q")
            k, v = np.split(self.dense(tokens, "attn_pool.kv"), 2, axis=1)
            none = np.zeros((self.heads, 1, len(tokens)))
            mixed, self.pooled = self.attend(q, k, v, none if change is None else change)
            y = self.dense(mixed, "attn_pool.proj")
            pooled = (y + self.mlp(self.norm(y, "attn_pool.norm"), "attn_pool.mlp"))[0]
        elif self.pool == "cls_gap":
            pooled = np.concatenate([tokens[0], mean])
        else:
            pooled = tokens[0] if self.pool == "cls" else mean
        return self.dense(pooled, "head")

    def attention_slopes(self, x: Array, num_prefix: int, target: int) -> list[Array]:
        """Of one logit, with respect to every attention weight: (heads, N, N) of each layer."""
        found = []
        for layer in range(self.depth):
            slope = np.zeros((self.heads, len(x), len(x)))
            for place in np.ndindex(slope.shape):
                change = np.zeros(slope.shape, complex)
                change[place] = complex(0, STEP)
                tokens, _ = self.blocks(x.astype(complex), {layer: change})
                slope[place] = self.logits(tokens, num_prefix)[target].imag / STEP
            found.append(slope)
        return found

    def row(self, x: Array, num_prefix: int, target: int) -> Array:
        """Which final tokens the output is read from; of a probe, what changes with its weights."""
        tokens, _ = self.blocks(x.astype(complex), {})
        row = np.zeros(len(x))
        if self.pool != "map":
            shares = {"cls": (1.0, 0.0), "gap": (0.0, 1.0), "cls_gap": (0.5, 0.5)}[self.pool]
            row[num_prefix:] = shares[1] / (len(x) - num_prefix)
            row[0] += shares[0]
            return row
        for token in range(len(x)):
            for head in range(self.heads):
                change = np.zeros((self.heads, 1, len(x)), complex)
                change[head, 0, token] = complex(0, STEP)
                slope = self.logits(tokens, num_prefix, change)[target].imag / STEP
                self.logits(tokens, num_prefix)
                weight = self.pooled[head, 0, token].real
                row[token] += max(0.0, slope * weight) / self.heads
        return row


def hsic(first: Array, second: Array) -> float:
    """Unbiased HSIC of Gram matrices (n, n), Song et al. 2012 equation 5, summed term by term."""
    n = len(first)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(first[i, j] * second[i, j] for i, j in pairs)
    sums = sum(first[i, j] for i, j in pairs) * sum(second[i, j] for i, j in pairs)
    mixed = sum(first[i, j] * second[j, k] for i, j in pairs for k in range(n) if k != j)
    value = trace + sums / ((n - 1) * (n - 2)) - 2 * mixed / (n - 2)
    return float(value / (n * (n - 3)))
