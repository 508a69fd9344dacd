"""Options of `vitrail explain`: of a map, and of the figures of a whole model. No torch here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

Method = Literal[
    "attention",
    "rollout",
    "relevance",
    "gradcam",
    "integrated-gradients",
    "occlusion",
    "random",
    "merging",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """What is asked of a method; which options it takes: docs/explain.md."""

    method: Method | None = None
    """How to explain. Default: relevance; gradcam for a ResNet; rollout without a head."""
    layer: str | None = None
    """attention and gradcam: a block from 0, or -1 for the last; or the name of a feature map."""
    head: int | None = None
    """attention: one head, from 0. Default: the mean."""
    target: str | None = None
    """The class to explain, its name or number. Default: the model's first choice."""
    token: str | None = None
    """ROW,COLUMN of a patch: what it attends to, in place of the output."""
    steps: int | None = None
    """integrated-gradients: points on the way from the baseline. Default: 32."""
    seed: int | None = None
    """random: of the numbers."""
    sheet: str | None = None
    """all, or methods with commas between: a sheet of them for each image, and explain.html."""
    tokens: float | None = None
    """Share of the tokens to keep, as in predict: merging shows which patches became one token;
    occlusion, integrated-gradients and random only."""
    patch: str | None = None
    """Patch, px, as in predict, of a ViT that was trained for several sizes."""
    style: Literal["heat", "spotlight"] = "heat"
    """heat: colours; spotlight: the paper's Figure 6, black where the model does not look."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """What --figures shows."""

    data: str | None = None
    """Images for --figures, as for vitrail train. Default: the data of the run."""
    split: str = "test"
    """Which of them: train, val or test."""
    num: int = 128
    """How many of them, a sample."""
    against: Path | None = None
    """A second model, shown beside the first."""
