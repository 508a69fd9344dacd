"""One published Vision Transformer, as `published_rows.py` lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

SizeNumbers = tuple[int, int, int, int]  # width, depth, mlp_dim, patch
ROTARY = "rotary positions"


@dataclass(frozen=True)
class PublishedViT:
    """One network. size: width, depth, mlp_dim, patch; text: its names, with spaces between."""

    size: SizeNumbers
    heads: int
    text: str
    eps: float = 1e-6
    gelu: str = "gelu"
    pool: str = "cls"
    block: str = "pre"
    final_norm: bool = True
    map_prefix: bool = True
    more: str = ""
    form: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of timm's entries, or of papers' files."""
        return (self.text,) if "before" in self.text else tuple(self.text.split())

    @cached_property
    def function(self) -> Mapping[str, Any]:
        """Fields of the architecture that no tensor shows."""
        posemb = f"learned with {ROTARY}" if self.more == ROTARY else "learned"
        return {
            "num_heads": self.heads,
            "gelu": self.gelu,
            "ln_eps": self.eps,
            "pool": self.pool,
            "posemb": posemb,
            "block": self.block,
            "final_norm": self.final_norm,
            "map_prefix": self.map_prefix,
        }

    def agrees(self, given: Mapping[str, Any]) -> bool:
        """Whether it is what was stated."""
        return all(
            str(given[field]) == str(value) or _number(given[field]) == value
            for field, value in self.function.items()
            if field in given
        )


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
