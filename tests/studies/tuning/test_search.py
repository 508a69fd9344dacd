"""Trials follow from the rows before them; the best is chosen by validation; test images are looked
at once.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from vitrail.errors import DataError, UsageError
from vitrail.studies.engine.row import Row
from vitrail.studies.engine.store import Store, open_store
from vitrail.studies.tuning import search as searching
from vitrail.studies.tuning.search import (
    Length,
    Limit,
    Search,
    best_of,
    importance,
    plan_search,
    search,
)
from vitrail.studies.tuning.space import Range
from vitrail.studies.tuning.trial import Trial

pytest.importorskip("optuna")
LENGTH = Length({}, 60, 1.0)
PEAK = {"a": math.log(3e-3), "b": 0.4}


class Silent:
    """Hears nothing."""

    def trial(self, trial: Trial) -> Callable[[float], None]:
        return lambda share: None

    def row(self, row: Row, best: Row | None) -> None:
        pass


def made_search(seed: int = 7) -> Search:
    """Over a rate whose best is 3e-3 and a share whose best is 0.4 and matters little."""
    plan: Any = type("Plan", (), {"config": type("Config", (), {"seed": seed})})()
    ranges = [Range("a", 1e-4, 1e-1), Range("b", 0.0, 1.0)]
    return Search(plan, [], ranges, {"a": 1e-3, "b": 0.5})


def goodness(values: Any, share: float) -> float:
    """Validation top-1 after a share of a trial."""
    rate, other = float(values["a"]), float(values["b"])
    away = abs(math.log(rate) - PEAK["a"]) / 4 + abs(other - PEAK["b"]) / 20
    return max(0.0, 0.9 - away) * share


def made_trial(trial: Trial, layers: Any, folder: Path, seed: int, is_worse: Any, say: Any) -> Row:
    """A trial that trains nothing: six evaluations, and an end where it is told to."""
    values: dict[str, float] = {}
    arm = "finished"
    for step in range(10, 61, 10):
        top1 = goodness(trial.values, step / 60)
        values[f"val/top1@{step}"] = top1
        if is_worse(step, top1):
            arm = "pruned"
            break
    if arm == "finished":
        values |= {"val/top1": top1, "val/nll": 1 - top1, "val/n": 100.0}
    return Row(
        key=trial.key,
        study="tune",
        arm=arm,
        axes=trial.values,
        seed=seed,
        values=values,
        cost={"cell_secs": 1.0},
        run=f"runs/{trial.key}",
        made={},
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(searching, "run_trial", made_trial)
    return open_store(tmp_path, "made", "0123456789abcdef")


def test_the_best_is_found_and_poor_ones_end_early(store: Store) -> None:
    assert search(made_search(), LENGTH, Limit(1e9, 40), store, Silent()) is None
    rows = list(store.rows().values())
    assert len(rows) == 40
    assert dict(rows[0].axes) == {"a": 1e-3, "b": 0.5}  # what would be taken
    best = best_of(rows)
    assert best is not None
    assert best.values["val/top1"] > max(0.85, rows[0].values["val/top1"])
    pruned = [row for row in rows if row.arm == "pruned"]
    assert len(pruned) >= 10
    assert min(int(key.split("@")[1]) for row in pruned for key in [max(row.values)]) >= 20
    assert {row.seed for row in rows} == {7}
    shares = importance(made_search(), rows)
    assert shares["a"] > shares["b"]
    assert sum(shares.values()) == pytest.approx(1)


def test_a_killed_search_asks_the_same(store: Store, tmp_path: Path) -> None:
    search(made_search(), LENGTH, Limit(1e9, 12), store, Silent())
    whole = list(store.rows().values())
    other = open_store(tmp_path, "made", "fedcba9876543210")
    for count in (3, 4, 9, 12):
        search(made_search(), LENGTH, Limit(1e9, count), other, Silent())
    assert list(other.rows().values()) == whole
    assert search(made_search(), LENGTH, Limit(1e9, 12), other, Silent()) is None
    assert len(other.rows()) == 12


def test_a_seed_may_be_large(store: Store) -> None:
    assert search(made_search(2**31 - 1), LENGTH, Limit(1e9, 2), store, Silent()) is None
    assert len(store.rows()) == 2


def test_a_search_ends_where_no_trial_fits(store: Store) -> None:
    search(made_search(), LENGTH, Limit(10.5), store, Silent())
    spent = sum(row.cost["cell_secs"] for row in store.rows().values())
    assert 9 <= spent <= 10.5


def test_what_cannot_be_searched(tmp_path: Path) -> None:
    digits = {"data.path": "builtin:digits"}
    with pytest.raises(UsageError, match="VIT-203"):
        plan_search([("given", {**digits, "time_limit": "10m"})], [])
    with pytest.raises(UsageError, match="VIT-203"):
        plan_search([("given", {**digits, "objective": "masked_patches"})], [])
    with pytest.raises(UsageError, match="VIT-211"):
        plan_search([("given", digits)], [Range("optim.rl", 0.0, 1.0)])
    with pytest.raises(UsageError, match="VIT-212"):
        plan_search([("given", digits)], [Range("ema", 0.0, 3.0)])
    with pytest.raises(DataError):
        plan_search([("given", {"data.path": str(tmp_path)})], [])


def test_test_images_are_looked_at_once(tmp_path: Path) -> None:
    """Two real trials, continued with two more: one look for each best trial."""
    words = (
        f"tune builtin:digits --steps 12 --model.depth 1 --threads 1 --over lr=1e-4..1e-3 "
        f"--out {tmp_path} --json"
    ).split()
    first = run(*words, "--trials", "2")
    assert first.code == 0, first.err
    folder = tmp_path / "digits"
    facts = first.document["facts"]
    assert facts["trials"] == 2
    assert 0 <= facts["test"]["top1"] <= 1
    kept = [path.parent.name for path in folder.glob("runs/*/model")]
    assert kept == [facts["best"]["trial"]]
    for own in folder.glob("runs/*/run.json"):
        assert "test" not in own.read_text(encoding="utf-8").split('"results"')[1].split("}")[0]
        assert not (own.parent / "eval" / "test").exists()
    again = run(*words, "--trials", "2")
    assert again.document["facts"] == facts
    more = run(*words, "--trials", "3")
    assert more.document["facts"]["trials"] == 3
    best = tomllib.loads((folder / "best.toml").read_text(encoding="utf-8"))
    assert best["optim"]["lr"] == more.document["facts"]["best"]["settings"]["optim.lr"]
    assert "evaluated" in (folder / "study.html").read_text(encoding="utf-8")
