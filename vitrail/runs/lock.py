"""One process trains in a run directory at a time.

The kernel holds the lock (`fcntl.lockf`) and drops it when the process ends, however it ends;
forked workers do not inherit it. The file also names the holder by pid and boot id, for the
message, and for file systems without locks: there a holder that is alive since this boot keeps the
run, any other is taken over.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

from vitrail.errors import EnvironmentFault
from vitrail.folder import open_plain
from vitrail.runs.documents import LockForm

NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# lockf never conflicts within a process, and closing any descriptor of the file drops it: so
# remember what is held.
_held: set[Path] = set()


class RunLock:
    """`with RunLock(run_dir): ...`; raises EnvironmentFault VIT-504 where another process trains
    there. holder, way_out: for the message, what the other process does, and what helps.
    """

    def __init__(
        self,
        run_dir: Path,
        holder: str = "is training in this run directory",
        way_out: str = "to train in parallel, choose another --name.",
    ) -> None:
        self.path = run_dir.resolve() / NAME
        self._holder, self._way_out = holder, way_out
        self._fd: int | None = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, from a dead process too. Raises EnvironmentFault VIT-506, VIT-504."""
        if self.path in _held:
            raise self._fault(os.getpid())
        try:
            fd = open_plain(self.path, os.O_RDWR | os.O_CREAT)
            try:
                self._lock(fd)
                record = json.dumps({"pid": os.getpid(), "boot": boot_id()})
                os.ftruncate(fd, 0)
                os.pwrite(fd, record.encode() + b"\n", 0)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise EnvironmentFault(
                "VIT-506",
                f"{self.path} could not be written: {error.strerror or error}.",
                hint="Check that the run directory exists, is writable and has room.",
            ) from error
        self._fd = fd
        _held.add(self.path)

    def _lock(self, fd: int) -> None:
        pid, boot = _holder(fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise self._fault(pid) from None
            if error.errno not in UNSUPPORTED:
                raise
            if pid and pid != os.getpid() and boot == boot_id() and _is_alive(pid):
                raise self._fault(pid) from None

    def release(self) -> None:
        """Give the lock back; the file stays: removing it races with the next holder."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None
            _held.discard(self.path)

    def _fault(self, pid: int) -> EnvironmentFault:
        who = f"process {pid}" if pid else "another process"
        return EnvironmentFault(
            "VIT-504",
            f"{self.path.parent}: {who} {self._holder}.",
            hint=f"Wait until it has ended, or stop it; {self._way_out}",
        )


def boot_id() -> str:
    """Which start of this machine it is; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _holder(fd: int) -> tuple[int, str]:
    """Pid and boot id in the file; (0, "") where there is none or it is torn."""
    try:
        record = LockForm.model_validate_json(os.pread(fd, 1000, 0))
    except ValueError:
        return 0, ""
    return record.pid, record.boot


def holder_of(run_dir: Path) -> int:
    """Pid of the process that holds the lock of a run; 0 where none does. Takes no lock where the
    file names no living process, so that it is in nobody's way.
    """
    path = run_dir.resolve() / NAME
    if path in _held:
        return os.getpid()
    try:
        fd = open_plain(path)
    except OSError:
        return 0
    try:
        pid, boot = _holder(fd)
        if not pid or boot != boot_id() or not _is_alive(pid):
            return 0
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # somebody has it, or this file system has no locks: then the pid says
        return pid if error.errno in (errno.EACCES, errno.EAGAIN, *UNSUPPORTED) else 0
    finally:
        os.close(fd)
    return 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
