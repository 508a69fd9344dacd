"""A file system in memory that records what was asked of it, and every state a power cut may leave
of it.

`MemoryFiles` stands for `vitrail.runs.filesystem.LocalFiles`, so the real save code runs
against it. Afterwards `crash_states` goes through the recorded operations: at every point, what was
made durable (fsync of the file for its bytes, fsync of the directory for its names) is there, and
of the rest any part may be lost. On an ordered file system names are lost from the newest on; on a
weak one any subset. Bytes that were not fsynced may be absent, torn or zeros.
"""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from vitrail.runs.filesystem import LocalFiles

Tree = dict[str, Any]  # name -> bytes (a file) or Tree (a directory)
MAX_SUBSETS = 64


@dataclass(eq=False)
class File:
    """A file's bytes."""

    data: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class Directory:
    """A directory's names."""

    entries: dict[str, File | Directory] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """What was done to which object: bytes of a file, or names of a directory (None: the name
    goes).
    """

    kind: str  # "write", "truncate", "sync", "names", "sync_dir", "mark"
    target: File | Directory | None
    value: Any


class MemoryFiles(LocalFiles):
    """A file system in memory. Paths are those of a tree whose root is `/`; `log` holds the
    operations.
    """

    def __init__(self, tree: Tree | None = None) -> None:
        self.root = _grow(tree or {})
        self.log: list[Operation] = []
        self._open: dict[int, File] = {}
        self._numbers = itertools.count(3)
        self.start = self.tree()

    def tree(self) -> Tree:
        """The content now, as plain data."""
        return _plain(self.root)

    def mark(self, value: tuple[str, int]) -> None:
        """Put a remark of the test among the operations."""
        self.log.append(Operation("mark", None, value))

    def _at(self, path: Path) -> File | Directory:
        here: File | Directory = self.root
        for part in path.parts[1:]:
            if not isinstance(here, Directory) or part not in here.entries:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            here = here.entries[part]
        return here

    def _directory(self, path: Path) -> Directory:
        found = self._at(path)
        if not isinstance(found, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
        return found

    def _file(self, path: Path) -> File:
        found = self._at(path)
        if not isinstance(found, File):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
        return found

    def _change(self, parent: Directory, names: dict[str, File | Directory | None]) -> None:
        _apply(parent.entries, names)
        self.log.append(Operation("names", parent, names))

    def _new(self, path: Path, node: File | Directory) -> None:
        parent = self._directory(path.parent)
        if path.name in parent.entries:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        self._change(parent, {path.name: node})

    def _descriptor(self, file: File) -> int:
        number = next(self._numbers)
        self._open[number] = file
        return number

    def create(self, path: Path) -> int:
        file = File()
        self._new(path, file)
        return self._descriptor(file)

    def append(self, path: Path) -> int:
        parent = self._directory(path.parent)
        return (
            self._descriptor(self._file(path)) if path.name in parent.entries else self.create(path)
        )

    def write(self, fd: int, data: memoryview) -> int:
        self._open[fd].data += data
        self.log.append(Operation("write", self._open[fd], bytes(data)))
        return len(data)

    def sync(self, fd: int) -> None:
        self.log.append(Operation("sync", self._open[fd], None))

    def close(self, fd: int) -> None:
        del self._open[fd]

    def truncate(self, path: Path, size: int) -> None:
        file = self._file(path)
        del file.data[size:]
        self.log.append(Operation("truncate", file, size))
        self.log.append(Operation("sync", file, None))

    def make_dir(self, path: Path) -> None:
        self._new(path, Directory())

    def sync_dir(self, path: Path) -> None:
        self.log.append(Operation("sync_dir", self._directory(path), None))

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent, "a rename across directories would need another model"
        node, parent = self._at(old), self._directory(new.parent)
        there = parent.entries.get(new.name)
        if isinstance(there, Directory) and there.entries:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(new))
        self._change(parent, {old.name: None, new.name: node})

    def remove(self, path: Path) -> None:
        self._file(path)
        self._change(self._directory(path.parent), {path.name: None})

    def remove_dir(self, path: Path) -> None:
        if self._directory(path).entries:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        self._change(self._directory(path.parent), {path.name: None})

    def names(self, path: Path) -> list[str]:
        return sorted(self._directory(path).entries) if self.is_dir(path) else []

    def is_dir(self, path: Path) -> bool:
        try:
            return isinstance(self._at(path), Directory)
        except FileNotFoundError:
            return False

    def size(self, path: Path) -> int:
        return len(self._file(path).data)

    def chunks(self, path: Path) -> Iterator[bytes]:
        yield bytes(self._file(path).data)

    def tensors(self, path: Path) -> dict[str, Tensor]:
        return safetensors.torch.load(bytes(self._file(path).data))

    def free_bytes(self, path: Path) -> int:
        return 1 << 40


@dataclass(frozen=True)
class CrashState:
    """What the disk may hold after a power cut; `marks` were passed before it."""

    tree: Tree
    marks: tuple[tuple[str, int], ...]


def crash_states(files: MemoryFiles, *, weak: bool, seed: int = 0) -> Iterator[CrashState]:
    """Every state that a power cut during the recorded operations may leave (a sample of 64 above 6
    lost names).
    """
    chance = random.Random(seed)
    disk = _Disk(files)
    marks: list[tuple[str, int]] = []
    yield from disk.states(weak, tuple(marks), chance)
    for operation in files.log:
        if operation.kind == "mark":
            marks.append(operation.value)
        else:
            disk.do(operation)
        yield from disk.states(weak, tuple(marks), chance)


class _Disk:
    """What is durable, and what was asked for since."""

    def __init__(self, files: MemoryFiles) -> None:
        self.root = files.root
        self.bytes: dict[File, bytes] = {}
        self.names: dict[Directory, dict[str, File | Directory]] = {}
        self.late_bytes: dict[File, list[Operation]] = {}
        self.late_names: list[Operation] = []
        self._take_over(files.root, files.start)

    def _take_over(self, node: Directory, tree: Tree) -> None:
        """The content before the recording is durable; its objects are found by replaying names
        backwards.
        """
        assert not tree, "start from an empty file system and record what fills it"
        self.names[node] = {}

    def do(self, operation: Operation) -> None:
        target = operation.target
        if operation.kind in ("write", "truncate"):
            assert isinstance(target, File)
            self.late_bytes.setdefault(target, []).append(operation)
        elif operation.kind == "sync":
            assert isinstance(target, File)
            self.bytes[target] = self._content(target, "all")
            self.late_bytes.pop(target, None)
        elif operation.kind == "names":
            self.late_names.append(operation)
        else:
            assert isinstance(target, Directory)
            names = self.names.setdefault(target, {})
            for late in [late for late in self.late_names if late.target is target]:
                _apply(names, late.value)
            self.late_names = [late for late in self.late_names if late.target is not target]

    def states(
        self, weak: bool, marks: tuple[tuple[str, int], ...], chance: random.Random
    ) -> Iterator[CrashState]:
        for kept in self._kept_names(weak, chance):
            names = {directory: dict(entries) for directory, entries in self.names.items()}
            for operation in kept:
                assert isinstance(operation.target, Directory)
                _apply(names.setdefault(operation.target, {}), operation.value)
            for contents in self._kept_bytes():
                yield CrashState(_build(self.root, names, contents), marks)

    def _kept_names(self, weak: bool, chance: random.Random) -> Iterator[list[Operation]]:
        late = self.late_names
        if not weak:
            yield from (late[:count] for count in range(len(late) + 1))
        elif 2 ** len(late) <= MAX_SUBSETS:
            for choice in itertools.product((False, True), repeat=len(late)):
                yield list(itertools.compress(late, choice))
        else:
            yield from (late, [])
            for _ in range(MAX_SUBSETS - 2):
                yield [operation for operation in late if chance.random() < 0.5]

    def _kept_bytes(self) -> Iterator[dict[File, bytes]]:
        """Bytes of every file: all late ones the same way, then each alone lost while the others
        are whole.
        """
        whole = self.bytes | {file: self._content(file, "all") for file in self.late_bytes}
        yield whole
        for way in ("none", "torn", "zeros"):
            if self.late_bytes:
                yield whole | {file: self._content(file, way) for file in self.late_bytes}
        if len(self.late_bytes) > 1:
            yield from (whole | {file: self._content(file, "none")} for file in self.late_bytes)

    def _content(self, file: File, way: str) -> bytes:
        durable = data = self.bytes.get(file, b"")
        for operation in self.late_bytes.get(file, []):
            data = data + operation.value if operation.kind == "write" else data[: operation.value]
        if way == "none":
            return durable
        common = min(len(durable), len(data))
        if way == "torn":
            return data[: common + (len(data) - common) // 2]
        return data[:common] + bytes(len(data) - common) if way == "zeros" else data


def _apply(entries: dict[str, File | Directory], names: dict[str, File | Directory | None]) -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _build(
    root: Directory,
    names: dict[Directory, dict[str, File | Directory]],
    contents: dict[File, bytes],
) -> Tree:
    return {
        name: contents.get(node, b"") if isinstance(node, File) else _build(node, names, contents)
        for name, node in names.get(root, {}).items()
    }


def _grow(tree: Tree) -> Directory:
    return Directory(
        {
            name: _grow(value) if isinstance(value, dict) else File(bytearray(value))
            for name, value in tree.items()
        }
    )


def _plain(node: Directory) -> Tree:
    return {
        name: bytes(value.data) if isinstance(value, File) else _plain(value)
        for name, value in node.entries.items()
    }


def freeze(tree: Tree) -> frozenset[Any]:
    """A hashable form of a tree, to count different states."""
    return frozenset(
        (name, freeze(value) if isinstance(value, dict) else value) for name, value in tree.items()
    )


def materialise(tree: Tree, folder: Path) -> None:
    """Write a tree to a real directory that exists."""
    for name, value in tree.items():
        if isinstance(value, dict):
            (folder / name).mkdir()
            materialise(value, folder / name)
        else:
            (folder / name).write_bytes(value)
