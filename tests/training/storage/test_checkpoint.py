"""Checkpoints: what is written comes back bit for bit, and the disk they take is bounded (R11)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.training.crash_fs import MemoryFiles
from tests.training.saving import RUN, in_memory, same, save, tensors_of
from vitrail.errors import EnvironmentFault
from vitrail.runs.filesystem import FILES, LocalFiles
from vitrail.runs.stored import list_steps
from vitrail.training.storage.checkpoint import (
    check_disk,
    checkpoint_bytes,
    load_latest,
    save_checkpoint,
    sweep,
)
from vitrail.training.storage.metrics_log import Mark, MetricsLog
from vitrail.training.storage.tensor_file import DTYPES, pieces, write_file


def test_every_type_and_shape_comes_back_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        str(dtype): torch.randint(0, 2, (3, 5, 2), generator=generator).to(dtype)
        for dtype in DTYPES
    }
    tensors |= {
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 4),
        "strided": torch.randn(5, 7, generator=generator).T[::2],
        "odd": torch.tensor([True, False, True]),
        "values": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }
    path = tmp_path / "a.safetensors"
    size, _ = write_file(FILES, path, pieces(tensors))
    assert path.stat().st_size == size
    found = safetensors.torch.load_file(path)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert (
            found[name].contiguous().view(-1).view(torch.uint8).tolist()
            == value.contiguous().view(-1).view(torch.uint8).tolist()
        )


def test_a_checkpoint_comes_back_with_its_state(tmp_path: Path) -> None:
    state = {
        "step": 5,
        "best": float("inf"),
        "plan": [[0, 0.1 + 0.2, 97]],
        "text": "\u00e9\u0130",
        "config_hash": "c0ffee",
    }
    path = save_checkpoint(tmp_path, 5, tensors_of(5), state)
    assert path == tmp_path / "checkpoints" / "step-00000005"
    assert sorted(os.listdir(path)) == [
        "MANIFEST.json",
        "model.safetensors",
        "optim.safetensors",
        "state.json",
    ]
    found = load_latest(tmp_path)
    assert found is not None
    assert (found.step, found.path, found.state, found.damaged) == (5, path, state, ())
    assert same(found.tensors, 5)
    save_checkpoint(tmp_path, 9, tensors_of(9), {})
    manifest = json.loads(
        (tmp_path / "checkpoints" / "step-00000009" / "MANIFEST.json").read_text(encoding="utf-8")
    )
    assert (manifest["schema"], manifest["step"], manifest["parent"], manifest["config_hash"]) == (
        1,
        9,
        5,
        "",
    )
    assert manifest["files"].keys() == {"model.safetensors", "optim.safetensors", "state.json"}


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert list_steps(tmp_path) == []
    assert sweep(tmp_path) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = save(1, FILES, tmp_path)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~mask}
    assert path.stat().st_mode & 0o777 == 0o777 & ~mask


def test_strange_folder_names(tmp_path: Path) -> None:
    run_dir = tmp_path / "a b" / "\U0001f642-\u0130\u00e9"
    run_dir.mkdir(parents=True)
    save(1, FILES, run_dir)
    found = load_latest(run_dir)
    assert found is not None
    assert same(found.tensors, 1)


def test_a_step_is_never_overwritten() -> None:
    files = in_memory(1, 2)
    before = files.tree()
    save_checkpoint(RUN, 2, tensors_of(99), {"step": 2}, fs=files)
    assert files.tree() == before


# R11: disk


@pytest.mark.promise("R11")
def test_two_are_kept_and_nothing_else() -> None:
    files = in_memory()
    for step in range(1, 101):
        save(step, files)
        assert list_steps(RUN, fs=files) == [step for step in (step - 1, step) if step]
        assert not any(name.startswith(".") for name in files.names(RUN / "checkpoints"))


class Counting(MemoryFiles):
    """Remembers the most directories there ever were under checkpoints/."""

    most = 0

    def make_dir(self, path: Path) -> None:
        super().make_dir(path)
        self.most = max(self.most, len(self.names(RUN / "checkpoints")))


@pytest.mark.promise("R11")
def test_never_more_than_three_at_any_moment() -> None:
    files = Counting({"run": {}})
    for step in range(1, 101):
        save(step, files)
    assert files.most == 3


def test_the_best_and_more_can_be_kept() -> None:
    files = in_memory()
    for step in range(1, 9):
        save(step, files, keep=3, protect={2})
    assert list_steps(RUN, fs=files) == [2, 6, 7, 8]
    with pytest.raises(ValueError, match="at least 2"):
        save(9, files, keep=1)


@pytest.mark.promise("R11")
def test_what_dead_runs_left_is_removed(tmp_path: Path) -> None:
    save(1, FILES, tmp_path)
    folder = tmp_path / "checkpoints"
    outside = tmp_path / "outside.txt"
    outside.write_text("mine", encoding="utf-8")
    for name in (".tmp-step-00000002-77-ab", ".trash-step-00000000-77-cd"):
        (folder / name / "deeper").mkdir(parents=True)
        (folder / name / "deeper" / "model.safetensors").write_bytes(b"half")
        (folder / name / "link").symlink_to(tmp_path)
    (folder / "notes.txt").write_text("kept", encoding="utf-8")
    assert sweep(tmp_path) == []
    assert sorted(os.listdir(folder)) == ["notes.txt", "step-00000001"]
    assert outside.read_text(encoding="utf-8") == "mine"


@pytest.mark.promise("R11")
def test_a_run_that_does_not_fit_is_not_started(tmp_path: Path) -> None:
    class Small(LocalFiles):
        def free_bytes(self, path: Path) -> int:
            return 299

    check_disk(tmp_path, 99, fs=Small())
    with pytest.raises(EnvironmentFault, match="need") as error:
        check_disk(tmp_path, 100, fs=Small())
    assert error.value.code == "VIT-505"
    check_disk(tmp_path, 1)


def test_the_predicted_size_is_near_the_real_one(tmp_path: Path) -> None:
    parameters = 300_000
    weights = torch.zeros(parameters)
    path = save_checkpoint(
        tmp_path,
        1,
        {
            "model": {"w": weights},
            "optim": {"exp_avg/w": weights, "exp_avg_sq/w": weights},
            "ema": {"w": weights},
        },
        {},
    )
    real = sum(file.stat().st_size for file in path.iterdir())
    assert real <= checkpoint_bytes(parameters, "adamw", ema=True) <= 1.1 * real
    assert checkpoint_bytes(parameters, "sgd", ema=False) == 8 * parameters + 200_000


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"step": 1, "train/loss": 2.5})
    mark = log.sync()
    log.write({"step": 2, "train/loss": 2.0})
    log.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "tr')
    resumed = MetricsLog(path)
    assert resumed.cut_back(*mark) == ""
    resumed.write({"step": 2, "train/loss": 2.0})
    assert resumed.sync().offset == path.stat().st_size
    resumed.close()
    assert [json.loads(line)["step"] for line in path.read_text(encoding="utf-8").splitlines()] == [
        1,
        2,
    ]


def logged(path: Path, count: int) -> Mark:
    """A log of `count` records at `path`."""
    log = MetricsLog(path)
    for step in range(count):
        log.write({"step": step})
    mark = log.sync()
    log.close()
    return mark


@pytest.mark.promise("R15")
def test_a_log_that_is_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert MetricsLog(path).cut_back(0) == ""
    assert "is missing" in MetricsLog(path).cut_back(10)


@pytest.mark.promise("R15")
@pytest.mark.parametrize("kept", [0, 1, 13, 14, 15, 27, 35])
def test_a_log_that_is_too_short_is_told_and_cut_to_whole_lines(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "metrics.jsonl"
    mark = logged(path, 3)
    data = path.read_bytes()
    path.write_bytes(data[:kept])
    said = MetricsLog(path).cut_back(*mark)
    assert f"{kept} of {len(data)} bytes" in said
    whole = data[:kept].count(b"\n")
    assert f"{whole} whole records stay" in said
    assert path.read_bytes() == data[: 12 * whole]


@pytest.mark.promise("R15")
def test_a_log_with_another_bit_is_told_and_what_is_no_record_goes(tmp_path: Path) -> None:
    for bit in range(8 * 36):
        path = tmp_path / f"{bit}.jsonl"
        mark = logged(path, 3)
        data = bytearray(path.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        log = MetricsLog(path)
        assert "other content" in log.cut_back(*mark)
        log.write({"step": 3})
        again = log.sync()
        log.close()
        assert [type(json.loads(line)) for line in path.read_bytes().splitlines()] == [dict] * (
            path.read_bytes().count(b"\n")
        )
        assert MetricsLog(path).cut_back(*again) == ""


@pytest.mark.promise("R15")
def test_a_torn_log_of_an_older_checkpoint_without_a_hash_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    logged(path, 3)
    assert MetricsLog(path).cut_back(24) == ""
    assert "2 whole records stay" not in MetricsLog(path).cut_back(24)
    assert "1 whole records stay, 1 torn" in MetricsLog(path).cut_back(20)
    assert path.read_bytes() == b'{"step": 0}\n'
