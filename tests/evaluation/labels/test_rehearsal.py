"""A judge that finds all planted labels, one that finds some, and one that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.data.sources.source import ArraySource
from vitrail.evaluation.labels.label_suspects import weak_suspects
from vitrail.evaluation.labels.rehearsal import DRAWS, SHARE, doubts, plant, rehearse

N, K = 401, 7
Labels = NDArray[np.int64]
TRUE: Labels = np.arange(N) % K


def judge_of(skill: float, seed: int = 0) -> object:
    """Who knows the true class of a share `skill` of the images, and of the others nothing."""
    knows = np.random.default_rng(seed).random(N) < skill

    def judge(labels: Labels) -> NDArray[np.float32]:
        numbers = np.random.default_rng(seed + 1)
        p = numbers.dirichlet(np.ones(K), N)
        p[knows] = 0.002
        p[knows, TRUE[knows]] = 1 - 0.002 * (K - 1)
        return p.astype(np.float32)

    return judge


def test_planted_labels_are_other_labels() -> None:
    changed, planted = plant(TRUE, K, 3)
    assert planted.sum() == round(SHARE * N)
    assert np.array_equal(changed != TRUE, planted)
    assert set(changed) == set(range(K))
    assert not np.array_equal(changed, plant(TRUE, K, 4)[0])


def test_a_judge_that_knows_finds_them_all() -> None:
    found = rehearse(judge_of(1.0), TRUE, K)  # type: ignore[arg-type]
    assert found is not None
    assert (found.recall, found.precision) == (1.0, 1.0)
    assert found.planted == DRAWS * round(SHARE * N)
    assert "lists 100 %" in found.sentence()


def test_a_judge_that_knows_nothing_lists_nothing() -> None:
    judge = judge_of(0.0)
    assert rehearse(judge, TRUE, K) is None  # type: ignore[arg-type]
    places = places_of(TRUE)
    found = weak_suspects(judge, places, "nobody")  # type: ignore[arg-type]
    assert found.found == ()
    assert "--features MODEL" in found.why_not


def places_of(labels: Labels) -> list[tuple[str, ArraySource, int]]:
    """Of images that nobody looks at."""
    names = tuple("abcdefg")
    source = ArraySource("x", names, labels, np.zeros((N, 2, 3, 1), np.uint8))
    return [("train", source, index) for index in range(N)]


@pytest.mark.parametrize("seed", [2, 5])
def test_the_stated_strength_is_that_of_the_list(seed: int) -> None:
    """Half of the images are judged rightly: the list finds about half of what is wrong."""
    judge = judge_of(0.5, seed)
    changed, planted = plant(TRUE, K, 77 + seed)
    found = weak_suspects(judge, places_of(changed), "half")  # type: ignore[arg-type]
    assert found.strength is not None
    listed = [one.index for one in found.found]
    recall = planted[listed].sum() / planted.sum()
    assert abs(recall - found.strength.recall) < 0.35
    assert recall > 0.25
    assert all(one.p_label <= found.strength.threshold for one in found.found)
    odds = [one.p_label for one in found.found]
    assert odds == sorted(odds)
    own, doubted = doubts(judge(changed), changed)  # type: ignore[operator]
    assert all(doubted[listed])
    assert own[listed].tolist() == pytest.approx(odds)
    assert found.to_json()["strength"]["planted"] == DRAWS * round(SHARE * N)
