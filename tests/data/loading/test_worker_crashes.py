"""Workers that die while they read images: the run goes on, or names the image."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.check import inspection
from vitrail.data.images.decode import decode
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.rgb import Pixels
from vitrail.data.loading import file_batches, isolated, loader_workers
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import FileLoader
from vitrail.data.loading.worker_crashes import MAX_RESTARTS, NOWHERE, REASON, STALLED, WorkerDeaths
from vitrail.data.sources.open_data import FileSource
from vitrail.errors import DataError, EnvironmentFault
from vitrail.system import interrupts

NUM, STEPS = 11, 6
SQUASH = Preprocess(height=9, width=7, resize=(9, 7), interpolation="bilinear")


@pytest.fixture
def loader(tmp_path: Path) -> FileLoader:
    """Two workers, batches of 3 of 11 images."""
    generator = np.random.default_rng(0)
    names = tuple(f"{number}.png" for number in range(NUM))
    for name in names:
        pixels = generator.integers(0, 256, (13, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    labels = np.zeros(NUM, np.int64)
    source = FileSource("tiny", ("a",), labels, root=str(tmp_path), paths=names)
    return FileLoader(source, SQUASH, AugmentConfig(), Batching(batch_size=3, seed=5, workers=2))


def expected(loader: FileLoader) -> list[Batch]:
    train = replace(loader._train, kept=None)  # workers are forked with what is kept here
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
def test_an_image_that_crashes_the_decoder_is_named(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before it is as it would have been; then the run stops at a bad image."""
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
    """Two deaths in a row at one image are a cause; deaths between images are counted."""
    deaths = WorkerDeaths()
    deaths.note(4, -9)
    deaths.note(8, -9)
    assert deaths.bad == {}
    deaths.finished()
    deaths.note(8, -11)
    assert deaths.bad == {}, "a batch came through in between"
    deaths.note(8, 0)
    assert deaths.bad == {8: REASON}
    deaths.note(9, None)
    deaths.note(9, None)
    assert deaths.bad == {8: REASON, 9: STALLED}
    for _ in range(MAX_RESTARTS - 1):
        deaths.note(NOWHERE, -9)
    with pytest.raises(EnvironmentFault, match="SIGKILL") as caught:
        deaths.note(NOWHERE, -9)
    assert caught.value.code == "VIT-522"


@pytest.mark.promise("D3", "D9")
@pytest.mark.parametrize("how", ["spins", "sleeps", "stops"])
def test_a_worker_that_hangs_once_is_replaced_and_no_bit_changes(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """In a decoder, on a disk that does not answer, or stopped from outside."""
    wanted = expected(loader)
    once = tmp_path / "once"
    monkeypatch.setattr(interrupts, "STALL_SECS", 1.0)

    def hang(name: str) -> None:
        if name == "7.png" and not once.exists():
            once.touch()
            while how == "spins":
                pass
            if how == "stops":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)

    plant(monkeypatch, hang)
    assert_same(list(loader.batches(0, STEPS)), wanted)
    assert once.exists()


@pytest.mark.promise("D3", "D9")
def test_an_image_at_which_every_worker_hangs_is_named(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = int(expected(loader)[0].indices[0])
    monkeypatch.setattr(interrupts, "STALL_SECS", 0.7)
    plant(monkeypatch, lambda name: time.sleep(600) if name == f"{bad}.png" else None)
    with pytest.raises(DataError, match=f"^VIT-301: {bad}.png: .*makes no progress"):
        list(loader.batches(0, STEPS))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
@pytest.mark.promise("D3")
def test_a_decoder_that_eats_memory_fails_at_its_image(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = int(expected(loader)[0].indices[0])
    monkeypatch.setattr(loader_workers, "ROOM_BYTES", 200 * 2**20)
    plant(monkeypatch, lambda name: bytearray(2**40) if name == f"{bad}.png" else None)
    with pytest.raises(DataError, match=f"^VIT-301: {bad}.png: not enough memory"):
        list(loader.batches(0, STEPS))


def test_an_error_of_a_worker_reaches_the_parent(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise RuntimeError(f"not foreseen: {name}")

    plant(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="not foreseen"):
        list(loader.batches(0, STEPS))


@pytest.mark.promise("D9")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_request_to_stop_is_seen_while_a_disk_does_not_answer(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(loader, "_workers", workers)
    monkeypatch.setattr(interrupts, "EVALUATION_SECS", 0.5)
    plant(monkeypatch, lambda name: time.sleep(5))
    timer = threading.Timer(0.5, interrupts.ask, ("SIGTERM",))
    timer.start()
    began = time.monotonic()
    try:
        assert list(loader.batches(0, STEPS)) == []  # ends early
        with pytest.raises(interrupts.Interrupted, match="SIGTERM"):
            list(loader.eval_batches(3))
    finally:
        interrupts.forget()
    assert time.monotonic() - began < 4


@pytest.mark.promise("D9")
def test_threads_that_make_no_progress_are_named(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_workers", 0)
    monkeypatch.setattr(interrupts, "STALL_SECS", 0.5)
    plant(monkeypatch, lambda name: time.sleep(3))
    with pytest.raises(EnvironmentFault, match=r"^VIT-527: reading \d+\.png makes no progress"):
        next(loader.batches(0, STEPS))


@pytest.mark.skipif(sys.platform != "linux", reason="files are looked at in processes there")
@pytest.mark.promise("D1", "D3")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_look_survives_images_that_crash_hang_and_eat_memory(
    loader: FileLoader, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Each is named; the looks at the others are as they would have been."""
    source = loader._train.source
    assert isinstance(source, FileSource)
    expected_looks = inspection.inspect_images(
        source, wanted=inspection.InspectOptions(sketch=True)
    )
    monkeypatch.setattr(interrupts, "STALL_SECS", 0.7)
    monkeypatch.setattr(isolated, "ROOM_BYTES", 200 * 2**20)
    monkeypatch.setattr(inspection, "CHUNK", 4)
    read = FileSource.read
    bad: dict[int, tuple[str, Callable[[], object]]] = {
        2: ("crashes", lambda: os.kill(os.getpid(), signal.SIGSEGV)),
        3: ("crashes", lambda: os._exit(0)),
        5: ("makes no progress", lambda: time.sleep(600)),
        9: ("not enough memory", lambda: bytearray(2**40)),
    }

    def planted(self: FileSource, index: int) -> Any:
        if index in bad:
            bad[index][1]()
        return read(self, index)

    monkeypatch.setattr(FileSource, "read", planted)
    found = inspection.inspect_images(
        source, workers=workers, wanted=inspection.InspectOptions(sketch=True)
    )
    for index, (one, other) in enumerate(zip(found, expected_looks, strict=True)):
        if index in bad:
            assert bad[index][0] in one.reason
        else:
            assert (one.reason, one.digest, one.mean) == ("", other.digest, other.mean)
