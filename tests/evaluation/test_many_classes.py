"""Evaluation over very many classes keeps five numbers an image and loses no figure (A19)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.evaluation import evaluate as evaluating
from vitrail.evaluation import many_classes
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.many_classes import ProbabilitySummary
from vitrail.evaluation.record import Evaluation

N, K, SIZE = 230, 40, 32


def evaluated(n: int = N, num_classes: int = K) -> Evaluation:
    """Logits that are right half of the time, with ties."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, n)
    logits = rng.normal(size=(n, num_classes)).round(1).astype(np.float32)
    logits[np.arange(n), labels] += 2
    logits[:9] = 0

    def batches() -> Iterator[Batch]:
        for first in range(0, n, SIZE):
            own = np.arange(first, min(first + SIZE, n))
            images = np.zeros((len(own), 1, 2, 2), np.uint8)
            yield Batch(images, labels[own], own)  # type: ignore[arg-type]

    rows = iter(range(0, n, SIZE))
    preprocess = Preprocess(height=2, width=2, resize=(2, 2), mean=(0.5,), std=(0.5,))
    names = [f"class {k}" for k in range(num_classes)]
    return evaluate(
        lambda images: logits[(first := next(rows)) : first + len(images)],
        batches(),
        preprocess,
        names,
        source_id=str,
    )


def test_every_figure_and_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluated()
    whole.write(tmp_path / "whole")
    monkeypatch.setattr(many_classes, "CELLS", 100 * K)  # from the fourth batch on
    monkeypatch.setattr(evaluating, "MANY_CLASSES", 2)
    monkeypatch.setattr(evaluating, "SCORED", 7 * K)
    few = evaluated()
    few.write(tmp_path / "few")
    assert isinstance(few.probabilities, ProbabilitySummary)
    assert not isinstance(whole.probabilities, ProbabilitySummary)
    for name in ("predictions.csv", "confusion.csv", "calibration.json"):
        assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = whole.document(), few.document()
    assert one | {"images_per_s": 0} == other | {"images_per_s": 0}
    kept = np.arange(N) % 3 == 0
    assert few.only(kept).top5 == whole.only(kept).top5


PROGRAM = """
import resource, sys
from tests.evaluation.test_many_classes import evaluated
import numpy as np
import vitrail.evaluation.uncertainty
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.evaluation.evaluate import evaluate
n, classes, size = int(sys.argv[1]), 21_841, 64
evaluated()
rng = np.random.default_rng(0)
rows = rng.normal(size=(size, classes)).astype(np.float32)
labels = rng.integers(0, classes, n)
def batches():
    for first in range(0, n, size):
        own = np.arange(first, min(first + size, n))
        yield Batch(np.zeros((len(own), 1, 2, 2), np.uint8), labels[own], own)
preprocess = Preprocess(height=2, width=2, resize=(2, 2), mean=(0.5,), std=(0.5,))
names = [str(k) for k in range(classes)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = evaluate(lambda images: rows[: len(images)], batches(), preprocess, names)
found.to_json()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)
"""


def test_parts_that_a_cache_holds_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluated()
    monkeypatch.setattr(evaluating, "IN_CACHE", 3 * K)
    parts = evaluated()
    assert np.array_equal(parts.probabilities, whole.probabilities)
    assert np.array_equal(parts.losses, whole.losses)


@pytest.mark.parametrize("n", [6_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_memory_of_21841_classes(n: int) -> None:
    """All probabilities of 6,000 images would take 524 MB, of 50,000 4.4 GB."""
    command = [sys.executable, "-c", PROGRAM, str(n)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 300
