"""Training from Python leaves the process of the caller as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from vitrail.errors import VitrailError
from vitrail.training.determinism import unchanged_process

TINY: dict[str, Any] = {
    "model": "vit_mu8",
    "settings": {"data.train_pictures": 64},
    "epochs": 1,
    "threads": 1,
    "device": "cpu",
}


def state() -> dict[str, Any]:
    """What torch and the process are set to."""
    return {
        "threads": torch.get_num_threads(),
        "generator": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
    }


@pytest.fixture(autouse=True)
def odd_settings() -> Iterator[None]:
    """Settings of the caller that training does not choose itself."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(3)
    torch.backends.cudnn.benchmark = True
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = benchmark


def test_train_and_resume_leave_the_process_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = state()
    result = vitrail.train("builtin:digits", runs_dir=tmp_path, name="r", **TINY)
    assert state() == before
    with pytest.raises(VitrailError):  # it is finished
        vitrail.resume(result.run_dir)
    assert state() == before


def test_what_a_gpu_needs_is_taken_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.training.determinism import make_deterministic

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = state()
    with unchanged_process():
        make_deterministic(torch.device("cuda"))
        torch.manual_seed(1)
        torch.set_num_threads(1)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert state() == before
