"""A folder that somebody else may have made: its files are opened by name, and only if they are
plain files.

No link below the folder is followed, not to read, to write, to append or to list: what a run or a
model says and what is written for it lies in its folder and nowhere else. A pipe, socket or device
in the place of a file is refused at once (O_NONBLOCK, then fstat), so that nothing waits for it. A
refusal is an OSError whose text says what lies there. The folder itself may be named by a link.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vitrail.files import write_whole

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
PLAIN = NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | os.O_CLOEXEC
KINDS = (
    (stat.S_ISLNK, "a link, which is not followed"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class NotPlain(OSError):
    """Something else than a plain file (or, where one is needed, folder) lies at `filename`."""

    def __init__(self, path: Path, mode: int, expected: str = "file") -> None:
        kind = next((name for test, name in KINDS if test(mode)), "no plain file")
        super().__init__(errno.ELOOP, f"it is {kind}; expected a plain {expected}", str(path))


class TooLarge(OSError):
    """A file has more bytes than anything of its kind."""

    def __init__(self, path: Path, size: int, limit: int) -> None:
        super().__init__(errno.EFBIG, f"it has {size} bytes; at most {limit} expected", str(path))


def open_plain(path: Path, flags: int = os.O_RDONLY, *, links: bool = False) -> int:
    """A descriptor of the plain file at `path`; `links`: also of one that a link leads to, for
    files that the user named. Raises NotPlain, OSError.
    """
    try:
        handle = os.open(path, flags | (PLAIN & ~NO_LINK if links else PLAIN), 0o666)
    except OSError as error:
        # a link (ELOOP), a folder (EISDIR), a pipe without reader or a socket (ENXIO)
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP):
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode):
                raise NotPlain(path, mode) from None
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise NotPlain(path, mode)
    return handle


def read_named(path: Path, limit: int) -> bytes:
    """The content of a file that the user named: links are followed, nothing waits for a pipe.
    Raises NotPlain, TooLarge, OSError.
    """
    with os.fdopen(open_plain(path, links=True), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise TooLarge(path, size, limit)
        return stream.read(limit)


def make_folder(path: Path) -> Path:
    """Make `path` and what is missing above it; below a run's folder no link is followed.

    Raises NotPlain, OSError.
    """
    run = next((at for at in path.parents if os.path.lexists(at / "run.json")), None)
    if run is not None:
        return Folder(run).make(path.relative_to(run).as_posix())
    path.mkdir(parents=True, exist_ok=True)
    return path


def require_folder(path: Path) -> None:
    """Raises NotPlain where `path` is a link or no folder, FileNotFoundError where it is absent."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        raise NotPlain(path, mode, "folder")


@dataclass(frozen=True)
class Folder:
    """`path` and what lies below it. Names are relative, with "/" between parts."""

    path: Path

    def at(self, name: str) -> Path:
        """The path of `name`. Raises NotPlain where a folder on the way is none or a link."""
        place = self.path
        *folders, last = name.split("/")
        for part in folders:
            place = place / part
            if os.path.lexists(place):
                require_folder(place)
        return place / last

    def open(self, name: str) -> BinaryIO:
        """`name` for reading. Raises NotPlain, OSError."""
        return os.fdopen(open_plain(self.at(name)), "rb")

    def read(self, name: str, limit: int) -> bytes:
        """The content of `name`. Raises NotPlain, TooLarge, OSError."""
        with self.open(name) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise TooLarge(self.path / name, size, limit)
            return stream.read(limit)

    def has(self, name: str) -> bool:
        """Whether `name` is a plain file."""
        try:
            return stat.S_ISREG(os.lstat(self.at(name)).st_mode)
        except OSError:
            return False

    def lies(self, name: str) -> bool:
        """Whether anything lies at `name`, be it a link to nothing."""
        return os.path.lexists(self.path / name)

    def names(self, name: str = "") -> list[str]:
        """The names in the folder `name`, sorted; none where it is absent. Raises NotPlain."""
        place = self.at(name) if name else self.path
        try:
            if name:
                require_folder(place)
            return sorted(os.listdir(place))
        except FileNotFoundError:
            return []

    def make(self, name: str) -> Path:
        """The folder `name`, made with those above it. Raises NotPlain, OSError."""
        place = self.path
        place.mkdir(parents=True, exist_ok=True)
        for part in name.split("/"):
            place = place / part
            if not os.path.lexists(place):
                place.mkdir(exist_ok=True)
            require_folder(place)
        return place

    def write(self, name: str, content: bytes | str) -> None:
        """Write `name` whole; what lay there, be it a link, gives way. Raises NotPlain,
        EnvironmentFault VIT-506.
        """
        write_whole(self.at(name), content, replace=True)

    def append(self, name: str, text: str) -> None:
        """Add `text` to the end of `name`, which is made where it is absent. Raises NotPlain."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with os.fdopen(open_plain(self.at(name), flags), "a", encoding="utf-8") as stream:
            stream.write(text)
