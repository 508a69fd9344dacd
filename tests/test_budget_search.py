"""The search of `benchmarks/budget`: every candidate can be built, and is the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.budget.families import FAMILIES, candidate, sizes
from benchmarks.budget.search import Store, rungs
from vitrail.models.cost import macs
from vitrail.models.names import resolve_model


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


def test_a_candidate_is_a_function_of_its_number() -> None:
    drawn = [candidate("residual", 32, number) for number in range(13)]
    assert drawn == [candidate("residual", 32, number) for number in range(13)]
    assert len({str(one) for one in drawn}) == 13


def test_fewer_candidates_get_more() -> None:
    found = rungs(8)
    assert [rung.share for rung in found] == sorted(rung.share for rung in found)
    assert [rung.kept for rung in found] == sorted((rung.kept for rung in found), reverse=True)


def test_a_finished_trial_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    assert Store(path).find(number=3) is None
    Store(path).add({"number": 3, "seed": 1, "top1": 0.5})
    assert Store(path).find(number=3, seed=1) == {"number": 3, "seed": 1, "top1": 0.5}
    assert Store(path).find(number=3, seed=2) is None
