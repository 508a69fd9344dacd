"""Class folders: photos/CLASS/IMAGE, with or without train/, val/ and test/ above the classes.

The class of an image is its first folder; images in folders below belong to the same class. Class
names are normalised to NFC and sorted by code point, so that neither the operating system nor the
file system changes an index. What counts as an image: `walk.py`; which folders are splits:
`split_names.py`. What is left out is told in `Splits.notes`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.data.images.image_file import is_inside
from vitrail.data.sources.class_names import plain
from vitrail.data.sources.source import FileSource, Source, Splits
from vitrail.data.sources.split_names import reinterpreted, split_word, splits_named
from vitrail.data.sources.walk import (
    LeftOut,
    find_images,
    is_folder,
    is_hidden,
    is_image,
    listed,
    why_not,
)
from vitrail.errors import DataError
from vitrail.spelling import count, printable

# Folders next to train/ that are known to hold images without labels.
_UNLABELLED = ("pred", "prediction", "unlabeled", "unlabelled", "unsup", "extra", "sample")


_MASK = re.compile(r"(.+)[_-](?:mask|seg|segmentation|groundtruth|gt|label)(?:[_-]?\d+)?")


@dataclass(frozen=True)
class _Top:
    """What lies in a folder: folders that may be classes or splits, and images."""

    folders: list[str]
    images: list[str]


@dataclass(frozen=True)
class _Listed:
    """The classes of one split: their folders, images and the folders further down."""

    folders: dict[str, str]  # class -> folder, relative to the root
    paths: dict[str, list[str]]  # class -> images
    nested: dict[str, list[str]]  # class -> folders below its own that hold images


def open_folder(path: str, *, min_classes: int = 2) -> Splits:
    """The splits of a folder of class folders. Raises DataError VIT-302 to 309."""
    left_out = LeftOut()
    top = _look(path, path, left_out)
    if not top.folders and not top.images:
        raise DataError(
            "VIT-305",
            f"{path} holds no images. Expected {path.rstrip('/')}/CLASS/IMAGE.{_told(left_out)}",
            hint="Data is a folder of class folders, a table path,label, IDX, CIFAR or npz files.",
        )
    given = _split_folders(path, top.folders)
    if not given:
        _check_classes_there(path, top)
    for name in top.images:
        left_out.add("loose", name)
    if given:
        _unused(path, top, given, left_out)
    roots = {
        part: _inner(path, folder, left_out) for part, folder in (given or {"train": ""}).items()
    }
    found = {part: _list_classes(path, folder, left_out) for part, folder in roots.items()}
    classes = _class_names(path, found, roots, min_classes)
    sources: dict[str, Source] = {
        part: _source(path, f"{path}:{part}", classes, own, left_out) for part, own in found.items()
    }
    _check_nested(path, found["train"], roots["train"])
    return Splits(
        name=printable(os.path.basename(os.path.realpath(path))),
        classes=classes,
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        how="",
        kind="files",
        notes=_notes(given, found, left_out),
    )


def _look(path: str, root: str, left_out: LeftOut, below: str = "") -> _Top:
    """One level of a folder; what is neither a folder nor an image is left out.

    Raises DataError VIT-303 where it cannot be listed.
    """
    try:
        entries = listed(path)
    except OSError as error:
        raise DataError("VIT-303", f"{path} cannot be listed: {error.strerror}.") from error
    folders, images = [], []
    for entry in entries:
        if is_hidden(entry.name):
            left_out.add("hidden", below + entry.name)
        elif is_folder(entry):
            folders.append(entry.name)
        elif is_image(entry.name):
            images.append(below + entry.name)
        elif reason := why_not(entry, root):
            left_out.add(reason, below + entry.name)
        else:
            images.append(below + entry.name)
    return _Top(folders, images)


def _told(left_out: LeftOut) -> str:
    sentence = left_out.sentence()
    return f" {sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _split_folders(path: str, folders: Sequence[str]) -> dict[str, str]:
    """Split -> folder, {} where the folders of `path` are classes. Raises DataError VIT-307."""
    named = splits_named([one for one in folders if _has_folders(os.path.join(path, one))], path)
    if named and "train" not in named:
        others = ", ".join(f"{printable(folder)}/" for folder in named.values())
        raise DataError(
            "VIT-307",
            f"{path} has {others} with class folders, but no train/ with class folders.",
            hint="Rename the folder of the training images to train; a class with folders of its "
            "own needs a name that is no split's.",
        )
    return named


def _check_classes_there(path: str, top: _Top) -> None:
    """Raises DataError VIT-302 for images without classes: loose ones, or in bare splits."""
    words = {name: word for name in top.folders if (word := split_word(name)) and not word[1]}
    if len(words) > 1 and len(words) == len(top.folders):
        raise DataError(
            "VIT-302",
            f"{path}: {', '.join(f'{printable(name)}/' for name in words)} are named like splits "
            f"and have no class folders. Expected {path.rstrip('/')}/train/CLASS/IMAGE.",
            hint="For labels in a table: labels.csv with the columns path,label,split. If these "
            "are classes, give them other names.",
        )
    if not top.folders:
        raise DataError(
            "VIT-302",
            f"{path} has images but no class folders. Expected {path.rstrip('/')}/CLASS/IMAGE.",
            hint="For labels in a table: labels.csv with the columns path,label.",
        )


def _unused(path: str, top: _Top, given: Mapping[str, str], left_out: LeftOut) -> None:
    """Folders next to those of the splits are left out.

    Raises DataError VIT-307 where "train" may as well be a class next to other classes.
    """
    others = [name for name in top.folders if name not in given.values()]
    for name in others:
        images = len(find_images(path, name).paths)
        left_out.add("unused", f"{name}/ with {count(images, 'image')}" if images else f"{name}/")
    classes = [name for name in others if not _is_unlabelled(name) and _holds_images(path, name)]
    if len(given) == 1 and classes:
        shown = some([f"{name}/" for name in classes])
        raise DataError(
            "VIT-307",
            f"{path} has {printable(given['train'])}/ with folders of its own, and next to it "
            f"{shown}: is {printable(given['train'])}/ the training split or a class?",
            hint=f"A class: rename that folder. The split: move {shown} elsewhere.",
        )


def _is_unlabelled(name: str) -> bool:
    words = name.lower().replace("-", "_").split("_")
    return split_word(name) is not None or any(
        word.startswith(known) for word in words for known in _UNLABELLED
    )


def _holds_images(path: str, folder: str) -> bool:
    return bool(find_images(path, folder).paths)


def _inner(path: str, folder: str, left_out: LeftOut) -> str:
    """The folder of a split's classes: seg_train/seg_train where nothing else lies in the outer."""
    if not folder:
        return ""
    top = _look(os.path.join(path, folder), path, LeftOut())
    if len(top.folders) != 1 or top.images or split_word(top.folders[0]) != split_word(folder):
        return folder
    inner = f"{folder}/{top.folders[0]}"
    if not _has_folders(os.path.join(path, inner)):
        return folder
    _look(os.path.join(path, folder), path, left_out, f"{folder}/")
    return inner


def _list_classes(root: str, folder: str, left_out: LeftOut) -> _Listed:
    """The classes in `folder` of `root` with their images."""
    top = os.path.join(root, folder) if folder else root
    _check_link(top, root)
    below = f"{folder}/" if folder else ""
    level = _look(top, root, left_out if folder else LeftOut(), below)
    for name in level.images if folder else ():
        left_out.add("loose", name)
    found = _Listed({}, {}, {})
    for name in level.folders:
        label = class_name(name, top)
        if label in found.folders:
            raise DataError(
                "VIT-308",
                f"{top} has two folders for the class {label}, spelled in different code points.",
                hint="Move the images into one of them.",
            )
        _check_link(os.path.join(root, below + name), root)
        images = find_images(root, below + name, left_out)
        for place, why in images.faults.items():
            raise DataError("VIT-303", f"{os.path.join(root, place)} cannot be listed: {why}.")
        found.folders[label] = below + name
        found.paths[label] = images.paths
        found.nested[label] = images.nested
    return found


def _check_link(folder: str, root: str) -> None:
    if os.path.islink(folder) and not is_inside(folder, root):
        raise DataError(
            "VIT-309",
            f"{folder} is a link out of {root}; links out of the folder are not followed.",
            hint="Give the folder that it points to, or move the images.",
        )


def _class_names(
    path: str, found: Mapping[str, _Listed], roots: Mapping[str, str], min_classes: int
) -> tuple[str, ...]:
    classes = tuple(sorted(found["train"].folders))
    where = os.path.join(path, roots["train"]) if roots["train"] else path
    for part, own in found.items():
        if strange := sorted(set(own.folders) - set(classes)):
            raise DataError(
                "VIT-307",
                f"{roots[part]}/ has classes that {roots['train']}/ has not: {some(strange)}.",
                hint=_hint_alike(strange, classes)
                or "Every class needs training images: rename or remove these folders.",
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


def _hint_alike(strange: Sequence[str], classes: Sequence[str]) -> str:
    """Which folders are probably meant, where they are written otherwise; "" for none."""
    known = {plain(name): name for name in classes}
    meant = [(name, known[plain(name)]) for name in strange if plain(name) in known]
    pairs = ", ".join(f"{name!a} to {other!a}" for name, other in meant[:3])
    return f"Names are compared letter by letter. Rename {pairs}." if meant else ""


def _source(
    path: str, name: str, classes: tuple[str, ...], own: _Listed, left_out: LeftOut
) -> FileSource:
    of_class = [own.paths.get(label, []) for label in classes]
    part = name.rpartition(":")[2]
    empty = [label for label, files in zip(classes, of_class, strict=True) if not files]
    if len(empty) == len(classes):
        raise DataError(
            "VIT-305",
            f"{path}: the class folders of the {part} split hold no images.{_told(left_out)}",
            hint="Put images (jpeg png webp bmp gif tiff) into them.",
        )
    if empty and part == "train":
        raise DataError(
            "VIT-306",
            f"{path}: class folders without images: {some(empty)}.{_told(left_out)}",
            hint="Remove these folders or put images into them.",
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
            "VIT-308", f"{where}: class name {name} is not valid UTF-8.", hint="Rename it."
        ) from error
    return unicodedata.normalize("NFC", name)


def some(names: Sequence[str], most: int = 10) -> str:
    """Names joined by commas, at most `most` and the number of all."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def lacks(part: str, names: Sequence[str]) -> str:
    """A sentence about a split without images of these classes."""
    return f"{part} has no images of {count(len(names), 'class')}: {some(names)}."


def _notes(
    given: Mapping[str, str], found: Mapping[str, _Listed], left_out: LeftOut
) -> tuple[str, ...]:
    said = (reinterpreted(given), left_out.sentence(), _nested(found), _masks(found))
    return tuple(filter(None, said))


def _masks(found: Mapping[str, _Listed]) -> str:
    """A sentence about images that are named as masks of others next to them."""
    masks = []
    for own in found.values():
        for paths in own.paths.values():
            stems = {path.rpartition(".")[0] for path in paths} - {""}
            masks += [path for path in paths if _masked(path) in stems]
    if not masks:
        return ""
    return f"{count(len(masks), 'image')} named as masks of others, counted ({some(masks, 3)})."


def _masked(path: str) -> str:
    """The image, without its ending, of which this would be a mask; "" for other names."""
    match = _MASK.fullmatch(path.rpartition(".")[0])
    return match[1] if match else ""


def _check_nested(path: str, train: _Listed, root: str) -> None:
    """Raises DataError VIT-307 where the folders below each class are splits: their test images
    would be trained on.
    """
    for label, below in train.nested.items():
        names = {one.removeprefix(f"{train.folders[label]}/").partition("/")[0] for one in below}
        words = {word[0] for name in names if (word := split_word(name)) and not word[1]}
        if "train" in words and len(words) > 1:
            where = printable(train.folders[label])
            raise DataError(
                "VIT-307",
                f"{path}: {where}/ holds {some(sorted(names))}, splits below a class: all of them "
                "would be training images.",
                hint=f"Expected the split first: {os.path.join(path, root, 'train')}/CLASS/IMAGE.",
            )


def _nested(found: Mapping[str, _Listed]) -> str:
    """A sentence about folders below class folders; whether these may be the classes."""
    folders = [one for own in found.values() for below in own.nested.values() for one in below]
    if not folders:
        return ""
    images = sum(
        path.rpartition("/")[0] in set(own.nested[label])
        for own in found.values()
        for label, paths in own.paths.items()
        for path in paths
    )
    sentence = (
        f"{count(images, 'image')} in folders below a class folder, counted for that class "
        f"({some(folders, 3)})."
    )
    train = found["train"]
    names = [
        {one.removeprefix(f"{train.folders[label]}/").partition("/")[0] for one in below}
        for label, below in train.nested.items()
    ]
    shared = sorted(set.intersection(*names)) if names else []
    if len(shared) > 1:
        sentence += f" If {some(shared, 3)} are the classes, name the folders above train and test."
    return sentence


def _hint_deeper(where: str, classes: tuple[str, ...]) -> str:
    if classes and _has_folders(os.path.join(where, classes[0])):
        return f"If the classes are one level deeper: {os.path.join(where, classes[0])}"
    return "Put the images of each class into a folder of its own."


def _has_folders(path: str) -> bool:
    try:
        return any(is_folder(entry) and not is_hidden(entry.name) for entry in listed(path))
    except OSError:
        return False
