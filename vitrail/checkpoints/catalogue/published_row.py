"""Published Vision Transformers by shapes, form and function: what no tensor of them shows.

The rows are those of `published_vits.csv`; a column that is empty there has the default of
`PublishedViT`.

Read from the built modules of timm 1.0.31 (`vision_transformer.py`, `deit_names.py`, `eva.py`,
`vision_transformer_hybrid.py`: every entry whose tensors have no others' names), and from the code
of facebookresearch/deit, moco-v3, mae and dinov2, and of torchvision 0.28. Rows of models that are
not supported stand here too: their shapes and names are those of models that are.

A form is the words of `published.form_of`. eps is that of LayerNorm; more: what the model has
beyond ours, "" for those that are supported. Several names: entries that differ in image size only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vitrail.checkpoints.catalogue.table import table

SizeNumbers = tuple[int, int, int, int]  # width, depth, mlp_dim, patch
ROTARY = "rotary positions"
TEXTS = ("gelu", "pool", "block", "more")


@dataclass(frozen=True, kw_only=True)
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


def _row(line: Mapping[str, str]) -> PublishedViT:
    options: dict[str, Any] = {name: line[name] for name in TEXTS if line[name]}
    options |= {name: False for name in ("final_norm", "map_prefix") if line[name] == "no"}
    return PublishedViT(
        size=(int(line["width"]), int(line["depth"]), int(line["mlp_dim"]), int(line["patch"])),
        heads=int(line["heads"]),
        eps=float(line["eps"] or 1e-6),
        text=line["names"],
        form=line["form"],
        **options,
    )


ROWS = tuple(_row(line) for line in table("published_vits.csv"))
