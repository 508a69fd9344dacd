"""Files that appear under their name whole or not at all.

Each is written next to its place under a name that nobody looks for, flushed to disk and given its
name in one step; what fails leaves nothing behind. Everything that Vitrail writes in one go is
written here; training checkpoints, downloads and logs that grow have their own protocols.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vitrail.errors import EnvironmentFault, UsageError, cannot_write, os_error_of
from vitrail.spelling import cell

Refuse = Callable[[Path], None]


def refuse_existing(*paths: Path, hint: str = "Choose another name: --out") -> None:
    """Raise UsageError VIT-206 where one of `paths` is there, also as a broken link."""
    for path in paths:
        if os.path.lexists(path):
            raise UsageError("VIT-206", f"{path} exists; it is not overwritten.", hint=hint)


def write_whole(
    path: Path, content: bytes | str, *, replace: bool = False, refuse: Refuse = refuse_existing
) -> Path:
    """Write a file; folders above it are made. Text becomes UTF-8. `refuse` raises where a file
    exists that may not be replaced.

    Raises UsageError VIT-206 where it exists and may not be replaced, EnvironmentFault VIT-506
    where it cannot be written.
    """
    with whole_file(path, replace=replace, refuse=refuse) as temporary:
        temporary.write_bytes(encoded(content))
    return path


def write_together(
    folder: Path, files: Mapping[str, bytes | str], *, replace: bool = False
) -> list[Path]:
    """Write several files into one folder: none gets its name before all are on the disk.

    Raises as `write_whole`.
    """
    with whole_files(folder, files, replace=replace) as places:
        for name, place in places.items():
            with writing(folder / name):
                place.write_bytes(encoded(files[name]))
                flush_to_disk(place)
    return [folder / name for name in files]


@contextmanager
def whole_files(
    folder: Path, names: Iterable[str], *, replace: bool = False
) -> Iterator[dict[str, Path]]:
    """Files to write to, by name, that all get their names when the block ends well."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(whole_file(folder / name, replace=replace)) for name in names
        }


def write_csv(
    path: Path,
    columns: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    replace: bool = False,
    refuse: Refuse = refuse_existing,
) -> Path:
    """Write a table with a head. Raises as `write_whole`."""
    return write_whole(path, csv_text(columns, rows), replace=replace, refuse=refuse)


def csv_text(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table with a head as text; what is text in it is written as `spelling.cell` says."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([cell(one) if isinstance(one, str) else one for one in row])
    return stream.getvalue()


def encoded(content: bytes | str) -> bytes:
    """UTF-8, with what is no text (bytes of a file name) written out: \\udcff."""
    return content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")


@contextmanager
def whole_file(
    path: Path, *, replace: bool = False, refuse: Refuse = refuse_existing
) -> Iterator[Path]:
    """An empty file to write to, for a library that wants a name; when the block ends well it
    becomes `path`. Raises as `write_whole`.
    """
    temporary = _temporary(path, None if replace else refuse)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # safetensors makes its files 0600
            flush_to_disk(temporary)
            if replace:
                os.replace(temporary, path)
            else:
                give_name(temporary, path, refuse)
            flush_to_disk(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(
    path: Path, *, replace: bool = False, refuse: Refuse = refuse_existing
) -> Iterator[Path]:
    """An empty folder to fill with files; when the block ends well it becomes `path`. With
    `replace` a folder that is there gives way, in two renames. Raises as `write_whole`.
    """
    temporary = _temporary(path, None if replace else refuse)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            mode = temporary.stat().st_mode & 0o666
            yield temporary
            for item in temporary.iterdir():
                if item.is_file():
                    item.chmod(mode)  # safetensors makes its files 0600
                flush_to_disk(item)
            flush_to_disk(temporary)
            if replace and path.exists():
                _exchange(temporary, path)
            else:
                refuse(path)  # a rename would take the place of an empty folder
                try:
                    temporary.rename(path)
                except OSError:  # not empty: somebody else has just made it
                    refuse(path)
                    raise
            flush_to_disk(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses becomes EnvironmentFault VIT-506 with the file's name."""
    try:
        yield
    except EnvironmentFault:
        raise
    except Exception as error:
        refused = os_error_of(error)
        if refused is None:
            raise
        raise cannot_write(path, refused) from error


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name of an existing file for libraries that take UTF-8 only, as safetensors does to read:
    the path, or where that is no UTF-8 the file by its descriptor. Raises OSError.
    """
    name = os.fspath(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield name


def flush_to_disk(path: Path) -> None:
    """fsync a file or a folder (folders where the system allows)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/vitrail`, by default ~/.cache/vitrail. Raises EnvironmentFault VIT-506 where
    this user has no home directory.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = os.path.expanduser("~")
    if not os.path.isabs(given) and not os.path.isabs(home):
        raise EnvironmentFault(
            "VIT-506",
            "this user has no home directory to keep files in.",
            hint="Name a folder for them: export XDG_CACHE_HOME=/path/to/folder",
        )
    return (Path(given) if os.path.isabs(given) else Path(home) / ".cache") / "vitrail"


def _temporary(path: Path, refuse: Refuse | None) -> Path:
    """A name next to `path`, short enough wherever that one is."""
    if refuse is not None:
        with writing(path):
            refuse(path)
    return path.parent / f".tmp-{os.getpid()}-{os.urandom(6).hex()}"


def give_name(temporary: Path, path: Path, refuse: Refuse = refuse_existing) -> None:
    """Let the file `temporary`, which may keep its name too, be `path`. A link fails where the name
    is taken, a rename would replace it. Raises what `refuse` raises, OSError.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        refuse(path)
        raise
    except OSError:  # a file system without links
        refuse(path)
        os.rename(temporary, path)


def _exchange(temporary: Path, path: Path) -> None:
    """Put a folder in the place of another, which stays where that fails."""
    old = temporary.with_name(temporary.name.replace(".tmp-", ".trash-", 1))
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
