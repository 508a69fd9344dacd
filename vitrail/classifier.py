"""A classifier: a model, the preprocessing it was trained with, the names of its classes.

What predict, eval, export and serve all take. On disk it is a folder (`model_folder/bundle.py`),
which can be moved, renamed, zipped and read-only.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from dataclasses import replace as replace_fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import vitrail
from vitrail.checkpoints.hub.download import Progress
from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.images.packing import unpacked
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.isolated import is_cheap
from vitrail.data.loading.prepared import prepared_files, prepared_image
from vitrail.data.sources.examples import Examples
from vitrail.device import num_cores, pick_precision, sent
from vitrail.errors import ModelError, UsageError
from vitrail.model_folder.bundle import (
    MAX_BYTES,
    MAX_EXAMPLES_BYTES,
    NO_RECORD,
    RECORD,
    write_bundle,
)
from vitrail.model_folder.export_record import Export
from vitrail.model_folder.model_card import card_of
from vitrail.model_folder.model_record import Architecture, Record, made_record
from vitrail.models.names import ModelConfig
from vitrail.notebook import Shown
from vitrail.open_model import (
    Meta,
    Opened,
    Stated,
    find_torch_model,
    open_model,
    opened_foreign,
)
from vitrail.prediction import (
    NOT_FINITE,
    Picture,
    Prediction,
    Prepared,
    as_inputs,
    best_of,
    is_answer,
    name_of,
    probabilities_of,
)
from vitrail.run_model import is_run
from vitrail.runtime.engines import Asked
from vitrail.runtime.runtime import Array, Runtime
from vitrail.spelling import count, printable
from vitrail.system.interrupts import Threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitrail.checkpoints.external import ExternalCheckpoint
    from vitrail.data.sources.source import Source
    from vitrail.evaluation.eval_set import EvalSet
    from vitrail.evaluation.measuring.measuring import Measuring, Tta
    from vitrail.evaluation.measuring.measuring import Progress as Told
    from vitrail.evaluation.probes.probe_record import Probe
    from vitrail.evaluation.record import Evaluation
    from vitrail.explain.explanation import Explanation
    from vitrail.runtime.torch_runtime import TorchRuntime

MAX_DECODERS = 8  # threads
SHOWN = 5  # names of classes
Size = tuple[int, int]


class Classifier(Shown):
    """model: put in evaluation mode; preprocess: image -> (C, H, W) tensor; classes: names in the
    order of the outputs, or empty; temperature: divides the logits; examples: which images it was
    trained on, by content, or why that cannot be told; runtime: what computes the logits, torch
    with `model` unless given. Without a model it predicts and nothing else.
    """

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

    def computed_by_torch(self, precision: str) -> Classifier:
        """This classifier, computed by torch in `precision` where that is not float32. Raises
        UsageError VIT-242 where the device has no bfloat16.
        """
        if precision != "float32":
            pick_precision(precision, self.device)
            self._runtime = self.torch_runtime(precision=precision)
        return self

    def keeping_tokens(self, share: float) -> Classifier:
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

    def at_patch(self, patch: Size | None = None) -> Classifier:
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

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        max_bytes: int = MAX_BYTES,
        progress: Progress | None = None,
        engine: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
    ) -> Classifier:
        """As `vitrail.load`."""
        return load(
            path,
            device=device,
            max_bytes=max_bytes,
            progress=progress,
            engine=engine,
            precision=precision,
            threads=threads,
        )

    def save(self, folder: str | Path, *, replace: bool = False) -> None:
        """Write the model folder: weights, model.json, card. It appears whole or not at all.

        Raises ModelError VIT-440 where `folder` exists (unless `replace`), EnvironmentFault
        VIT-506.
        """
        from vitrail.models.create import Model

        if not isinstance(self.model, Model):
            raise TypeError(f"only a vitrail model can be saved, not a {type(self.model).__name__}")
        config = self.model.config

        known = self.examples.shared().to_bytes() if isinstance(self.examples, Examples) else b""
        known = known if len(known) <= MAX_EXAMPLES_BYTES else b""  # nobody would read it
        facts = {k: v for k, v in self.meta.trained_on.items() if k != "examples"}
        if known:
            facts["examples"] = {"sha256": hashlib.sha256(known).hexdigest()}
        meta = replace_fields(self.meta, trained_on=facts)

        def record_of(sha256: str) -> Record:
            return record_for(
                config,
                self.preprocess,
                self.classes,
                meta,
                self.temperature,
                name=Path(folder) / RECORD,
                sha256=sha256,
            )

        card = card_of(record_of("0" * 64))
        tensors = self.model.state_dict()
        write_bundle(Path(folder), tensors, record_of, card, replace=replace, examples=known)

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
        numbered = enumerate(as_inputs(inputs))
        with Threads(min(MAX_DECODERS, os.cpu_count() or 1), "decode") as pool:
            waiting = self._submit(pool, numbered, batch_size)
            while waiting:
                following = self._submit(pool, numbered, batch_size)
                prepared = [pool.result_of(one, name=name) for name, one in waiting]
                yield from self.answer(prepared, top, [name for name, _ in waiting])
                waiting = following

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

    def _submit(
        self, pool: Threads, numbered: Iterator[tuple[int, Picture]], count: int
    ) -> list[tuple[str, Future[Prepared]]]:
        """The names of the next images, and their futures."""
        return [
            (name_of(index, item), pool.submit(self.prepare, item))
            for index, item in islice(numbered, count)
        ]

    def probabilities(self, images: Array) -> NDArray[np.float32]:
        """Class probabilities (B, K) of preprocessed images (B, C, H, W), an array or a tensor."""
        return self.probabilities_of_logits(self.runtime.logits(images))

    def probabilities_of_logits(self, logits: Array) -> NDArray[np.float32]:
        """Class probabilities (B, K) of logits (B, K), an array or a tensor."""
        return probabilities_of(logits, self.temperature, self.meta.scores)

    def explain(
        self,
        picture: Picture,
        method: str | None = None,
        *,
        layer: int | str | None = None,
        head: int | None = None,
        target: str | int | None = None,
        token: tuple[int, int] | None = None,
        steps: int | None = None,
        seed: int | None = None,
    ) -> Explanation:
        """What the answer to one image rests on: `.map` (H, W), `.save("a.png")`.

        method: attention, rollout, relevance, gradcam, integrated-gradients, occlusion or random,
        or merging of a model that merges its tokens;
        docs/explain.md says what each means and which options it takes. target: the class to
        explain, its name or index; the model's first choice unless given. token: (row, column) of
        a patch, to see what it attends to. Raises UsageError VIT-270 to VIT-276 for what the model
        cannot answer, DataError VIT-328 or VIT-330 for the image.
        """
        from vitrail.explain.image_input import class_index, explain_image
        from vitrail.explain.methods.maps import Request
        from vitrail.models.create import Model

        if not isinstance(self.model, Model):
            raise TypeError(f"a vitrail model can be explained, not a {type(self.model).__name__}")
        index = class_index(self.classes, target)
        request = Request(
            method or "", layer, head, index, token, steps, seed, scores=self.meta.scores
        )
        return self._named(*explain_image(self.model, self.preprocess, picture, request))

    def explain_prepared(
        self,
        image: NDArray[np.float32],
        pixels: NDArray[np.uint8],
        method: str | None = None,
        *,
        layer: int | str | None = None,
        head: int | None = None,
        target: str | int | None = None,
    ) -> Explanation:
        """As `explain` of an image that is prepared, (C, H, W) or packed; pixels: the same image as
        uint8 (H, W, 1 or 3) of any size, which the map is placed on.
        """
        import torch

        from vitrail.explain.image_input import class_index, explain_input
        from vitrail.explain.methods.maps import Request
        from vitrail.models.create import Model

        if not isinstance(self.model, Model):
            raise TypeError(f"a vitrail model can be explained, not a {type(self.model).__name__}")
        index = class_index(self.classes, target)
        request = Request(method or "", layer, head, index, scores=self.meta.scores)
        like = next(self.model.parameters())
        if image.ndim == 2 and self.preprocess.patch_size is not None:
            image = unpacked(image, self.preprocess.patch_size)
        shown = sent(torch.from_numpy(image)[None].to(like.dtype), like.device)
        return self._named(*explain_input(self.model, self.preprocess, shown, pixels, request))

    def _named(self, found: Explanation, logits: Array) -> Explanation:
        """An explanation with the names of its classes. logits: (K,)."""
        import torch

        if not len(logits):
            return found
        p = self.probabilities_of_logits(torch.from_numpy(logits)[None])[0]
        top = tuple((one.label, one.score) for one in best_of(p, self.classes, 5))
        name = str(found.target) if not self.classes else self.classes[found.target or 0]
        return replace(found, top=top, label="" if found.target is None else name)

    def measuring(
        self,
        *,
        device: torch.device | None = None,
        precision: str = "float32",
        tta: Tta = "none",
        batch_size: int = 64,
        workers: int = 0,
        max_pixels: int = MAX_PIXELS,
        progress: Told | None = None,
    ) -> Measuring:
        """This classifier as evaluation knows it; with tta "flip" both views of each image count.

        device: where the module of torch is moved to; precision: of torch. Another runtime
        computes where and as it does.
        """
        from vitrail.evaluation.measuring.measuring import Measuring, silent
        from vitrail.runtime.runtime import flip_averaged

        if tta == "flip":
            self.preprocess.require_one_size("--tta flip")
        runtime = self._runtime or self.torch_runtime(device, precision)
        return Measuring(
            flip_averaged(runtime.logits) if tta == "flip" else runtime.logits,
            self.preprocess,
            self.classes,
            self.temperature,
            runtime.info.device,
            batch_size,
            workers,
            max_pixels,
            progress or silent,
            by_torch=runtime.info.engine == "torch",
        )

    def evaluate(
        self,
        data: str | Path,
        split: str = "test",
        *,
        batch_size: int = 64,
        workers: int = 0,
        calibrate: bool = False,
        against: Classifier | str | Path | None = None,
        tta: Tta = "none",
        corruptions: str | None = None,
        severity: str | None = None,
    ) -> Evaluation:
        """Measure on `data`: on what the run of this model held out, where it is the data of that
        run; on the split that other data has; on every labelled image where it has none.

        calibrate: fit `temperature` on validation images first, and keep it (`save` writes it).
        against: another model, compared on the images that neither was trained on. corruptions:
        "all", or names and groups ("noise,fog"), at a severity ("3", "1-5"). What these found is in
        `more` of the answer, under the keys of metrics.json; `judged` says which images these are,
        and how many of them the model was trained on; a UserWarning where it was, and where labels
        are others than the run recorded.

        Raises ModelError VIT-403 where the classes differ, VIT-443 where the model knows none;
        UsageError VIT-280 to VIT-283; DataError VIT-326, VIT-363.
        """
        from vitrail.evaluation.eval_set import open_given
        from vitrail.evaluation.measuring.measuring import (
            ALL_SEVERITIES,
            beside,
            check_request,
            corruptions_json,
        )
        from vitrail.evaluation.on_data import relabelled
        from vitrail.evaluation.robustness.corruptions import corruptions_named, severities_of

        check_request(
            split, calibrate=calibrate, tta=tta, corruptions=corruptions, severity=severity
        )
        opened = open_given(str(data), split, self._known(), draw=calibrate)
        judged = opened.judged(split)
        source = relabelled(judged.source, self.classes, "the model")
        other = None if against is None else self._other(against, judged)
        way = self.measuring(tta=tta, batch_size=batch_size, workers=workers)
        more: dict[str, Any] = {}
        if calibrate:
            val = relabelled(opened.judged("val").source, self.classes, "the model")
            fitted = way.calibrated(val, source)
            found, self.temperature = fitted.after, fitted.fit.temperature
            more["calibration"] = fitted.to_json()
        else:
            found = way.evaluate(source)
        if other is not None:
            name, rival, shown, unseen = other
            beside_it = rival.measuring(tta=tta, batch_size=batch_size, workers=workers)
            more["against"] = beside(found, beside_it.evaluate(shown), unseen).to_json(name)
        if corruptions is not None:
            names, levels = (
                corruptions_named(corruptions),
                severities_of(severity or ALL_SEVERITIES),
            )
            more["corruptions"] = corruptions_json(found, way.corrupted(source, names, levels))
        without = judged.without_seen(found)
        if (without is not None and split != "train") or judged.label_changes():
            warnings.warn("; ".join(judged.sentences()), stacklevel=2)
        facts = judged.to_json() | ({"without": without} if without else {})
        return replace(found, judged=facts, more=more)

    def _known(self) -> Examples | str:
        """What it was trained on, with the labels where the run that it was read from has them."""
        from vitrail.evaluation.eval_set import known_of

        return self.examples if self.run is None else known_of(self.run, self.examples)

    def _other(
        self, against: Classifier | str | Path, judged: EvalSet
    ) -> tuple[str, Classifier, Source, NDArray[np.bool_]]:
        """Another model: its name, itself, the images in its classes, and which of them neither of
        the two was trained on.
        """
        from vitrail.evaluation.eval_set import both_unseen
        from vitrail.evaluation.on_data import relabelled

        if isinstance(against, Classifier):
            name, rival = "the other model", against
        else:
            name, rival = str(against), load(against, device=self.device)
        unseen = both_unseen(judged, rival.examples, ("the model", name))
        return name, rival, relabelled(judged.source, rival.classes, name), unseen

    def probe(
        self,
        data: str | Path,
        kind: str = "few-shot",
        *,
        split: str = "test",
        k: int | Sequence[int] | None = None,
        l2: float | Sequence[float] | None = None,
        seeds: int | None = None,
        temperature: float | None = None,
        batch_size: int = 64,
        cache: bool = True,
    ) -> Probe:
        """What the frozen features are worth on `data`, whatever its classes: as `vitrail probe`.

        kind: few-shot (k images of each class, the mean of `seeds` draws), linear, or knn (k
        neighbours). l2: of several the best on validation images is used. cache: keep the
        features in the usual folder. Raises UsageError VIT-202, VIT-240, VIT-260 to VIT-264.
        """
        from vitrail.evaluation.eval_set import open_given
        from vitrail.evaluation.probes.features import FeatureOptions, Frozen, cache_folder
        from vitrail.evaluation.probes.fit_probe import check, probe_opened
        from vitrail.evaluation.probes.probe_record import ProbeSettings

        settings = ProbeSettings.given(kind, split, k, l2, seeds, temperature)
        check(settings)
        reading = FeatureOptions(batch_size=batch_size)
        folder = cache_folder() if cache else None
        frozen = Frozen(self.torch_runtime(), self.preprocess, reading, folder)
        opened = open_given(str(data), split, self._known(), draw=True)
        return probe_opened(frozen, opened, settings)


def record_for(
    config: ModelConfig,
    preprocess: Preprocess,
    classes: Sequence[str],
    meta: Meta,
    temperature: float = 1.0,
    *,
    name: Path,
    sha256: str = "0" * 64,
) -> Record:
    """model.json of a classifier. Raises ModelError VIT-434 where there can be none."""
    import torch

    ours = {"vitrail": vitrail.__version__, "torch": torch.__version__}
    ours["python"] = platform.python_version()
    return made_record(
        name,
        architecture=Architecture(
            family=config.family,
            name=config.family if meta.name == "vit" else meta.name,
            numbers=config.model_dump(mode="json"),
        ),
        classes=list(classes),
        preprocess=preprocess.to_json(),
        temperature=temperature,
        scores=meta.scores,
        origin=meta.origin,
        trained_on=meta.trained_on,
        metrics=meta.metrics,
        versions={**ours, **meta.versions},
        sha256=sha256,
    )


def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    streams: int = 1,
    given: Mapping[str, Any] | None = None,
    origin: str | None = None,
    table: str | None = None,
    name_map: str | Path | None = None,
    tokens: float | None = None,
    patch: int | Size | None = None,
) -> Classifier:
    """The classifier of a run directory, a model folder, a zip of one, or a checkpoint of another
    library; `hf:OWNER/NAME`, `google:FILE` and names of the catalogue are downloaded first, which
    `progress` is told. given, origin and table say what such a checkpoint does not: fields of the
    architecture (num_heads=6), the library, which weights of a training file; name_map is a file
    with the names of a home-made model.

    engine: torch, onnx, openvino, or auto: the fastest that is installed and agreed with torch when
    the model was exported (`vitrail export`), which is torch without one and on a GPU. By default
    torch, which also explains, probes and saves; auto of an export, which has no weights for torch.
    precision: float32, bfloat16, int8, or auto: any that passed; by default what an export was made
    for, float32 of other models. threads: of the engine for one batch; torch has one number for the
    process. batch: images that will come at a time; streams: batches at the same time. Without
    torch as the engine torch is not loaded. tokens: share of the patch tokens that a ViT keeps;
    the others are merged with those most like them (`models/vit/merging.py`). patch: side, or
    (height, width), px, of the patches of a model that was trained for several sizes (FlexiViT).

    Raises UsageError VIT-202 where what is given is for models of other libraries only, VIT-242,
    VIT-288 where tokens cannot be merged, VIT-289 another patch size than the model was trained
    for, VIT-294 an engine that the model was not checked with;
    GateError VIT-703 one that it failed with. Raises ModelError: VIT-402 a pickle that asks for
    code, VIT-411 to VIT-425 a checkpoint that cannot be read, VIT-430 nothing there, VIT-431
    another kind of file, VIT-432 a run without a model yet, VIT-433 to VIT-441 a model that is
    damaged or hostile, VIT-460 to VIT-467 a name; EnvironmentFault VIT-520, VIT-530 to VIT-535 a
    download.
    """
    model = path
    if tokens is not None or patch is not None:
        option = "--tokens" if patch is None else "--patch"
        model, engine = find_torch_model(path, engine, progress, option), "torch"
    found = of_opened(
        open_model(
            model,
            Asked(engine or "", precision, threads, batch, streams),
            Stated(given, origin, table, name_map),
            device=device,
            max_bytes=max_bytes,
            progress=progress,
        )
    )
    if patch is not None:
        found = found.at_patch((patch, patch) if isinstance(patch, int) else patch)
    found = found if tokens is None else found.keeping_tokens(tokens)
    found.run = Path(path) if is_run(Path(path)) else None
    return found


def of_opened(opened: Opened) -> Classifier:
    """The classifier of a model that was opened. Raises UsageError VIT-242 where the device has no
    bfloat16.
    """
    found = Classifier(
        opened.model,
        opened.preprocess,
        opened.classes,
        opened.temperature,
        opened.meta,
        opened.examples,
        opened.runtime,
    )
    found.export = opened.export
    return found.computed_by_torch(opened.precision)


def of_foreign(foreign: ExternalCheckpoint, *, device: str | torch.device = "cpu") -> Classifier:
    """The classifier of a checkpoint of another library."""
    return of_opened(opened_foreign(foreign, device))
