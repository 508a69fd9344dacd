"""`--from MODEL`: the model whose architecture, preprocessing and weights a new run takes over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitrail.checkpoints.adapt.fixed_patch import is_flexible
from vitrail.checkpoints.mapping.fact import elsewhere
from vitrail.config import StartConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import Examples
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.training.plan.pinned_model import load_pinned

Size = tuple[int, int]


@dataclass(frozen=True)
class Start:
    """A model to start from. origin: the library whose checkpoint it was, "" for vitrail; resample:
    its rule for position embeddings.
    """

    path: str
    sha256: str
    name: str
    config: ModelConfig
    preprocess: Preprocess
    classes: tuple[str, ...]
    origin: str
    resample: str
    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()  # what was said in reading it
    said: tuple[str, ...] = ()  # what its file does not say, a line each
    examples: Examples | str = ""  # what it was trained on, or why nobody can tell

    @property
    def multiple(self) -> Size:
        """What an image size of this model is a multiple of, (height, width) px."""
        if not isinstance(self.config, ViTConfig):
            return (1, 1)
        if self.config.patch_sizes:
            heights, widths = zip(*self.config.patch_sizes, strict=True)
            return math.lcm(*heights), math.lcm(*widths)
        (height, width), (h, w) = self.config.seen_size, self.config.grid
        return max(1, height // h), max(1, width // w)


def open_start(config: StartConfig) -> Start:
    """The model that `config` names.

    Raises what `vitrail.load` raises, and ModelError VIT-404 where it is another one than before.
    """
    found, architecture_, sha256 = load_pinned(config.model, config.sha256, "start.model", config)
    return Start(
        path=config.model,
        sha256=sha256,
        name=found.meta.name,
        config=architecture_,
        preprocess=found.preprocess,
        classes=tuple(found.classes),
        origin=found.meta.origin,
        resample="flexi" if is_flexible(architecture_) else found.meta.resample,
        state=found.model.state_dict(),
        notes=found.meta.notes,
        said=tuple(f"{fact.word} {fact.text()}" for fact in elsewhere(found.meta.facts)),
        examples=found.examples,
    )
