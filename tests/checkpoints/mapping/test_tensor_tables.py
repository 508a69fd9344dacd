"""Several tables of weights in one file: all are named, one is taken, `--table` takes another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.golden_case import SMALL, random_model
from vitrail.checkpoints.external import ExternalCheckpoint, read_external
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

CONFIG = ViTConfig(**SMALL)


def state(seed: int) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in random_model(CONFIG, seed).state_dict().items()}


def read(path: Path, table: str | None = None) -> ExternalCheckpoint:
    return read_external(path, given={"num_heads": 3}, table=table)


def seed_of(foreign: ExternalCheckpoint) -> int:
    found = foreign.model.state_dict()["norm.weight"]
    return next(seed for seed in (0, 1, 2) if torch.equal(found, state(seed)["norm.weight"]))


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ("state_dict", "state_dict_ema", "state_dict"),
        ("state_dict_ema", "state_dict", "state_dict"),
        ("model", "model_ema", "model"),
        ("encoder", "target_encoder", "target_encoder"),
        ("teacher", "student", "teacher"),
    ],
)
def test_both_are_named_and_the_other_can_be_taken(
    tmp_path: Path, first: str, second: str, taken: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"epoch": 3, first: state(0), second: state(1)}, path)
    other = second if taken == first else first
    found = read(path)
    fact = next(fact for fact in found.facts if fact.field == "table")
    assert (fact.value, fact.source, fact.possible) == (taken, "assumed", (other,))
    assert f"not taken: {other} (--table NAME)" in fact.text()
    assert seed_of(found) == (first, second).index(taken)
    chosen = read(path, other)
    assert seed_of(chosen) == (first, second).index(other)
    fact = next(fact for fact in chosen.facts if fact.field == "table")
    assert (fact.value, fact.source) == (other, "stated")
    assert taken in fact.text()


def test_two_models_by_prefix(tmp_path: Path) -> None:
    """In a .safetensors there are only names."""
    both: dict[str, Any] = {f"model.{key}": value for key, value in state(0).items()}
    both |= {f"model_ema.{key}": value for key, value in state(1).items()}
    path = tmp_path / "a.safetensors"
    save_file(both, path)
    with pytest.raises(ModelError, match="model_ema") as caught:
        read(path)
    assert (caught.value.code, "--table" in caught.value.hint) == ("VIT-427", True)
    assert [seed_of(read(path, name)) for name in ("model", "model_ema")] == [0, 1]


@pytest.mark.parametrize("table", ["ema", "model_em"])
def test_a_table_that_is_not_there(tmp_path: Path, table: str) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": state(0), "model_ema": state(1)}, path)
    with pytest.raises(ModelError, match="model, model_ema") as caught:
        read(path, table)
    assert caught.value.code == "VIT-427"
    torch.save(state(0), path)
    with pytest.raises(ModelError, match=f"no weights called '{table}'"):
        read(path, table)


def test_one_table_needs_no_word(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": state(2), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, path)
    found = read(path)
    assert seed_of(found) == 2
    assert not any(fact.field == "table" for fact in found.facts)
