"""A classifier: a model, the preprocessing it was trained with, the names of its classes.

What predict, eval, export and serve all take. On disk it is a folder (`model_folder/bundle.py`),
which can be moved, renamed, zipped and read-only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrail.checkpoints.hub.download import Progress
from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.sources.examples import Examples
from vitrail.model_folder.bundle import MAX_BYTES
from vitrail.model_folder.description import Description
from vitrail.open_model import Opened, Stated, find_torch_model, open_model, opened_foreign
from vitrail.prediction import Picture
from vitrail.predictor import Predictor, Size
from vitrail.run_model import is_run
from vitrail.runtime.engines import Asked

if TYPE_CHECKING:
    import torch

    from vitrail.checkpoints.external import ExternalCheckpoint
    from vitrail.evaluation.measuring.measuring import Measuring, Tta
    from vitrail.evaluation.measuring.measuring import Progress as Told
    from vitrail.evaluation.probes.probe_record import Probe
    from vitrail.evaluation.record import Evaluation
    from vitrail.explain.explainer import Explainer
    from vitrail.explain.explanation import Explanation
    from vitrail.models.create import Model


class Classifier(Predictor):
    """model: put in evaluation mode; preprocess: image -> (C, H, W) tensor; classes: names in the
    order of the outputs, or empty; temperature: divides the logits; examples: which images it was
    trained on, by content, or why that cannot be told; runtime: what computes the logits, torch
    with `model` unless given. Without a model it predicts and nothing else.
    """

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
        batch: int = 1,
        streams: int = 1,
        given: Mapping[str, Any] | None = None,
        origin: str | None = None,
        table: str | None = None,
        name_map: str | Path | None = None,
        tokens: float | None = None,
        patch: int | Size | None = None,
    ) -> Classifier:
        """The classifier of a run directory, a model folder, a zip of one, or a checkpoint of
        another library; `hf:OWNER/NAME`, `google:FILE` and names of the catalogue are downloaded
        first, which `progress` is told. given, origin and table say what such a checkpoint does
        not: fields of the architecture (num_heads=6), the library, which weights of a training
        file; name_map is a file with the names of a home-made model.

        engine: torch, onnx, openvino, or auto: the fastest that is installed and agreed with torch
        when the model was exported (`vitrail export`), which is torch without one and on a GPU. By
        default torch, which also explains, probes and saves; auto of an export, which has no
        weights for torch. precision: float32, bfloat16, int8, or auto: any that passed; by default
        what an export was made for, float32 of other models. threads: of the engine for one batch;
        torch has one number for the process. batch: images that will come at a time; streams:
        batches at the same time. Without torch as the engine torch is not loaded. tokens: share of
        the patch tokens that a ViT keeps; the others are merged with those most like them
        (`models/vit/merging.py`). patch: side, or (height, width), px, of the patches of a model
        that was trained for several sizes (FlexiViT).

        Raises UsageError VIT-202 where what is given is for models of other libraries only,
        VIT-242, VIT-288 where tokens cannot be merged, VIT-289 another patch size than the model
        was trained for, VIT-294 an engine that the model was not checked with; GateError VIT-703
        one that it failed with. Raises ModelError: VIT-402 a pickle that asks for code, VIT-411 to
        VIT-425 a checkpoint that cannot be read, VIT-430 nothing there, VIT-431 another kind of
        file, VIT-432 a run without a model yet, VIT-433 to VIT-441 a model that is damaged or
        hostile, VIT-460 to VIT-467 a name; EnvironmentFault VIT-520, VIT-530 to VIT-535 a download.
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

    def save(self, folder: str | Path, *, replace: bool = False) -> None:
        """Write the model folder: weights, model.json, card. It appears whole or not at all.

        Raises ModelError VIT-440 where `folder` exists (unless `replace`), EnvironmentFault
        VIT-506.
        """
        said = self.description()
        said.write(Path(folder), self.model.state_dict(), replace=replace)

    def description(self) -> Description:
        """What its folder says of it. Raises TypeError for a model that is not one of vitrail."""
        config = self._ours("only a vitrail model can be saved").config
        known = (self.preprocess, self.classes, self.meta, self.temperature, self.examples)
        return Description(config, *known)

    def _ours(self, what: str) -> Model:
        from vitrail.models.create import Model

        if not isinstance(self.model, Model):
            raise TypeError(f"{what}, not a {type(self.model).__name__}")
        return self.model

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
        from vitrail.explain.methods.maps import Request

        asked = Request(method or "", layer, head, token=token, steps=steps, seed=seed)
        return self._explainer().picture(picture, asked, target)

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
        from vitrail.explain.methods.maps import Request

        asked = Request(method or "", layer, head)
        return self._explainer().prepared(image, pixels, asked, target)

    def _explainer(self) -> Explainer:
        from vitrail.explain.explainer import Explainer

        model = self._ours("a vitrail model can be explained")
        return Explainer(model, self.preprocess, self.classes, self.temperature, self.meta.scores)

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
        from vitrail.evaluation.measuring.measuring import check_request
        from vitrail.evaluation.measuring.on_split import OnSplit

        check_request(
            split, calibrate=calibrate, tta=tta, corruptions=corruptions, severity=severity
        )
        opened = open_given(str(data), split, self._known(), draw=calibrate)
        here = OnSplit(opened, split, self.classes)
        shown = partial(Classifier.measuring, tta=tta, batch_size=batch_size, workers=workers)
        rival = None
        if against is not None:
            name, other = self._other(against)
            rival = here.rival(name, shown(other), other.examples)
        found, self.temperature = here.measured(
            shown(self),
            calibrate=calibrate,
            rival=rival,
            corruptions=corruptions,
            severity=severity,
        )
        return found

    def _known(self) -> Examples | str:
        """What it was trained on, with the labels where the run that it was read from has them."""
        from vitrail.evaluation.eval_set import known_of

        return self.examples if self.run is None else known_of(self.run, self.examples)

    def _other(self, against: Classifier | str | Path) -> tuple[str, Classifier]:
        """Another model and its name."""
        if isinstance(against, Classifier):
            return "the other model", against
        return str(against), Classifier.load(against, device=self.device)

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


load = Classifier.load


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
