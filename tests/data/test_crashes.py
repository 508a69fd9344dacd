"""Workers that die while they read pictures: the run goes on, or names the picture."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data import file_batches
from vitrail.data.batch import Batch
from vitrail.data.crashes import MAX_RESTARTS, NOWHERE, Deaths
from vitrail.data.decode import Pixels, decode
from vitrail.data.loader import FileLoader
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import FileSource
from vitrail.errors import DataError, EnvironmentFault

NUM, STEPS = 11, 6
SQUASH = Preprocess(height=9, width=7, resize=(9, 7), interpolation="bilinear")


@pytest.fixture
def loader(tmp_path: Path) -> FileLoader:
    """Two workers, batches of 3 of 11 pictures."""
    generator = np.random.default_rng(0)
    names = tuple(f"{number}.png" for number in range(NUM))
    for name in names:
        pixels = generator.integers(0, 256, (13, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    labels = np.zeros(NUM, np.int64)
    source = FileSource("tiny", ("a",), labels, root=str(tmp_path), paths=names)
    return FileLoader(source, SQUASH, AugmentConfig(), batch_size=3, seed=5, workers=2)


def expected(loader: FileLoader) -> list[Batch]:
    train = loader._train
    found = [train.item(step) for step in range(STEPS)]
    return [batch for batch in found if isinstance(batch, Batch)]


def assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.images, other.images)


def plant(monkeypatch: pytest.MonkeyPatch, crash: Any) -> None:
    """A decoder that calls `crash(name)` first; workers are forked with it."""

    def planted(data: bytes, *, name: str, **settings: Any) -> Pixels:
        crash(name)
        return decode(data, name=name, **settings)

    monkeypatch.setattr(file_batches, "decode", planted)


@pytest.mark.promise("D3")
def test_killed_workers_are_replaced_and_no_bit_changes(loader: FileLoader) -> None:
    wanted = expected(loader)
    before = {child.pid for child in psutil.Process().children()}
    handler = signal.getsignal(signal.SIGCHLD)
    batches = loader.batches(0, STEPS)
    found = [next(batches)]
    for child in psutil.Process().children():
        if child.pid not in before:
            child.kill()
    assert_same(found + list(batches), wanted)
    assert signal.getsignal(signal.SIGCHLD) == handler
    left = [child for child in psutil.Process().children() if child.pid not in before]
    assert psutil.wait_procs(left, timeout=10)[1] == []


@pytest.mark.promise("D3")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, 0])
def test_a_worker_that_crashes_once_changes_no_bit(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: int
) -> None:
    """By a signal, or by leaving with code 0."""
    wanted = expected(loader)
    once = tmp_path / "once"

    def crash(name: str) -> None:
        if name == "7.png" and not once.exists():
            once.touch()
            os.kill(os.getpid(), how) if how else os._exit(0)

    plant(monkeypatch, crash)
    assert_same(list(loader.batches(0, STEPS)), wanted)
    assert once.exists()


@pytest.mark.promise("D3")
def test_a_picture_that_crashes_the_decoder_is_named(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before it is as it would have been; then the run stops at a bad picture."""
    wanted = expected(loader)
    bad = int(wanted[3].indices[1])  # not in the first step
    first = next(step for step, batch in enumerate(wanted) if bad in batch.indices)
    plant(
        monkeypatch,
        lambda name: os.kill(os.getpid(), signal.SIGSEGV) if name == f"{bad}.png" else None,
    )
    found: list[Batch] = []
    with pytest.raises(DataError, match=f"^VIT-301: {bad}.png: .*crashes"):
        found.extend(loader.batches(first, STEPS))
    assert_same(found, [])
    batches = loader.batches(0, first)
    assert_same(list(batches), wanted[:first])


def test_workers_that_die_without_a_cause_end_the_run() -> None:
    """Two deaths in a row at one picture are a cause; deaths between pictures are counted."""
    deaths = Deaths(2)
    deaths.note(torch.tensor([4, 9]), [-9, None])
    deaths.note(torch.tensor([8, 4]), [-9, None])
    assert deaths.crashed() == frozenset()
    deaths.note(torch.tensor([8, 4]), [-11, 0])
    assert deaths.crashed() == {8}
    for _ in range(MAX_RESTARTS - 3):
        deaths.note(torch.tensor([NOWHERE, NOWHERE]), [-9, None])
    assert deaths.crashed() == {8}
    with pytest.raises(EnvironmentFault, match="SIGKILL") as caught:
        deaths.note(torch.tensor([NOWHERE, NOWHERE]), [-9, None])
    assert caught.value.code == "VIT-522"
