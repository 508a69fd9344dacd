"""Prediction, evaluation and explanation on the pretend accelerator, by every family."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.explain import small_models
from tests.explain.test_variable import classifier_of
from tests.rehearsal.device import Rehearsal, rehearse
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch, normalise
from vitrail.evaluation.evaluate import evaluate
from vitrail.explain.faithfulness import curves
from vitrail.explain.inspect.distance import reach
from vitrail.explain.inspect.filters import principal_components
from vitrail.explain.inspect.positions import position_table, why_none
from vitrail.explain.inspect.similarity import representations
from vitrail.explain.methods.registry import methods_of
from vitrail.models.create import Model
from vitrail.models.vit.model import ViT

Found = dict[str, list[str] | str]
CLASSES = list("abcde")
HERE = ("map", "merged")
FAMILIES = (*small_models.KINDS, "bit", "resnet", "variable", "merged")
# Where an explanation reads what it has computed.
STATED = {
    "to the host at vitrail/explain/methods/maps.py",
    "item at vitrail/explain/methods/maps.py",  # the class that is explained
    "item at vitrail/explain/methods/pixels.py",  # two figures of integrated gradients
}


def classifier(kind: str, device: torch.device) -> Classifier:
    """A small one of that family, on `device`."""
    if kind == "variable":
        found = classifier_of("map")
    else:
        model: Model
        if kind == "bit":
            model = small_models.bit(torch.float32, channels=3)
        elif kind == "resnet":
            model = small_models.resnet(torch.float32, channels=3)
        else:
            base = {"merged": "registers"}.get(kind, kind)
            model = small_models.vit(base, torch.float32, channels=3)
        height, width = model.config.image_size
        preprocess = Preprocess(height=height, width=width, resize=(height, width))
        found = Classifier(model, preprocess, CLASSES)
    if kind == "merged":
        found = found.keeping_tokens(0.6)
    found.model.to(device)
    return found


def uses(found: Classifier) -> dict[str, Callable[[], Any]]:
    """What is done with a classifier, by name."""
    model = found.model
    assert isinstance(model, Model)
    made, image = found.preprocess, np.zeros((31, 23, 3), np.uint8)
    prepared = np.stack([found.prepare(image)] * 3)
    pixels = torch.from_numpy(prepared)
    batch = Batch(pixels, torch.zeros(3, dtype=torch.long), torch.arange(3))

    def one() -> torch.Tensor:
        return normalise(pixels[:1].to(found.device), made)

    asked: dict[str, Callable[[], Any]] = {
        "predict": lambda: found.predict([image] * 3),
        "features": lambda: found.torch_runtime().features(prepared).shape,
        "evaluate": lambda: evaluate(found.runtime.logits, [batch, batch], made, found.classes),
    }
    for method in methods_of(model):
        asked[f"explain {method}"] = partial(found.explain, image, method)
    if not made.is_variable and model.config.num_classes and "occlusion" in methods_of(model):
        asked["faithfulness"] = lambda: curves(model, one(), np.zeros((2, 3)), 1)
    if model.kept_tokens == 1 if isinstance(model, ViT) else True:
        asked["filters"] = lambda: principal_components(model, 2)
        asked["similarity"] = lambda: not made.is_variable and representations(model, [one()])
    if isinstance(model, ViT) and model.kept_tokens == 1 and not made.is_variable:
        asked["reach"] = lambda: reach(model, [one()])
        asked["positions"] = lambda: why_none(model) or position_table(model)
    return asked


def used(rehearsal: Rehearsal, kinds: tuple[str, ...]) -> dict[str, Found]:
    """What each use of each family waited for, or why it failed."""
    found = dict[str, Found]()
    for kind in kinds:
        one, answers = classifier(kind, rehearsal.device), Found()
        for name, use in uses(one).items():
            try:
                with rehearsal.noting() as waits:
                    use()
                answers[name] = [wait.partition(":")[0] for wait in waits]
            except Exception:
                answers[name] = traceback.format_exc()
        found[kind] = answers
    return found


def check(kind: str, found: Found) -> None:
    for name, waits in found.items():
        assert not isinstance(waits, str), f"{kind}, {name}: {waits}"
    if kind != "variable":  # whose images decide how many tokens there are
        assert found["predict"] == ["to the host at vitrail/prediction.py"]
        assert found["features"] == []
        assert found["evaluate"] == ["to the host at vitrail/runtime/runtime.py"] * 2
        for name, waits in found.items():
            if name.startswith("explain"):
                assert set(waits) <= STATED, name


@pytest.fixture(scope="module")
def here() -> dict[str, Found]:
    found: dict[str, Found] = rehearse(partial(used, kinds=HERE))
    return found


@pytest.mark.parametrize("kind", HERE)
def test_what_a_model_is_used_for_reads_only_answers(here: dict[str, Found], kind: str) -> None:
    check(kind, here[kind])


@pytest.mark.slow
def test_what_every_family_is_used_for_reads_only_answers() -> None:
    for kind, found in rehearse(partial(used, kinds=FAMILIES)).items():
        check(kind, found)
