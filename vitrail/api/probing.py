"""What the frozen features of a model are worth on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

from vitrail.api.options import LoadOptions, shows_options
from vitrail.api.predictions import Model, opened
from vitrail.classifier import Classifier
from vitrail.cli.display.in_python import counting
from vitrail.device import pick_device, pick_precision
from vitrail.errors import UsageError, check_numbers
from vitrail.evaluation.asked_data import opened_for
from vitrail.evaluation.eval_set import Opened, open_given
from vitrail.evaluation.probes.features import FeatureOptions, Frozen, cache_folder, silent
from vitrail.evaluation.probes.fit_probe import check, probe_opened
from vitrail.evaluation.probes.probe_record import Probe, ProbeSettings
from vitrail.runtime.torch_runtime import TorchRuntime

Kind = Literal["few-shot", "linear", "knn"]
Tell = Callable[[str, int, int], None]  # what, done, of all
Say = Callable[[str], None]


@partial(shows_options, options=LoadOptions)
def probe(
    model: Model,
    data: str | Path | None = None,
    kind: Kind = "few-shot",
    *,
    split: str = "test",
    k: int | Sequence[int] | None = None,
    l2: float | Sequence[float] | None = None,
    seeds: int | None = None,
    temperature: float | None = None,
    batch_size: int = 64,
    workers: int = 0,
    cache: bool = True,
    progress: bool = True,
    **options: Unpack[LoadOptions],
) -> Probe:
    """Evaluate frozen features on labelled images, as `vitrail probe`.

    model: as for `predict`. data: images, whose classes need not be the model's; those of the run
    unless given. kind: few-shot (ridge regression on k images of each class, the mean of `seeds`
    draws), linear (logistic regression; of several l2 the best on validation images), or knn (k
    neighbours, their votes weighted by `temperature`). cache: keep the features in the usual
    folder. Where torch computes and with what precision is in `options`.

    Raises UsageError VIT-202, VIT-208 where no data is known, VIT-240, VIT-260 to VIT-264; what
    `load` and `open_data` raise.
    """
    check_numbers({"--batch-size": batch_size})
    settings = ProbeSettings.given(kind, split, k, l2, seeds, temperature)
    check(settings)
    precision = options.pop("precision", None) or "float32"
    place = options.pop("device", "auto")
    loads: LoadOptions = {"engine": "torch", **options}
    classifier = model if isinstance(model, Classifier) else opened(model, loads, batch_size)
    where = pick_device(place)
    runtime = classifier.torch_runtime(where, pick_precision(precision, where)[0])
    images = _images(model, classifier, None if data is None else str(data), split)
    reading = FeatureOptions(batch_size=batch_size, workers=workers)
    with counting(progress=progress) as tell:
        return probed(classifier, runtime, images, settings, reading, cache=cache, tell=tell)


def _images(model: Model, classifier: Classifier, data: str | None, split: str) -> Opened:
    if not isinstance(model, Classifier):
        return opened_for(Path(model), classifier.examples, data, split, draw=True)
    if data is None:
        raise UsageError(
            "VIT-208",
            "a classifier does not say which images to probe it with.",
            hint="Name them, or give the path of the run: vitrail.probe('runs/NAME')",
        )
    return open_given(data, split, classifier.examples, draw=True)


def probed(
    classifier: Classifier,
    runtime: TorchRuntime,
    images: Opened,
    settings: ProbeSettings,
    reading: FeatureOptions,
    *,
    cache: bool = True,
    say: Say = silent,
    tell: Tell = silent,
) -> Probe:
    """The features of `images`, computed or from the cache, and what can be read from them."""
    folder = cache_folder(say) if cache else None
    frozen = Frozen(runtime, classifier.preprocess, reading, folder, say, tell)
    return probe_opened(frozen, images, settings)
