"""R3: whatever call to the disk fails, a run goes on or stops with exit 5, checkpoints intact."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.crash_fs import MemoryFiles
from tests.training.saving import RUN, in_memory, same, save, save_in_shares
from vitrail.errors import EnvironmentFault
from vitrail.runs.filesystem import FILES, LocalFiles
from vitrail.runs.stored import list_steps
from vitrail.training.storage import checkpoint as checkpoints
from vitrail.training.storage.checkpoint import load_latest, save_checkpoint
from vitrail.training.storage.metrics_log import MetricsLog

CALLS = {name for name in vars(LocalFiles) if not name.startswith("_")}


class Failing(LocalFiles):
    """Passes calls on to another file system and lets the n-th one fail."""

    def __init__(
        self, inner: LocalFiles, fail_at: int, fault: Callable[[str], OSError | None]
    ) -> None:
        self._inner, self._fail_at, self._fault = inner, fail_at, fault
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in CALLS:
            return super().__getattribute__(name)
        method = getattr(self._inner, name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self._fail_at and (error := self._fault(name)):
                raise error
            return method(*arguments)

        return call

    @property
    def failed(self) -> bool:
        return len(self.calls) >= self._fail_at


def raises(error: Exception) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise error

    return fail


def fails_with(code: int) -> Callable[[str], OSError]:
    return lambda _: OSError(code, os.strerror(code))


def every_failure(
    fault: Callable[[str], OSError | None],
    base: Callable[[], LocalFiles],
    save: Callable[[int, LocalFiles], object] = save,
) -> Iterator[Failing]:
    """Save step 3 with the n-th call failing, for n = 1, 2, ... until none fails."""
    for number in range(1, 1000):
        inner = base()
        failing = Failing(inner, number, fault)
        fault_seen = None
        try:
            save(3, failing)
        except EnvironmentFault as error:
            fault_seen = error
        saved = fault_seen is None
        if fault_seen is not None:
            assert fault_seen.exit_code == 5
            assert fault_seen.code in ("VIT-506", "VIT-508")
            assert "step-" in fault_seen.message
        found = load_latest(RUN, fs=inner)
        assert found is not None
        assert found.step == 3 if saved else found.step in (2, 3)
        assert same(found.tensors, found.step)
        assert found.damaged == ()
        save(3, inner)  # put right: the run goes on
        after = load_latest(RUN, fs=inner)
        assert after is not None
        assert after.step == 3
        assert same(after.tensors, 3)
        yield failing
        if not failing.failed:
            assert saved
            return
    raise AssertionError("a save makes more than 1000 calls")


@pytest.mark.promise("R3")
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("code", ["ENOSPC", "EIO", "EINTR", "EROFS", "EMFILE", "EDQUOT", "EACCES"])
def test_any_call_may_fail(code: str, world: int) -> None:
    number = getattr(errno, code)
    tree = in_memory(1, 2, world=world).tree()
    how = save if world == 1 else save_in_shares
    tries = list(every_failure(fails_with(number), lambda: MemoryFiles(tree), how))
    assert len(tries) > 60
    assert {"create", "write", "sync", "close", "sync_dir", "rename", "chunks", "remove"} <= set(
        tries[-1].calls
    )


class BrokenSync(MemoryFiles):
    """Lets the n-th fsync fail."""

    def __init__(self, tree: dict[str, Any], number: int) -> None:
        super().__init__(tree)
        self.number, self.seen = number, 0

    def sync(self, fd: int) -> None:
        self.seen += 1
        if self.seen == self.number:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(fd)


def test_doubles_of_the_disk_leave_no_call_to_the_real_one() -> None:
    assert set(vars(MemoryFiles)) >= CALLS
    assert len(CALLS) == 17


@pytest.mark.promise("R3")
def test_a_failed_fsync_is_a_failed_checkpoint() -> None:
    tree = in_memory(1, 2).tree()
    for number in range(1, 5):  # model, optim, state, manifest
        files = BrokenSync(tree, number)
        with pytest.raises(EnvironmentFault, match="step-00000002 is intact") as error:
            save(3, files)
        assert error.value.code == "VIT-506"
        assert files.seen == number  # not tried again
        assert files.names(RUN / "checkpoints") == [
            "step-00000001",
            "step-00000002",
        ]  # the half was removed


class ShortWrites(MemoryFiles):
    """Writes at most 7 bytes at a time."""

    def write(self, fd: int, data: memoryview) -> int:
        return super().write(fd, data[:7])


@pytest.mark.promise("R3")
def test_short_writes_are_completed() -> None:
    files = ShortWrites({"run": {}})
    save(1, files)
    assert files.tree() == in_memory(1).tree()


@pytest.mark.promise("R3")
def test_a_disk_that_writes_nothing_is_an_error() -> None:
    class Nothing(MemoryFiles):
        def write(self, fd: int, data: memoryview) -> int:
            return 0

    with pytest.raises(EnvironmentFault, match="no checkpoint of this run yet"):
        save(1, Nothing({"run": {}}))


@pytest.mark.promise("R3")
def test_a_disk_that_loses_bytes_silently_is_noticed() -> None:
    class Lossy(MemoryFiles):
        def write(self, fd: int, data: memoryview) -> int:
            super().write(fd, memoryview(bytes(len(data))))
            return len(data)

    with pytest.raises(EnvironmentFault) as error:
        save(1, Lossy({"run": {}}))
    assert error.value.code == "VIT-508"


@pytest.mark.promise("R3")
def test_a_real_limit_on_file_size(tmp_path: Path) -> None:
    save(1, FILES, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(EnvironmentFault, match="step-00000001 is intact") as error:
            save_checkpoint(tmp_path, 2, {"model": {"w": torch.zeros(200_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == "VIT-506"
    assert "--resume" in error.value.hint
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]


@pytest.mark.promise("R3")
def test_what_cannot_be_deleted_is_left_for_the_next_time() -> None:
    files = in_memory(1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "remove", raises(OSError(errno.EBUSY, "Device or resource busy")))
        save(3, files)
    assert list_steps(RUN, fs=files) == [2, 3]
    assert any(name.startswith(".trash-") for name in files.names(RUN / "checkpoints"))
    save(4, files)
    assert files.names(RUN / "checkpoints") == ["step-00000003", "step-00000004"]


def test_faults_while_loading_are_not_taken_for_damage() -> None:
    tree = in_memory(1, 2).tree()
    for code, step in ((errno.EMFILE, None), (errno.EACCES, None), (errno.EIO, 1)):
        failing = Failing(MemoryFiles(tree), 3, fails_with(code))
        if step is None:
            with pytest.raises(EnvironmentFault) as error:
                load_latest(RUN, fs=failing)
            assert error.value.code == "VIT-507"
        else:
            found = load_latest(RUN, fs=failing)
            assert found is not None
            assert found.step == step


def test_big_checkpoints_are_read_back_by_size_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "REHASH_BELOW_BYTES", 10)
    failing = Failing(in_memory(), 10**9, lambda _: None)
    save(1, failing)
    assert failing.calls.count("chunks") == 2  # the manifest: read back, and by prune


def write_for_long(log: MetricsLog) -> None:
    for _ in range(9):
        log.write({"a": 1})
        log.sync()
        log.cut_back(1)


@pytest.mark.promise("R3")
def test_a_log_on_a_failing_disk_stops_the_run() -> None:
    for number in range(1, 7):
        files = Failing(
            MemoryFiles({"run": {}}),
            number,
            lambda _: OSError(errno.ENOSPC, "No space left on device"),
        )
        log = MetricsLog(RUN / "metrics.jsonl", fs=files)
        with pytest.raises(EnvironmentFault, match="No space left") as error:
            write_for_long(log)
        assert error.value.code == "VIT-506"
