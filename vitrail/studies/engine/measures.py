"""What a study asks of a finished model beside its accuracy; each is a function of the run.

few-shot: the paper's ridge regression on 5 images of each class of the transfer data (section
4.1; `evaluation/probes/ridge.py`). attention: mean distance of every layer (Figure 7, right).
sizes: top-1 at other image sizes than it was trained on, position embeddings resampled (section
3.2), on a part of the test images, the same at every size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from vitrail.checkpoints.adapt.adapt_model import adapt, target_config
from vitrail.classifier import Classifier, load
from vitrail.config import TrainConfig, flatten
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader, normalise
from vitrail.data.sources.open_data import Source, Splits, open_as, open_data, subset
from vitrail.data.sources.sample import sample
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.probes.features import Frozen
from vitrail.evaluation.probes.fit_probe import probe
from vitrail.evaluation.probes.probe_record import ProbeSettings
from vitrail.explain.inspect.distance import distances, reach
from vitrail.folder import Folder
from vitrail.models.create import create_model
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT
from vitrail.runs.documents import settings_in
from vitrail.settings.layers import build
from vitrail.studies.engine import grids
from vitrail.training.plan.derived import at_size
from vitrail.training.run_files import without_bad_files

SHOTS, DRAWS = 5, 3
NUM_IMAGES = 128  # whose attention is looked at (Figure 7)
EVAL_BATCH = 128


def measure(names: tuple[str, ...], run_dir: Path, transfer: str) -> dict[str, float]:
    """Everything that `names` ask of the model of a run. transfer: other data, "" for its own."""
    if not names:
        return {}
    classifier = load(run_dir)
    config = config_of(run_dir)
    splits = open_as(config.data, config.seed)
    other = open_data(transfer) if transfer else splits
    if config.data.on_bad_file == "skip":
        own = config.data.model_copy(update={"workers": 0})
        splits = without_bad_files(splits, own).splits
        other = without_bad_files(other, own).splits if transfer else splits
    return {
        key: value
        for name in names
        for key, value in MEASURES[name](classifier, splits, other).items()
    }


def num_judged(names: tuple[str, ...], model: ModelConfig, splits: Splits) -> int:
    """Images that `names` will look at, roughly, in images of the model's own size; those of
    which no study has many count as none.
    """
    if "sizes" not in names or not isinstance(model, ViTConfig):
        return 0
    looked_at = min(grids.NUM_IMAGES, len(_held_out(splits)))
    return round(looked_at * grids.effort(model.grid[0]))


def config_of(run_dir: Path) -> TrainConfig:
    """The settings of a run, with its whole training split."""
    settings = flatten(settings_in(Folder(run_dir)) or {})
    settings.pop("data.train_pictures", None)
    return build(settings, {})


def few_shot(classifier: Classifier, splits: Splits, transfer: Splits) -> dict[str, float]:
    """Mean over draws of the training images."""
    settings = ProbeSettings(
        "few-shot", "test" if transfer.test is not None else "val", (SHOTS,), seeds=DRAWS
    )
    found = probe(Frozen(classifier.torch_runtime(), classifier.preprocess), transfer, settings)
    return {"few-shot/top1": found.figures[0].top1, "few-shot/n": found.n}


def attention(classifier: Classifier, splits: Splits, transfer: Splits) -> dict[str, float]:
    """Mean distance in px of the model's input, of each layer: over heads, nearest and farthest
    head; nothing for a network without attention.
    """
    if not isinstance(classifier.model, ViT):
        return {}
    found = reach(classifier.model, _batches(classifier, splits)).renormalised
    values = {"attention/uniform": float(distances(classifier.model.config).mean())}
    for layer, heads in enumerate(found):
        values[f"attention/mean_{layer:02d}"] = float(heads.mean())
        values[f"attention/nearest_{layer:02d}"] = float(heads.min())
        values[f"attention/farthest_{layer:02d}"] = float(heads.max())
    return values


def sizes(classifier: Classifier, splits: Splits, transfer: Splits) -> dict[str, float]:
    """Top-1 at other grids of patches (`grids.py`), by the height in px."""
    model = classifier.model
    assert isinstance(model, ViT)
    source = _spread(_held_out(splits), grids.NUM_IMAGES)
    values: dict[str, float] = {"sizes/n": len(source)}
    for side in grids.sides_around(model.config.grid[0]):
        size = _size_of(model.config, side)
        config = target_config(model.config, image_size=size)
        state, _ = adapt(
            model.state_dict(), model.config, config, resample=classifier.meta.resample
        )
        resized = create_model(config)
        resized.load_state_dict(state)
        preprocess = at_size(classifier.preprocess, size, config.channels)
        shown = Classifier(resized.eval(), preprocess, classifier.classes)
        values[f"sizes/top1@{size[0]}"] = _top1(shown, source)
    return values


def _size_of(config: ViTConfig, side: int) -> tuple[int, int]:
    """(height, width) px of a grid of `side` rows, columns in proportion."""
    (h, w), (height, width) = config.grid, config.seen_size
    return side * (height // h), max(1, round(w * side / h)) * (width // w)


def _spread(source: Source, most: int) -> Source:
    """At most so many images, spread evenly."""
    step = max(1, -(-len(source) // most))
    return subset(source, np.arange(0, len(source), step, dtype=np.int64))


def _held_out(splits: Splits) -> Source:
    source = splits.test if splits.test is not None else splits.val
    assert source is not None
    return source


def _top1(classifier: Classifier, source: Source) -> float:
    loader = make_loader(source, classifier.preprocess, None, Batching(EVAL_BATCH))
    found = evaluate(
        classifier.runtime.logits,
        loader.eval_batches(EVAL_BATCH),
        classifier.preprocess,
        classifier.classes,
    )
    return found.top1


def _batches(classifier: Classifier, splits: Splits) -> Iterator[Tensor]:
    source = _held_out(splits)
    few = subset(source, np.sort(sample(source, NUM_IMAGES, "measures")))
    loader = make_loader(few, classifier.preprocess, None, Batching(32))
    for batch in loader.eval_batches(32):
        yield normalise(batch.images, classifier.preprocess)


Measure = Callable[[Classifier, Splits, Splits], dict[str, float]]
MEASURES: dict[str, Measure] = {"few-shot": few_shot, "attention": attention, "sizes": sizes}
