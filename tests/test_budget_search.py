"""The search of `benchmarks/budget`: every candidate can be built, and is the same again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks.budget.families import FAMILIES, sizes
from benchmarks.budget.search import Search, Store
from vitrail.models.cost import macs
from vitrail.models.names import resolve_model

SHARES = (0.25, 0.5, 1.0)


@pytest.mark.parametrize("side", [28, 32, 64, 96])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_size_fits_the_image(family: str, side: int) -> None:
    costs = []
    for settings in sizes(family, side):
        fields = {key[6:]: value for key, value in settings.items() if key != "model.name"}
        config = resolve_model(
            settings["model.name"], num_classes=7, image_size=side, overrides=fields
        )
        costs.append(macs(config))
    assert len(costs) > 1
    assert max(costs) < 100 * min(costs)


def test_every_family_gets_the_same_recipes(tmp_path: Path) -> None:
    """The rungs on made-up outcomes: recipe 5 is best, and of the sizes the first."""
    store = Store(tmp_path / "trials.jsonl")
    search = Search("made", "/data", 32, 100, 10.0, {}, store, range(2))
    for family in FAMILIES:
        for size, number, share, seed in itertools.product(range(4), range(6), SHARES, range(2)):
            asked = {"setting": "made", "family": family, "size": size, "recipe": number}
            asked |= {"secs": 10.0, "share": share, "seed": seed}
            store.add({**asked, "top1": number / 10 - size / 100 + seed / 1000})
        top1, *found = search.best(family)
        assert top1 == pytest.approx(0.5005)
        assert found == [0, 5]


def test_a_finished_trial_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    assert Store(path).find(number=3) is None
    Store(path).add({"number": 3, "seed": 1, "top1": 0.5})
    assert Store(path).find(number=3, seed=1) == {"number": 3, "seed": 1, "top1": 0.5}
    assert Store(path).find(number=3, seed=2) is None
