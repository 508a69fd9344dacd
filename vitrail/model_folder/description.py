"""What a model folder says of a model beside its weights, and the folder written with them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vitrail
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import Examples
from vitrail.model_folder.bundle import MAX_EXAMPLES_BYTES, NO_RECORD, RECORD, write_bundle
from vitrail.model_folder.model_card import card_of
from vitrail.model_folder.model_record import Architecture, Record, made_record
from vitrail.models.names import ModelConfig
from vitrail.prediction import Scores

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.checkpoints.mapping.fact import Fact

RESAMPLE = "google"


@dataclass(frozen=True)
class Meta:
    """Where a model comes from. `name` is a size of our table ("vit_s16", "vit": of none),
    `trained_on` plain facts (data, images, seed ...), `metrics` objects of metrics.json by
    split. `scores`: "sigmoid" where an image may have several labels. `origin`: the library whose
    checkpoint it is or was, "" for vitrail; `resample`: its rule for position embeddings; `notes`:
    what was changed in reading it; `facts`: where its numbers came from.
    """

    name: str = "vit"
    trained_on: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    scores: Scores = "softmax"
    origin: str = ""
    resample: str = RESAMPLE
    notes: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Description:
    """All of a model but its weights; examples: which images it was trained on, or why that cannot
    be told.
    """

    config: ModelConfig
    preprocess: Preprocess
    classes: Sequence[str]
    meta: Meta
    temperature: float = 1.0
    examples: Examples | str = NO_RECORD

    @cached_property
    def known(self) -> bytes:
        """examples.dat: which images it was trained on, by digests; empty where that is not known,
        or so long that nobody would read it.
        """
        known = self.examples.shared().to_bytes() if isinstance(self.examples, Examples) else b""
        return known if len(known) <= MAX_EXAMPLES_BYTES else b""

    def record(self, name: Path, sha256: str = "0" * 64) -> Record:
        """model.json, to be called `name` in messages; sha256: of the weights, 64 hex digits.
        Raises ModelError VIT-434 where there can be none.
        """
        import torch

        meta = self.meta
        facts = {key: value for key, value in meta.trained_on.items() if key != "examples"}
        if self.known:
            facts["examples"] = {"sha256": hashlib.sha256(self.known).hexdigest()}
        ours = {"vitrail": vitrail.__version__, "torch": torch.__version__}
        ours["python"] = platform.python_version()
        return made_record(
            name,
            architecture=Architecture(
                family=self.config.family,
                name=self.config.family if meta.name == "vit" else meta.name,
                numbers=self.config.model_dump(mode="json"),
            ),
            classes=list(self.classes),
            preprocess=self.preprocess.to_json(),
            temperature=self.temperature,
            scores=meta.scores,
            origin=meta.origin,
            trained_on=facts,
            metrics=meta.metrics,
            versions={**ours, **meta.versions},
            sha256=sha256,
        )

    def write(self, folder: Path, tensors: Mapping[str, Tensor], *, replace: bool = False) -> None:
        """The model folder with the weights `tensors`. Raises as `write_bundle`, and VIT-434."""
        record_of = partial(self.record, folder / RECORD)
        card = card_of(record_of())
        write_bundle(folder, tensors, record_of, card, replace=replace, examples=self.known)
