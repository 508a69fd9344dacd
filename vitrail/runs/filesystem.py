"""Every call by which a checkpoint, the metrics log and the run lock touch the disk, in one object.

Tests put another object in its place: one that records the calls and rebuilds every state a power
cut may leave, one that fails the n-th call (`docs/reliability.md`, R2 and R3). Nothing here catches
an error.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.files import utf8_name
from vitrail.folder import NotPlain, open_plain, require_folder

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_BYTES = 1 << 22


class LocalFiles:
    """The file system of the computer; paths are absolute or relative to the working directory. A
    test double is a subclass that overrides all of it.
    """

    def create(self, path: Path) -> int:
        """A descriptor for writing a file that must not exist; mode from the umask."""
        return open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def append(self, path: Path) -> int:
        """A descriptor for writing at the end of a file, which is created when absent."""
        return open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of `data`; returns how many bytes."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Make what was written durable."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        os.close(fd)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes and make that durable."""
        fd = open_plain(path, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_dir(self, path: Path) -> None:
        """Make a directory that must not exist; its parent must."""
        path.mkdir()

    def sync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or directory another name."""
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_dir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def names(self, path: Path) -> list[str]:
        """The names in a directory, sorted; none when it does not exist. Raises OSError for a link
        or another thing in its place.
        """
        try:
            require_folder(path)
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def is_dir(self, path: Path) -> bool:
        """Whether the path is a directory, and no link to one."""
        return path.is_dir() and not path.is_symlink()

    def size(self, path: Path) -> int:
        """Bytes of a plain file. Raises FileNotFoundError, another OSError for what is none."""
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise NotPlain(path, found.st_mode)
        return found.st_size

    def chunks(self, path: Path) -> Iterator[bytes]:
        """The content of a file, piece by piece."""
        with os.fdopen(open_plain(path), "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    def tensors(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a safetensors file, in main memory."""
        from safetensors.torch import load_file

        os.close(open_plain(path))  # a plain file, no link
        with utf8_name(path) as readable:
            return load_file(readable)

    def free_bytes(self, path: Path) -> int:
        """Bytes that may still be written under a directory."""
        return shutil.disk_usage(path).free


FILES = LocalFiles()


def write_all(fs: LocalFiles, fd: int, data: bytes | memoryview) -> None:
    """Write the whole of `data`, however little the disk takes at a time."""
    rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while rest:
        written = fs.write(fd, rest[:CHUNK_BYTES])
        if written <= 0:
            raise OSError(5, "write returned nothing")
        rest = rest[written:]


def read_all(fs: LocalFiles, path: Path, limit: int) -> bytes:
    """The content of a small file. Raises ValueError where it is larger than `limit` bytes."""
    if (size := fs.size(path)) > limit:
        raise ValueError(f"{size} bytes, more than the {limit} allowed")
    return b"".join(fs.chunks(path))


def remove_tree(fs: LocalFiles, path: Path) -> None:
    """Remove a directory and what is in it; links are removed, not followed."""
    for name in fs.names(path):
        if fs.is_dir(path / name):
            remove_tree(fs, path / name)
        else:
            fs.remove(path / name)
    fs.remove_dir(path)
