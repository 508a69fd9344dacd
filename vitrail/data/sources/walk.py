"""The walk through a folder of images: what counts as one, and what is left out, by reason.

Training, checking, predicting and explaining all find their images here. An image is what has an
image's ending, whatever it is: reading a link, a pipe or a folder called x.jpg names what is wrong.
A file without any ending is one where it begins as an accepted format does. Hidden names (.git,
.ipynb_checkpoints) and those of the system are left out; links to folders are not followed.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from vitrail.data.images.image_file import is_inside
from vitrail.data.images.image_header import SUFFIXES, declared_bytes, image_format
from vitrail.spelling import printable

# Formats that are refused are listed all the same: leaving them out would be silent.
IMAGE_SUFFIXES = frozenset((*SUFFIXES, "mpo", "heic", "heif", "avif", "avifs", "jxl", "jp2"))
SYSTEM = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found")
MAX_DEPTH = 8
_SHOWN = 3  # names of a reason
# What a reason is called for one and for many, in the order of the sentence.
_REASONS = {
    "loose": ("image next to the class folders", "images next to the class folders"),
    "unused": ("folder next to train", "folders next to train"),
    "other": ("file that is not an image", "files that are not images"),
    "hidden": ("hidden name", "hidden names"),
    "link": ("link to a folder, not followed", "links to folders, not followed"),
    "outside": ("link out of the folder, not followed", "links out of the folder, not followed"),
    "broken": ("broken link", "broken links"),
    "special": ("pipe, socket or device", "pipes, sockets or devices"),
    "deep": (
        f"folder more than {MAX_DEPTH} levels down",
        f"folders more than {MAX_DEPTH} levels down",
    ),
    "unlisted": ("folder that cannot be listed", "folders that cannot be listed"),
}


@dataclass
class LeftOut:
    """What was passed over: reason -> names, of which the first few are told."""

    names: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, name: str) -> None:
        """Pass over `name`."""
        self.names[reason].append(name)

    def sentence(self) -> str:
        """All of it on one line, with counts and the first names; "" where nothing was left out."""
        parts = []
        for reason, words in _REASONS.items():
            if found := self.names.get(reason):
                what = f"{len(found):,} {words[len(found) > 1]}"
                parts.append(f"{what} ({_kinds(found) if reason == 'other' else _some(found)})")
        return f"left out: {'; '.join(parts)}" if parts else ""


@dataclass
class FoundImages:
    """Images below a root, by paths relative to it, and what was left out on the way."""

    paths: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)  # folders that hold some of them
    left_out: LeftOut = field(default_factory=LeftOut)
    faults: dict[str, str] = field(default_factory=dict)  # folder -> why it cannot be listed


def is_image(name: str) -> bool:
    """Whether a file name ends as images' names do, in any case; hidden files never do."""
    stem, _, suffix = name.rpartition(".")
    return stem != "" and stem[0] != "." and suffix.lower() in IMAGE_SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or one that systems and tools put everywhere."""
    return name.startswith(".") or name in SYSTEM


def find_images(root: str, folder: str = "", left_out: LeftOut | None = None) -> FoundImages:
    """The images in and below `folder` of `root`, sorted in each folder. Never raises OSError."""
    found = FoundImages(left_out=LeftOut() if left_out is None else left_out)
    _walk(root, folder, found, 0)
    return found


def _walk(root: str, folder: str, found: FoundImages, depth: int) -> None:
    try:
        entries = listed(os.path.join(root, folder))
    except OSError as error:
        found.faults[folder] = error.strerror or str(error)
        found.left_out.add("unlisted", f"{folder or root}: {found.faults[folder]}")
        return
    before = len(found.paths)
    folders = []
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if not is_hidden(entry.name) and is_image(entry.name):
            found.paths.append(name)
        elif reason := why_not(entry, root):
            found.left_out.add(reason, name)
        elif not is_folder(entry):
            found.paths.append(name)
        elif depth >= MAX_DEPTH:
            found.left_out.add("deep", name)
        else:
            folders.append(name)
    if depth and len(found.paths) > before:
        found.nested.append(folder)
    for name in folders:
        _walk(root, name, found, depth + 1)


def listed(folder: str) -> list[os.DirEntry[str]]:
    """What lies in `folder`, by name. Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def why_not(entry: os.DirEntry[str], root: str) -> str:
    """The reason to leave out what has no image's ending: "" for a folder, and for an image."""
    if is_hidden(entry.name):
        return "hidden"
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else ""
        mode = entry.stat().st_mode
    except OSError:
        return "broken" if entry.is_symlink() else "other"
    if not stat.S_ISREG(mode):
        return "special"
    if "." in entry.name:
        return "other"
    if entry.is_symlink() and not is_inside(entry.path, root):
        return "outside"
    return "" if _begins_as_image(entry.path) else "other"


def _begins_as_image(path: str) -> bool:
    """Whether the first bytes are those of an accepted format; BMP's two are not enough."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            head, size = os.read(file, 64), os.fstat(file).st_size
        finally:
            os.close(file)
    except OSError:
        return False
    kind = image_format(head)
    return kind != "" and (kind != "bmp" or declared_bytes(kind, head) == size)


def _some(names: list[str]) -> str:
    shown = ", ".join(map(printable, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown}, ..."


def _kinds(names: list[str]) -> str:
    """2 .txt, 1 without ending."""
    counts = Counter(map(_suffix, names))
    shown = [f"{number:,} {kind}" for kind, number in counts.most_common(5)]
    return ", ".join(shown + ["..."] * (len(counts) > 5))


def _suffix(name: str) -> str:
    return printable(os.path.splitext(name)[1].lower()) or "without ending"
