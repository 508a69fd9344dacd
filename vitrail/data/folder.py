"""Class folders: photos/CLASS/IMAGE, with or without train/, val/ and test/ above the classes.

The class of a picture is its first folder; pictures in folders below belong to the same class.
Class names are normalised to NFC and sorted by code point, so that neither the operating system nor
the file system changes an index. Hidden folders are never classes. Whatever has a picture's name is
listed, also links, pipes and folders called x.jpg: reading them names what is wrong.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitrail.data.decode import is_inside
from vitrail.data.image_header import SUFFIXES
from vitrail.data.records import FileSource, Source, Splits, printable
from vitrail.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
# Pictures in formats that are refused are listed all the same: leaving them out would be silent.
PICTURE_SUFFIXES = frozenset(SUFFIXES) | {
    "mpo",
    "heic",
    "heif",
    "avif",
    "avifs",
    "jxl",
    "jp2",
}
_NOT_CLASSES = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found")
_MAX_DEPTH = 8


@dataclass
class _Listing:
    """What one walk through a folder found."""

    paths: dict[str, list[str]] = field(default_factory=dict)  # class -> paths relative to the root
    others: Counter[str] = field(default_factory=Counter)  # suffix of ignored files -> number
    nested: int = 0  # pictures in folders below a class folder
    links: int = 0  # links to folders below a class folder, not followed


def is_picture(name: str) -> bool:
    """Whether a file name ends as pictures' names do, in any case; hidden files never do."""
    stem, _, suffix = name.rpartition(".")
    return stem != "" and stem[0] != "." and suffix.lower() in PICTURE_SUFFIXES


def open_folder(path: str, *, min_classes: int = 2) -> Splits:
    """The splits of a folder of class folders. Raises DataError VIT-302 to 309."""
    folders, pictures = _top(path)
    given = _split_folders(path, folders)
    if not given and not folders and pictures:
        raise DataError(
            "VIT-302",
            f"{path} has images but no class folders. Expected {path.rstrip('/')}/CLASS/IMAGE.",
            hint="For labels in a table: labels.csv with the columns path,label.",
        )
    listing = _Listing()
    roots = given or {"train": ""}
    found = {part: _list_classes(path, folder, listing) for part, folder in roots.items()}
    classes = _class_names(path, found, roots, min_classes)
    sources: dict[str, Source] = {
        part: _source(path, f"{path}:{part}", classes, listing.paths, folders_of)
        for part, folders_of in found.items()
    }
    notes = _notes(listing, pictures, sorted(set(folders) - set(given.values())) if given else [])
    return Splits(
        name=os.path.basename(os.path.realpath(path)),
        classes=classes,
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        how="",
        kind="files",
        notes=notes,
    )


def _top(path: str) -> tuple[list[str], int]:
    """The folders in `path` that may be classes or splits, and the number of pictures there."""
    try:
        with os.scandir(path) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise DataError("VIT-303", f"{path} cannot be listed: {error.strerror}.") from error
    folders = sorted(name for name, is_dir in listed if is_dir and not _is_hidden(name))
    pictures = sum(is_picture(name) for name, is_dir in listed if not is_dir)
    if not folders and not pictures:
        raise DataError(
            "VIT-305",
            f"{path} holds no pictures. Expected {path.rstrip('/')}/CLASS/IMAGE.",
            hint="Data is a folder of class folders, a table path,label, IDX, CIFAR or npz files.",
        )
    return folders, pictures


def _split_folders(path: str, folders: list[str]) -> dict[str, str]:
    """Split -> folder, {} where the folders of `path` are classes."""
    named: dict[str, str] = {}
    for folder in folders:
        part = SPLIT_NAMES.get(folder.lower())
        if part is None or not _has_folders(os.path.join(path, folder)):
            continue
        if part in named:
            raise DataError(
                "VIT-307",
                f"{path} has both {named[part]}/ and {folder}/; expected one {part} split.",
            )
        named[part] = folder
    if named and "train" not in named:
        others = ", ".join(f"{folder}/" for folder in named.values())
        raise DataError(
            "VIT-307",
            f"{path} has {others} with class folders, but no train/ with class folders.",
            hint="Rename the folder of the training pictures to train.",
        )
    return named


def _list_classes(root: str, folder: str, listing: _Listing) -> dict[str, str]:
    """Class -> its folder relative to `root`; the pictures go into `listing`."""
    top = os.path.join(root, folder) if folder else root
    _check_link(top, root)
    classes: dict[str, str] = {}
    with os.scandir(top) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for name in names:
        if _is_hidden(name):
            continue
        label = class_name(name, top)
        if label in classes:
            raise DataError(
                "VIT-308",
                f"{top} has two folders for the class {label!r}, spelled in different code points.",
                hint="Move the pictures into one of them.",
            )
        relative = f"{folder}/{name}" if folder else name
        _check_link(os.path.join(root, relative), root)
        classes[label] = relative
        listing.paths[relative] = sorted(_walk(root, relative, listing, 0))
    return classes


def _check_link(folder: str, root: str) -> None:
    if os.path.islink(folder) and not is_inside(folder, root):
        raise DataError(
            "VIT-309",
            f"{printable(folder)} is a link out of {root}; not followed.",
            hint="Give the folder that it points to, or move the pictures.",
        )


def _walk(root: str, folder: str, listing: _Listing, depth: int) -> list[str]:
    """Relative paths of the pictures in and below `folder`; links to folders are not followed."""
    paths: list[str] = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if is_picture(entry.name):
                    paths.append(f"{folder}/{entry.name}")
                    listing.nested += depth > 0
                elif not entry.is_dir():
                    listing.others[_suffix(entry.name)] += 1
                elif entry.is_symlink():
                    listing.links += 1
                elif not _is_hidden(entry.name) and depth < _MAX_DEPTH:
                    paths += _walk(root, f"{folder}/{entry.name}", listing, depth + 1)
    except OSError as error:
        where = printable(os.path.join(root, folder))
        raise DataError("VIT-303", f"{where} cannot be listed: {error.strerror}.") from error
    return paths


def _class_names(
    path: str, found: dict[str, dict[str, str]], roots: dict[str, str], min_classes: int
) -> tuple[str, ...]:
    classes = tuple(sorted(found["train"]))
    where = os.path.join(path, roots["train"]) if roots["train"] else path
    for part, folders in found.items():
        if strange := sorted(set(folders) - set(classes)):
            raise DataError(
                "VIT-307",
                f"{roots[part]}/ has classes that {roots['train']}/ has not: {some(strange)}.",
                hint="Every class needs training pictures: rename or remove these folders.",
            )
    if len(classes) < min_classes:
        raise DataError(
            "VIT-304",
            f"{where} has only one class folder: {some(classes)}. Expected two classes or more."
            if classes
            else f"{where} has no class folders.",
            hint=_hint_deeper(where, classes),
        )
    return classes


def _source(
    path: str,
    name: str,
    classes: tuple[str, ...],
    paths: dict[str, list[str]],
    folders: dict[str, str],
) -> FileSource:
    of_class = [paths[folders[label]] if label in folders else [] for label in classes]
    part = name.rpartition(":")[2]
    empty = [label for label, files in zip(classes, of_class, strict=True) if not files]
    if len(empty) == len(classes):
        raise DataError(
            "VIT-305",
            f"{path}: the class folders of the {part} split hold no pictures.",
            hint="Put pictures (jpeg png webp bmp gif tiff) into them.",
        )
    if empty and part == "train":
        raise DataError(
            "VIT-306",
            f"{path}: class folders without pictures: {some(empty)}.",
            hint="Remove these folders or put pictures into them.",
        )
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in of_class])
    files = tuple(file for files in of_class for file in files)
    return FileSource(name=name, classes=classes, labels=labels, root=path, paths=files)


def class_name(name: str, where: str) -> str:
    """A folder's or table's class name in NFC. Raises DataError VIT-308 where it is no text."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            "VIT-308",
            f"{where}: class name {printable(name)} is not valid UTF-8.",
            hint="Rename it.",
        ) from error
    return unicodedata.normalize("NFC", name)


def some(names: list[str] | tuple[str, ...], most: int = 10) -> str:
    """Names joined by commas, at most `most` and the number of all."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def _notes(listing: _Listing, loose: int, unused: list[str]) -> tuple[str, ...]:
    notes = []
    if loose:
        notes.append(f"{loose} pictures beside the class folders have no class and are ignored.")
    if listing.others:
        kinds = ", ".join(f"{number} {kind}" for kind, number in listing.others.most_common(5))
        notes.append(f"{listing.others.total()} files that are no pictures are ignored: {kinds}.")
    if listing.nested:
        notes.append(
            f"{listing.nested} pictures lie in folders below a class folder; they belong to it."
        )
    if listing.links:
        notes.append(f"{listing.links} links to folders inside class folders are not followed.")
    if unused:
        notes.append(f"folders beside train/ are not used: {some(unused)}.")
    return tuple(notes)


def _hint_deeper(where: str, classes: tuple[str, ...]) -> str:
    if classes and _has_folders(os.path.join(where, classes[0])):
        return f"If the classes are one level deeper: {os.path.join(where, classes[0])}"
    return "Put the pictures of each class into a folder of its own."


def _has_folders(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir() and not _is_hidden(entry.name) for entry in entries)
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_CLASSES


def _suffix(name: str) -> str:
    return Path(name).suffix.lower() or ("hidden" if name.startswith(".") else "without suffix")
