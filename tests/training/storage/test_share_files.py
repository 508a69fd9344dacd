"""A checkpoint of several processes: equal shares of complete tensors, one manifest, any reader."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.training.crash_fs import materialise
from tests.training.saving import RUN, in_memory, same, save, save_in_shares, tensors_of
from vitrail.errors import EnvironmentFault
from vitrail.runs.filesystem import FILES
from vitrail.runs.stored import best_weights, read_weights
from vitrail.training.storage.checkpoint import load_latest, temporary_name
from vitrail.training.storage.share_files import commit_shares, deal, write_share

WRITTEN_BEFORE = {  # by version 0.1, before there were shares
    "model.safetensors": "99f73ea0489c4fa3",
    "optim.safetensors": "47d81dd759c3ef6b",
    "state.json": "f09266baac31fecf",
    "MANIFEST.json": "b747cc46360fef32",
}
SIZES = st.dictionaries(st.text(max_size=5), st.integers(0, 10**12), min_size=1, max_size=40)


@given(sizes=SIZES, world=st.integers(1, 20))
def test_shares_differ_by_the_largest_tensor_at_most(sizes: dict[str, int], world: int) -> None:
    owners = deal(sizes, world)
    loads = [sum(sizes[name] for name in owners if owners[name] == one) for one in range(world)]
    assert sum(loads) == sum(sizes.values())
    assert max(loads) - min(loads) <= max(sizes.values())
    assert deal(dict(reversed(sizes.items())), world) == owners  # whoever computes it


@pytest.mark.parametrize("world", [2, 3, 9])
def test_what_some_wrote_one_reads_bit_for_bit(world: int, tmp_path: Path) -> None:
    """Also more processes than tensors, after and before a checkpoint of one process."""
    files = in_memory(1, 2)
    save_in_shares(3, files, world)
    found = load_latest(RUN, fs=files)
    assert found is not None
    assert (found.step, found.damaged) == (3, ())
    assert same(found.tensors, 3)
    weights = read_weights(RUN, 3, "model", fs=files)
    assert all(torch.equal(one, weights[name]) for name, one in tensors_of(3)["model"].items())
    save(4, files)
    materialise(files.tree(), tmp_path)
    after = load_latest(tmp_path / "run")
    assert after is not None
    assert same(after.tensors, 4)


def test_the_files_are_plain_safetensors_and_json(tmp_path: Path) -> None:
    materialise(in_memory(1, world=2).tree(), tmp_path)
    folder = tmp_path / "run/checkpoints/step-00000001"
    names = sorted(path.name for path in folder.iterdir())
    shares = [name for name in names if name.endswith(".safetensors")]
    assert set(names) - set(shares) == {"MANIFEST.json", "state.json"}
    assert set(shares) <= {
        f"{kind}-0000{rank}-of-00002.safetensors" for kind in ("model", "optim") for rank in (1, 2)
    }
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest["schema"] == 2
    for kind, tensors in tensors_of(1).items():
        for name, value in tensors.items():
            file = manifest["tensors"][f"{kind}/{name}"]
            assert torch.equal(load_file(folder / file)[name], value)
    for name in names:
        content = (folder / name).read_bytes()
        assert content[:1] != b"\x80"  # the first opcode of a pickle
        assert content[8:9] == b"{" if name in shares else content[:1] == b"{"


def test_one_process_writes_the_bytes_that_it_always_wrote() -> None:
    """So that versions before read them, and nothing of a run that is compared changes."""
    folder = in_memory(1).tree()["run"]["checkpoints"]["step-00000001"]
    found = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in folder.items()}
    assert found == WRITTEN_BEFORE


def test_the_best_weights_of_a_run_are_read_from_shares() -> None:
    files = in_memory(1)
    tensors = tensors_of(2) | {"ema": tensors_of(5)["model"]}
    best = {"step": 2, "epoch": 1.0, "val/loss": 1.0, "val/top1": 0.5}
    window = {"loss": 0.0, "correct": 0.0, "examples": 0, "steps": 0}
    state = {"step": 2, "best": best, "judged": best, "stale": 0, "lowest_loss": 1.0}
    state |= {"seconds": 1.0, "schedule": [[0, 1.0, 2]], "window": window}
    save_in_shares(2, files, 3, tensors=tensors, state=state)
    found = best_weights(RUN, fs=files)
    assert found is not None
    assert found.file == "ema"
    assert all(torch.equal(one, found.tensors[name]) for name, one in tensors["ema"].items())


def test_processes_that_do_not_fit_together_make_no_checkpoint(tmp_path: Path) -> None:
    """One of another version holds tensors that the first one does not know, or too few."""
    save(1, FILES, tmp_path)
    tensors = tensors_of(2)
    names = {f"{kind}/{name}" for kind, values in tensors.items() for name in values}
    for given_names in (names | {"model/more"}, names - {"model/head.bias"}):
        temporary = temporary_name(2)
        shares = [write_share(tmp_path, temporary, 0, 1, tensors, step=2)]
        with pytest.raises(EnvironmentFault, match="do not run the same code") as error:
            commit_shares(tmp_path, temporary, shares, given_names, {}, step=2)
        assert error.value.code == "VIT-506"
    found = load_latest(tmp_path)
    assert found is not None
    assert found.step == 1
