"""Parts computed on a Ray cluster (extra "ray"): a part is a task that may run again, anywhere.

Every node needs vitrail, and sees the model, the images and the folder of the table at the same
paths. A part is the same whoever computes it, and appears once, whoever ends first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitrail.batch_prediction.part_store import Counts, PartStore, lost
from vitrail.batch_prediction.parts import Images, Part
from vitrail.batch_prediction.predict_parts import OnThisMachine
from vitrail.classifier import Classifier, load
from vitrail.errors import ModelError
from vitrail.studies.engine.processes import revived
from vitrail.studies.engine.ray_engine import connect
from vitrail.studies.engine.worker import described

TRIES = 3  # more, where a node is lost
TICK_SECS = 0.5


@dataclass(frozen=True)
class Order:
    """What a node needs to know beside the part. model: as `vitrail.load` takes it, with options;
    folder: the working directory, from which paths are meant.
    """

    model: str
    options: Mapping[str, Any]
    identity: str
    top: int
    batch_size: int
    folder: str
    out: str


def on_node(order: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """What a node does: one part; an error comes back as plain data."""
    try:
        asked = Order(**order)
        with chdir(asked.folder):
            classifier = _classifier(asked.model, json.dumps(asked.options))
            _check(classifier, asked)
            images = Images(part["paths"], part["refused"])
            own = Part(part["index"], images, part["key"])
            compute = OnThisMachine(classifier, asked.top, asked.batch_size)
            _, counts = next(compute(PartStore(Path(asked.out)), [own], lambda rows: None))
        return {"counts": asdict(counts)}
    except Exception as error:
        return {"error": described(error)}


@lru_cache(maxsize=1)
def _classifier(model: str, options: str) -> Classifier:
    """Loaded once in a process, which computes many parts."""
    return load(model, **json.loads(options))


def _check(classifier: Classifier, order: Order) -> None:
    if classifier.identity != order.identity:
        raise ModelError(
            "VIT-445",
            f"{order.model} is another model on {os.uname().nodename} than where the command runs, "
            "or another engine computes it there.",
            hint="Put the model into a folder that all machines share.",
        )


@dataclass(frozen=True)
class OnRay:
    """Computes parts by the cluster at `address`, a core each."""

    order: Order
    address: str = "auto"

    def __call__(
        self, store: PartStore, parts: Sequence[Part], told: Callable[[int], None]
    ) -> Iterator[tuple[Part, Counts]]:
        if not parts:
            return
        ray = connect(self.address, hint="leave --cluster out")
        try:
            yield from self._all(ray, parts, told)
        finally:
            ray.shutdown()

    def _all(
        self, ray: Any, parts: Sequence[Part], told: Callable[[int], None]
    ) -> Iterator[tuple[Part, Counts]]:
        task = ray.remote(num_cpus=1, max_retries=TRIES)(on_node)
        order, waiting = asdict(self.order), iter(parts)
        running: dict[Any, Part] = {}
        while True:
            for part in _next(waiting, 2 * _cores(ray) - len(running)):
                running[task.remote(order, _plain(part))] = part
            if not running:
                return
            for reference in ray.wait(list(running), num_returns=1, timeout=TICK_SECS)[0]:
                part = running.pop(reference)
                counts = _counts(ray, part, reference)
                told(len(part))
                yield part, counts


def _next(parts: Iterator[Part], count: int) -> Iterator[Part]:
    for _, part in zip(range(max(0, count)), parts, strict=False):
        yield part


def _cores(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _plain(part: Part) -> dict[str, Any]:
    images = {"paths": list(part.images.paths), "refused": dict(part.images.refused)}
    return {"index": part.index, "key": part.key, **images}


def _counts(ray: Any, part: Part, reference: Any) -> Counts:
    """What a task came to. Raises what it met, EnvironmentFault VIT-510 where it was lost."""
    try:
        answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise lost(part, str(error).splitlines()[0]) from error
    if "error" in answer:
        raise revived(answer["error"])
    return Counts(**answer["counts"])
