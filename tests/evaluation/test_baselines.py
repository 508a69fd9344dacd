"""Baselines against scikit-learn and by hand."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from vitrail.data.sources.open_data import ArraySource, FileSource, open_data
from vitrail.evaluation import baselines as module
from vitrail.evaluation.baselines import baselines, majority, nearest_neighbours


def arrays(
    n: int, seed: int, *, noise: float = 60.0, size: tuple[int, int] = (5, 7)
) -> ArraySource:
    """n images of 3 classes around 3 fixed random images."""
    centres = np.random.default_rng(9).integers(60, 196, (3, *size, 1))
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    pixels = np.clip(centres[labels] + rng.normal(0, noise, (n, *size, 1)), 0, 255)
    return ArraySource("made", ("a", "b", "c"), labels, pixels.astype(np.uint8))


def test_majority_counts_the_training_images_only() -> None:
    assert majority(np.array([0, 1, 1, 2]), np.array([0, 0, 0, 1])) == 0.25
    assert majority(np.array([2, 0]), np.array([0, 2, 2])) == pytest.approx(
        1 / 3
    )  # the first of equal
    several = np.array([[1, 0], [1, 1]], np.float32)
    assert majority(several, np.array([[0, 1], [1, 0]], np.float32)) == 0.5


@pytest.mark.parametrize(("noise", "k"), [(150.0, 5), (20.0, 1)])
def test_neighbours_equal_scikit_learn(noise: float, k: int) -> None:
    train, test = arrays(301, 0, noise=noise), arrays(101, 1, noise=noise)
    found = nearest_neighbours(train, test)
    assert found is not None
    name, top1 = found
    assert name == ("5 nearest neighbours" if k == 5 else "nearest neighbour")
    reference = KNeighborsClassifier(k).fit(train.images.reshape(301, -1), train.labels)
    nearest = reference.kneighbors(test.images.reshape(101, -1), return_distance=False)
    votes = [Counter(train.labels[row].tolist()).most_common(1)[0][0] for row in nearest]
    assert top1 == np.mean(votes == test.labels)  # of equal counts Counter names the first met


def test_equal_votes_go_to_the_nearest() -> None:
    assert module._vote(np.array([[3, 2, 1, 0, 4]]), np.array([7, 7, 5, 5, 6])).tolist() == [5]


def test_distances_are_exact_against_float64() -> None:
    rng = np.random.default_rng(0)
    bank, queries = (
        rng.random((211, 13)).astype(np.float32),
        rng.random((17, 13)).astype(np.float32),
    )
    exact = ((queries[:, None].astype(float) - bank[None].astype(float)) ** 2).sum(axis=2)
    found = module._nearest(queries, bank, 5, float("inf"))
    assert np.array_equal(found, np.argsort(exact, axis=1)[:, :5])


def test_sampled_data_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRAIN", 53)
    monkeypatch.setattr(module, "MAX_JUDGED", 31)
    found = baselines(arrays(101, 0), arrays(67, 1))
    assert set(found) == {
        "majority class",
        "nearest neighbour (of 53 training images, on 31 images)",
    }
    assert found == baselines(arrays(101, 0), arrays(67, 1))


def test_no_time_no_figure() -> None:
    assert nearest_neighbours(arrays(29, 0), arrays(11, 1), max_secs=-1) is None
    assert set(baselines(arrays(29, 0), arrays(11, 1), max_secs=-1)) == {"majority class"}


def test_files_are_decoded_and_reduced_and_bad_ones_left_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for i in range(13):
        buffer = io.BytesIO()
        Image.new("RGB", (41, 59), (250, 0, 0) if i % 2 else (0, 0, 250)).save(buffer, "PNG")
        (folder / f"{i}.png").write_bytes(buffer.getvalue() if i != 4 else b"not an image")
        paths.append(f"{i}.png")
    source = FileSource("made", ("even", "odd"), np.arange(13) % 2, str(folder), tuple(paths))
    found = nearest_neighbours(source, source)
    assert found is not None
    assert found[1] == 1.0


def test_nothing_to_judge() -> None:
    assert baselines(arrays(5, 0), arrays(0, 1)) == {}


def test_digits_are_easy_for_neighbours() -> None:
    splits = open_data("builtin:digits")
    assert splits.test is not None
    found = baselines(splits.train, splits.test)
    assert found["majority class"] == pytest.approx(0.1, abs=0.02)
    assert max(found.values()) > 0.95
