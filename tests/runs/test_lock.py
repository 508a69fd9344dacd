"""R10: one trainer in a run directory; a lock that a dead one left is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vitrail.errors import EnvironmentFault
from vitrail.runs.lock import RunLock, boot_id

HOLD = """
import sys, time
from vitrail.runs.lock import RunLock
from pathlib import Path
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(run_dir: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads((run_dir / ".lock").read_text(encoding="utf-8"))
    return record


@contextmanager
def another_trainer(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.promise("R10")
def test_a_second_trainer_refuses_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    with another_trainer(tmp_path) as first:
        with pytest.raises(EnvironmentFault, match=f"process {first.pid} is training") as error:
            RunLock(tmp_path).acquire()
        assert error.value.code == "VIT-504"
        first.send_signal(signal.SIGKILL)
        first.wait()
        with RunLock(tmp_path):
            assert holder(tmp_path) == {"pid": os.getpid(), "boot": boot_id()}
    assert (tmp_path / ".lock").read_text(encoding="utf-8") == ""


@pytest.mark.promise("R10")
def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(EnvironmentFault, match=f"process {os.getpid()}"):
            RunLock(tmp_path / ".." / tmp_path.name).acquire()
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "VIT-504" in refused.stderr  # trying twice in here did not drop it
    with RunLock(tmp_path):
        pass


def without_kernel_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)


@pytest.mark.promise("R10")
@pytest.mark.parametrize(
    ("pid", "boot", "taken"),
    [
        (1, "this", False),  # pid 1 lives in every system
        (1, "another", True),
        (2**22 + 1, "this", True),
        (None, "", True),
    ],
)
def test_on_a_store_without_locks_the_file_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int | None, boot: str, taken: bool
) -> None:
    record = {"pid": pid, "boot": boot_id() if boot == "this" else boot}
    text = "torn{" if pid is None else json.dumps(record)
    (tmp_path / ".lock").write_text(text, encoding="utf-8")
    without_kernel_locks(monkeypatch)
    if taken:
        with RunLock(tmp_path):
            assert holder(tmp_path)["pid"] == os.getpid()
    else:
        with pytest.raises(EnvironmentFault, match="process 1 is training"):
            RunLock(tmp_path).acquire()


def test_other_faults_are_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, flags: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "lockf", fail)
    for run_dir in (tmp_path, tmp_path / "absent"):
        with pytest.raises(EnvironmentFault, match=r"Input/output error|No such file") as error:
            RunLock(run_dir).acquire()
        assert error.value.code == "VIT-506"


@pytest.mark.promise("M7")
@pytest.mark.timeout(20)
def test_a_lock_of_any_form_is_taken_over_and_what_is_no_file_refused(tmp_path: Path) -> None:
    place = tmp_path / ".lock"
    huge = b'{"pid": 1' + b"0" * 200 + b', "boot": ""}'
    for content in (b"[]", b"3", b"\xff\x00", b"[" * 5000, huge, b'{"pid": "a", "boot": 3}'):
        place.write_bytes(content)
        with RunLock(tmp_path):
            assert holder(tmp_path)["pid"] == os.getpid()
    place.unlink()
    (tmp_path / "victim").write_text("precious")
    for kind in ("link", "pipe"):
        if kind == "link":
            place.symlink_to(tmp_path / "victim")
        else:
            os.mkfifo(place)
        with pytest.raises(EnvironmentFault, match=r"\.lock could not be written") as error:
            RunLock(tmp_path).acquire()
        assert error.value.code == "VIT-506"
        place.unlink()
    assert (tmp_path / "victim").read_text() == "precious"
