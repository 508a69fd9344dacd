"""The engines that an export is computed with, each next to torch on the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.classifier import Classifier
from vitrail.errors import ModelError
from vitrail.export.check_images import SIZES, CheckImages
from vitrail.export.gate import LIMITS, Comparison, Limits, compare
from vitrail.model_folder.export_record import Checked, Precision, as_json
from vitrail.runtime.engines import open_session
from vitrail.spelling import count

Floats = NDArray[np.float32]
Compute = Callable[[Floats], tuple[Floats, Floats]]  # pixels to logits and probabilities


@dataclass(frozen=True)
class Candidate:
    """opened: what computes on so many threads; budget: limits of its own."""

    engine: str
    precision: Precision
    library: str
    opened: Callable[[int], Compute]
    budget: Limits | None = None

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def limits(self) -> Limits:
        """How far it may differ from torch in float32."""
        return self.budget or LIMITS[self.precision]


def of_file(
    engine: str,
    content: bytes,
    name: str,
    precision: Precision,
    budget: Limits | None = None,
) -> Candidate:
    """A file in an engine that is installed. Raises EnvironmentFault VIT-520, VIT-525."""
    from vitrail.runtime.onnx_session import require_onnxruntime
    from vitrail.runtime.openvino_session import require_openvino

    module = require_openvino() if engine == "openvino" else require_onnxruntime()

    def opened(threads: int) -> Compute:
        return open_session(engine, content, name, threads=threads, precision=precision)

    return Candidate(engine, precision, module.__version__.split("-")[0], opened, budget)


def by_torch(classifier: Classifier, precision: Precision) -> Candidate:
    """The path of `predict`, which knows nothing of an export."""

    def opened(threads: int) -> Compute:
        runtime = classifier.torch_runtime(precision=precision)
        made = classifier.preprocess
        mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (made.mean, made.std))

        def compute(pixels: Floats) -> tuple[Floats, Floats]:
            logits = runtime.logits((torch.from_numpy(pixels) / 255 - mean) / std)
            return logits.numpy(), classifier.probabilities_of_logits(logits)

        return compute

    return Candidate("torch", precision, torch.__version__, opened)


def compared(
    candidate: Candidate, expected: Floats, images: CheckImages, scores: str, threads: int
) -> Comparison:
    """expected: probabilities (n, K) of torch in float32. Raises ModelError VIT-471 where an answer
    depends on the other images of a batch.
    """
    compute = candidate.opened(threads)
    check_batches(compute, images, candidate.limits)
    found = np.concatenate([compute(one)[1] for one in images.batches()])
    return compare(
        expected,
        found,
        images.labels,
        scores="sigmoid" if scores == "sigmoid" else "softmax",
        margin=candidate.limits.margin,
    )


def check_batches(compute: Compute, images: CheckImages, limits: Limits) -> None:
    """Raise ModelError VIT-471 unless an image gets the same answer in every size of batch."""
    most = images.first(max(SIZES))
    alone = np.concatenate([compute(one[None])[1] for one in most])
    for size in SIZES:
        together = compute(images.first(size))[1]
        if together.shape != alone[:size].shape or not (
            np.abs(together - alone[:size]).max() <= limits.batch_dp
        ):
            raise ModelError(
                "VIT-471",
                f"the exported file answers otherwise in a batch of {count(size, 'image')}.",
                hint="A fault of vitrail: please report it with the command.",
            )


def record_of(candidate: Candidate, found: Comparison) -> Checked:
    """What export.json says of an engine."""
    return Checked.model_validate(
        {
            "engine": candidate.engine,
            "precision": candidate.precision,
            "library": candidate.library,
            "passed": not found.missed(candidate.limits),
            "parity": as_json(found.to_json()),
            "limits": as_json(asdict(candidate.limits)),
        }
    )


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch on so many threads, and on as many as before when the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
