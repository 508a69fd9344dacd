"""A model that is served: its classifier, the threads that compute it, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.classifier import Classifier
from vitrail.errors import UsageError
from vitrail.prediction import best_of
from vitrail.serve.admission import Admission
from vitrail.serve.batcher import Batcher, Row
from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.self_check import check_deadline, check_engine
from vitrail.spelling import printable

Load = Callable[[], Classifier]


@dataclass(frozen=True)
class Wanted:
    """A model by the name it is served under, and how it is loaded, now or again."""

    name: str
    load: Load


def name_of(path: Path | str) -> str:
    """What a model is called: the run's or folder's name; "model" of a run is not said."""
    place = Path(path)
    if place.name == "model" and place.parent.name:
        place = place.parent
    return printable(place.stem if place.suffix in (".zip", ".safetensors") else place.name)


def unique(models: list[Wanted]) -> list[Wanted]:
    """The same list. Raises UsageError VIT-202 where two have one name."""
    names = [one.name for one in models]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                "VIT-202",
                f"two models are called {name}: clients could not tell them apart.",
                hint="Rename one of the folders.",
            )
    return models


class ServedModel:
    """Loaded, checked and running."""

    def __init__(self, name: str, classifier: Classifier, batcher: Batcher) -> None:
        self.name, self.classifier, self.batcher = name, classifier, batcher
        self.users = 0  # requests that it answers now
        self.methods = _methods_of(classifier)

    @classmethod
    async def started(
        cls, wanted: Wanted, engines: int, limits: Limits, admission: Admission, metrics: Metrics
    ) -> ServedModel:
        """Load, warm up and check, off the event loop. Raises what `load` raises, and ModelError
        VIT-474, UsageError VIT-287, VIT-297.
        """
        classifier = await asyncio.to_thread(wanted.load)
        classifier.preprocess.require_one_size("serve")
        await asyncio.to_thread(check_engine, classifier, limits.batch, wanted.name)
        await asyncio.to_thread(check_deadline, classifier, limits.batch, limits.deadline_ms)
        batcher = Batcher(classifier.probabilities, engines, limits, admission, metrics)
        batcher.start()
        return cls(wanted.name, classifier, batcher)

    def best(self, row: Row, top: int) -> list[dict[str, Any]]:
        """The `top` best classes, as `vitrail predict --json` has them."""
        found = best_of(row, self.classifier.classes, top)
        return [{"label": one.label, "score": one.score} for one in found]

    def facts(self) -> dict[str, Any]:
        """What GET /v1/models says: no path, nothing of the machine."""
        classifier = self.classifier
        info = classifier.runtime.info
        height, width = classifier.preprocess.height, classifier.preprocess.width
        return {
            "name": self.name,
            "architecture": classifier.meta.name,
            "classes": classifier.classes,
            "scores": classifier.meta.scores,
            "input": {"channels": classifier.preprocess.channels, "height": height, "width": width},
            "engine": info.engine,
            "precision": info.precision,
            "export": classifier.export.digest if classifier.export else None,
            "temperature": classifier.temperature,
            "metrics": classifier.meta.metrics,
            "explains": bool(self.methods),
            "methods": self.methods,
        }


def _methods_of(classifier: Classifier) -> list[str]:
    """What explains its answers, the default first; nothing where torch does not compute."""
    if classifier.runtime.info.engine != "torch":
        return []
    from vitrail.explain.methods.registry import default_method, methods_of
    from vitrail.models.create import Model

    if not isinstance(classifier.model, Model):
        return []
    first = default_method(classifier.model)
    return [first, *(name for name in methods_of(classifier.model) if name != first)]
