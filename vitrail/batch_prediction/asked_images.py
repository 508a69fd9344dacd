"""The images that a command is given: files, folders, and files that list them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitrail.batch_prediction.parts import Images
from vitrail.errors import DataError, UsageError


@dataclass
class ImageList:
    """Images in the order of the answer; why some are not even opened; what was left out."""

    pictures: list[Path] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def readable(self) -> list[Path]:
        """Those that are opened."""
        return [path for path in self.pictures if path not in self.refused]

    def images(self) -> Images:
        """As predictions take them."""
        refused = {os.fspath(path): why for path, why in self.refused.items()}
        return Images([os.fspath(path) for path in self.pictures], refused)


def find_pictures(files: Sequence[Path], listed_in: Path | None = None) -> ImageList:
    """Files as given, the images in and below folders by the rules of training (`walk.py`), and
    those that a file lists (`file_list.py`), be they there or not.

    Raises UsageError VIT-201 where nothing is given, DataError VIT-310, VIT-311 for the list,
    VIT-360 for a missing path, VIT-361 where the folders hold none.
    """
    if not files and listed_in is None:
        raise UsageError(
            "VIT-201",
            "FILES are missing: what to classify.",
            hint="For instance: vitrail predict MODEL a.jpg photos/",
        )
    from vitrail.data.images.image_header import SUFFIXES

    asked = ImageList()
    for path in files:
        if os.path.isdir(path):
            add_folder(path, asked)
        elif is_missing(path):
            raise DataError("VIT-360", f"{path} does not exist.", hint=near_path(path))
        else:
            asked.pictures.append(path)
    if listed_in is not None:
        from vitrail.batch_prediction.file_list import listed_images

        asked.pictures += map(Path, listed_images(listed_in))
    if not asked.pictures:
        raise DataError(
            "VIT-361",
            f"{' '.join(map(str, files))}: no images. {' '.join(asked.notes)}",
            hint=f"Accepted endings: {' '.join('.' + suffix for suffix in SUFFIXES)}",
        )
    return asked


def add_folder(path: Path, asked: ImageList) -> None:
    """The images in and below a folder; links out of it and folders that cannot be listed get an
    answer of their own, which says so.
    """
    from vitrail.data.images.image_file import is_inside
    from vitrail.data.sources.walk import find_images

    found = find_images(os.fspath(path))
    left_out = found.left_out
    for folder, why in found.faults.items():
        asked.refused[path / folder] = f"cannot be listed: {why}"
    left_out.names.pop("unlisted", None)
    for one in (path / name for name in found.paths):
        if one.is_symlink() and one.exists() and not is_inside(one, path):
            asked.refused[one] = (
                f"is a link out of {path}; links out of the folder are not followed"
            )
    if not found.paths:
        asked.notes.append(f"{path} holds no images")
    if sentence := left_out.sentence():
        asked.notes.append(f"{path}: {sentence}")
    asked.pictures += [path / name for name in sorted([*found.paths, *found.faults])]


def is_missing(path: Path) -> bool:
    """Whether there is nothing of that name; what may not be looked at is named when it is read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


def near_path(path: Path) -> str:
    """A way out for a path that does not exist: the nearest name next to it."""
    if not os.path.isdir(path.parent):
        return f"{path.parent} does not exist either; the working directory is {Path.cwd()}"
    try:
        names = os.listdir(path.parent)[:10_000]
    except OSError as error:
        return f"{path.parent} cannot be listed: {error.strerror}"
    close = difflib.get_close_matches(path.name, names, n=1)
    where = "the current folder" if path.parent == Path() else path.parent
    return f"Did you mean {path.parent / close[0]}?" if close else f"Look into {where}"
