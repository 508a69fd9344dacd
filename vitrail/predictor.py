"""A classifier as far as it answers: from images to predictions, by torch or by another engine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.isolated import is_cheap
from vitrail.data.loading.prepared import (
    MAX_DECODERS,
    prepared_ahead,
    prepared_files,
    prepared_image,
)
from vitrail.data.sources.examples import Examples
from vitrail.device import num_cores, pick_precision
from vitrail.errors import ModelError, UsageError
from vitrail.model_folder.bundle import NO_RECORD
from vitrail.model_folder.description import Meta
from vitrail.model_folder.export_record import Export
from vitrail.models.names import ModelConfig
from vitrail.notebook import Shown
from vitrail.prediction import (
    NOT_FINITE,
    Picture,
    Prediction,
    Prepared,
    best_of,
    is_answer,
    probabilities_of,
)
from vitrail.runtime.runtime import Array, Runtime
from vitrail.spelling import count, printable

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitrail.runtime.torch_runtime import TorchRuntime

SHOWN = 5  # names of classes
Size = tuple[int, int]


class Predictor(Shown):
    """What a `Classifier` answers with; the arguments as for it."""

    def __init__(
        self,
        model: nn.Module | None,
        preprocess: Preprocess,
        classes: Sequence[str] = (),
        temperature: float = 1.0,
        meta: Meta | Mapping[str, Any] | None = None,
        examples: Examples | str = NO_RECORD,
        runtime: Runtime | None = None,
    ) -> None:
        self._model = None if model is None else model.eval()
        self._runtime = runtime
        self.preprocess = preprocess
        self.classes = list(classes)
        self.temperature = temperature
        self.meta = meta if isinstance(meta, Meta) else Meta(**(meta or {}))
        self.examples = examples
        self.export: Export | None = None  # the export that it was read from
        self.run: Path | None = None  # the run that it was read from

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people: the model, what it computes with, what it knows."""
        made, info = self.preprocess, self.runtime.info
        found = [("model", self.meta.name)]
        if self._model is not None:
            number = sum(one.numel() for one in self._model.parameters())
            found.append(("parameters", f"{number:,}"))
        size = f"{made.height} x {made.width} px"
        found.append(("image", f"{size}, {count(made.channels, 'channel')}"))
        names = ", ".join(self.classes[:SHOWN]) + ", ..." * (len(self.classes) > SHOWN)
        found.append(("classes", f"{len(self.classes):,}: {names}" if self.classes else "no names"))
        engine = f"{info.engine} {info.precision} on {info.device}"
        return [*found, ("temperature", f"{self.temperature:.4g}"), ("engine", engine)]

    def __repr__(self) -> str:
        said = "; ".join(f"{name} {value}" for name, value in self.rows())
        return f"Classifier({printable(said)})"

    @property
    def model(self) -> nn.Module:
        """The module of torch. Raises ModelError VIT-444 where another engine computes alone."""
        if self._model is None:
            raise ModelError(
                "VIT-444",
                f"this model has no weights for torch: {self.runtime.info.engine} computes it.",
                hint="Load the model that it was made of.",
            )
        return self._model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._model = model

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.torch_runtime().device

    @property
    def runtime(self) -> Runtime:
        """What computes the logits."""
        return self._runtime or self.torch_runtime()

    @property
    def identity(self) -> str:
        """64 hex digits of what answers follow from: engine, weights, preprocessing, classes."""
        info = self.runtime.info
        facts = (
            *(self.runtime.identity, info.engine, info.precision, info.device.partition(":")[0]),
            *(self.preprocess.to_json(), self.classes, self.temperature, self.meta.scores),
        )
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def torch_runtime(
        self, device: torch.device | None = None, precision: str = "float32"
    ) -> TorchRuntime:
        """The module as a runtime, moved to `device` where one is given."""
        from vitrail.runtime.torch_runtime import TorchRuntime

        model = self.model if device is None else self.model.to(device)
        return TorchRuntime(model, self.preprocess.input_size, precision)

    def computed_by_torch(self, precision: str) -> Self:
        """This classifier, computed by torch in `precision` where that is not float32. Raises
        UsageError VIT-242 where the device has no bfloat16.
        """
        if precision != "float32":
            pick_precision(precision, self.device)
            self._runtime = self.torch_runtime(precision=precision)
        return self

    def keeping_tokens(self, share: float) -> Self:
        """This classifier, whose model merges its patch tokens until `share` of them is left; 1
        keeps all, and every bit. Raises UsageError VIT-288 where that cannot be.
        """
        from vitrail.models.vit.merging import check_mergeable, no_tokens
        from vitrail.models.vit.model import ViT

        if not isinstance(self.model, ViT):
            raise no_tokens()
        check_mergeable(self.model.config, share)
        self.model.kept_tokens = share
        return self

    def at_patch(self, patch: Size | None = None) -> Self:
        """This classifier, whose model cuts images into patches of (height, width) px: one of the
        sizes that it was trained for (FlexiViT); by default the one it takes by itself. Raises
        UsageError VIT-289 for another one.
        """
        from vitrail.checkpoints.adapt.fixed_patch import fixed_model
        from vitrail.models.create import Model

        if isinstance(self.model, Model):
            self.model = fixed_model(self.model, patch)
            if self._runtime is not None:  # of the module as it was
                self._runtime = self.torch_runtime(precision=self._runtime.info.precision)
        return self

    @property
    def kept_tokens(self) -> float:
        """Share of the patch tokens that its model keeps."""
        return float(getattr(self._model, "kept_tokens", 1.0))

    def prepare(self, picture: Picture) -> Prepared:
        """What the model is shown of a path, the bytes of a file, a Pillow image or uint8 pixels
        (H, W, C): float32 (C, H, W), or in words what is wrong with it. Never raises; from any
        thread.
        """
        return prepared_image(
            self.preprocess, Path(picture) if isinstance(picture, str) else picture
        )

    def answer(
        self, prepared: Sequence[Prepared], top: int = 5, names: Sequence[str] = ()
    ) -> list[Prediction]:
        """The `top` best classes of each image that was prepared, computed as one batch; `error`
        where it could not be. names: what the images are called in `source`.
        """
        images = [one for one in prepared if not isinstance(one, str)]
        found = self.probabilities(np.stack(images)) if images else np.empty((0, 0), np.float32)
        rows = iter(found)
        answers = []
        for index, one in enumerate(prepared):
            name = names[index] if names else f"input-{index}"
            if isinstance(one, str):
                answers.append(Prediction(name, error=one))
                continue
            row = next(rows)
            if not is_answer(row):
                answers.append(Prediction(name, error=NOT_FINITE))
                continue
            best = best_of(row, self.classes, top)
            answers.append(Prediction(name, best[0].label, best[0].score, best))
        return answers

    def predict(
        self, inputs: Picture | Iterable[Picture], top: int = 5, batch_size: int = 32
    ) -> list[Prediction]:
        """The `top` best classes of each input, as `prepare` takes them. An image that cannot be
        used has `error`; it never raises.
        """
        return list(self.stream(inputs, top, batch_size))

    def predict_files(
        self, paths: Sequence[str | os.PathLike[str]], top: int = 5, batch_size: int = 32
    ) -> list[Prediction]:
        """As `predict` of paths; where processes are cheap to start (Linux) files are decoded in
        some, so that one at which a decoder crashes or hangs has an `error` too.
        """
        return list(self.stream_files(paths, top, batch_size))

    def stream_files(
        self, paths: Sequence[str | os.PathLike[str]], top: int = 5, batch_size: int = 32
    ) -> Generator[Prediction, None, None]:
        """As `predict_files`, one after another; closing ends the processes."""
        if not is_cheap():
            yield from self.stream(paths, top, batch_size)
            return
        self._check(top, batch_size)
        workers = min(MAX_DECODERS, num_cores(), len(paths))
        files = prepared_files(self.preprocess, [os.fspath(path) for path in paths], workers)
        with closing(files):
            while batch := [*islice(files, batch_size)]:
                names, prepared = zip(*batch, strict=True)
                yield from self.answer(prepared, top, names)

    def stream(
        self, inputs: Picture | Iterable[Picture], top: int = 5, batch_size: int = 32
    ) -> Iterator[Prediction]:
        """As `predict`, one after another: the next batch is decoded while this one is computed."""
        self._check(top, batch_size)
        with closing(prepared_ahead(self.prepare, inputs, batch_size)) as batches:
            for names, prepared in batches:
                yield from self.answer(prepared, top, names)

    def _check(self, top: int, batch_size: int) -> None:
        self._check_head()
        if top < 1 or batch_size < 1:
            raise UsageError("VIT-202", f"top {top}, batch_size {batch_size}: expected at least 1.")

    def _check_head(self) -> None:
        """Raises ModelError VIT-443 for an encoder: its outputs are features, no classes."""
        config = getattr(self._model, "config", None)
        if isinstance(config, ModelConfig) and not config.num_classes:
            raise ModelError(
                "VIT-443",
                "the model is an encoder without a head; it knows no classes.",
                hint="Train a head: vitrail train DATA --from MODEL",
            )

    def probabilities(self, images: Array) -> NDArray[np.float32]:
        """Class probabilities (B, K) of preprocessed images (B, C, H, W), an array or a tensor."""
        return self.probabilities_of_logits(self.runtime.logits(images))

    def probabilities_of_logits(self, logits: Array) -> NDArray[np.float32]:
        """Class probabilities (B, K) of logits (B, K), an array or a tensor."""
        return probabilities_of(logits, self.temperature, self.meta.scores)
