"""The bytes of an image file: regular, of bounded size, inside the folder that is asked for."""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from pathlib import Path

from vitrail.errors import DataError

MAX_FILE_BYTES = 256 * 2**20


class DecodeFault(DataError):
    """An image cannot be used; `reason` says why, `name` which. Code VIT-330."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__("VIT-330", f"{name}: {reason}" if name else reason)
        self.reason = reason
        self.name = name

    def __reduce__(self) -> tuple[type[DecodeFault], tuple[str, str]]:
        return DecodeFault, (self.reason, self.name)


def read_bytes(path: str | Path, *, root: str | Path | None = None) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES; with `root`, one inside that folder.

    Raises DecodeFault for a folder, device, FIFO, broken link, link out of `root`, missing or
    unreadable file.
    """
    name = os.fspath(path)
    try:
        file = _open_inside(name, root)
    except FileNotFoundError as error:
        reason = "is a broken link" if os.path.islink(name) else _open_reason(error)
        raise DecodeFault(reason, name) from error
    except (OSError, ValueError) as error:
        raise DecodeFault(_open_reason(error), name) from error
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            what = "folder" if stat.S_ISDIR(facts.st_mode) else "device, pipe or socket"
            raise DecodeFault(f"is a {what}, not a file", name)
        if facts.st_size > MAX_FILE_BYTES:
            raise DecodeFault(f"{facts.st_size} bytes; limit {MAX_FILE_BYTES}", name)
        parts, left = [], facts.st_size  # what the file held when it was opened
        while left and (part := os.read(file, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    except OSError as error:
        raise DecodeFault(_open_reason(error), name) from error
    finally:
        os.close(file)


def _open_inside(name: str, root: str | Path | None) -> int:
    """A descriptor of the file. Raises DecodeFault for a link out of `root`, OSError, ValueError.

    The folder is resolved once: five system calls an image fewer, each of which would hand the
    lock of the interpreter to another thread.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    no_link = getattr(os, "O_NOFOLLOW", None)
    if root is None:
        return os.open(name, flags)
    if no_link is not None and _folder_is_inside(os.path.dirname(name), os.fspath(root)):
        try:
            return os.open(name, flags | no_link)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
    if not is_inside(name, root):
        raise DecodeFault(
            f"is a link out of {os.fspath(root)}; links out of the folder are not followed", name
        )
    return os.open(name, flags)


@lru_cache(maxsize=65_536)
def _folder_is_inside(folder: str, root: str) -> bool:
    return is_inside(folder, root)


def is_inside(path: str | Path, root: str | Path) -> bool:
    """Whether `path`, all links resolved, lies in the folder `root`."""
    try:
        real, top = os.path.realpath(path), os.path.realpath(root)
    except (OSError, ValueError):
        return False
    return real == top or real.startswith(top.rstrip(os.sep) + os.sep)


def _open_reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "is no valid file name"
    reasons = {
        errno.ENOENT: "does not exist",
        errno.EACCES: "no permission to read it",
        errno.ELOOP: "is a loop of links",
        errno.ENXIO: "is a device, pipe or socket, not a file",
        errno.EISDIR: "is a folder, not a file",
    }
    return reasons.get(error.errno or 0, f"cannot be read ({error.strerror})")
