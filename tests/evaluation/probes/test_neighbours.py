"""k-NN by cosine: scikit-learn, a loop in float64 after DINO, ties, chunks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from vitrail.evaluation.probes import neighbours
from vitrail.evaluation.probes.neighbours import accuracies, plain_votes, weighted_votes

KS = (1, 3, 7, 19)


def made(n: int = 103, dim: int = 13, num_classes: int = 5) -> tuple[Any, Any]:
    """Features and labels of n training and 37 judged images."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(num_classes, dim))
    labels = rng.integers(0, num_classes, n + 37)
    x = (centres[labels] + rng.normal(size=(n + 37, dim)) * 1.5).astype(np.float32)
    x *= rng.uniform(0.1, 9, size=(n + 37, 1)).astype(np.float32)  # lengths do not matter
    return (x[:n], labels[:n]), (x[n:], labels[n:])


def dino(bank: Any, judged: Any, k: int, temperature: float) -> float:
    """Weighted votes image by image in float64."""
    right = 0
    for feature, label in zip(*judged, strict=True):
        x = bank[0].astype(np.float64)
        cosines = x @ feature / np.linalg.norm(x, axis=1) / np.linalg.norm(feature.astype(float))
        votes: dict[int, float] = {}
        for place in np.argsort(-cosines)[:k]:
            own = int(bank[1][place])
            votes[own] = votes.get(own, 0.0) + math.exp(cosines[place] / temperature)
        right += max(votes, key=lambda own: votes[own]) == label
    return right / len(judged[1])


def test_weighted_votes_equal_a_loop_in_float64() -> None:
    bank, judged = made()
    for temperature in (0.07, 0.5):
        got = accuracies(bank, judged, 5, KS, temperature=temperature)
        assert [b for _, b in got] == [dino(bank, judged, k, temperature) for k in KS]
    assert 0.3 < got[-1][1] < 1


def test_weights_matter() -> None:
    """Negative control: with equal weights other images are right."""
    bank, judged = made()
    found = accuracies(bank, judged, 5, KS)
    assert [a for a, _ in found] != [b for _, b in found]


def test_plain_votes_equal_scikit_learn() -> None:
    bank, judged = made(num_classes=2)  # and odd k: no ties
    got = accuracies(bank, judged, 2, KS)
    for k, (plain, _) in zip(KS, got, strict=True):
        theirs = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(*bank)
        assert plain == pytest.approx(theirs.score(*judged))


def test_of_equally_many_votes_the_nearest_wins() -> None:
    classes = torch.tensor([[2, 1, 1, 2, 0], [0, 1, 1, 2, 2], [1, 0, 2, 0, 1]])
    assert plain_votes(classes, 3).argmax(dim=1).tolist() == [2, 1, 1]


def test_votes_by_hand() -> None:
    classes, cosines = torch.tensor([[1, 0, 1]]), torch.tensor([[0.9, 0.8, 0.2]])
    got = weighted_votes(classes, cosines, 3, 0.1)[0].tolist()
    assert got == pytest.approx([math.exp(-1), 1 + math.exp(-7), 0])
    assert weighted_votes(classes, cosines, 3, 1e-3).isfinite().all()


def test_the_nearest_of_the_images_themselves_are_they() -> None:
    bank, _ = made()
    assert accuracies(bank, bank, 5, (1,)) == [(1.0, 1.0)]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, judged = made()
    whole = accuracies(bank, judged, 5, KS)
    monkeypatch.setattr(neighbours, "CHUNK_NUMBERS", 7 * 103)
    assert len(list(neighbours.nearest(bank[0], judged[0], 3, "cpu"))) == 6
    assert accuracies(bank, judged, 5, KS) == whole
