"""A table of images: CSV with the columns path,label and optionally split.

Paths are relative to the table's folder and stay inside it. Several labels joined by "|" in any row
make the data multi-label; there an empty label means none of the classes. A path or label that
begins with "escaped:" is written as `spelling.escaped` does: so a table holds any name exactly.
"""

from __future__ import annotations

import csv
import io
import os
import stat
from dataclasses import dataclass, replace

import numpy as np

from vitrail.data.images.image_file import is_inside
from vitrail.data.sources.folder import class_name, some
from vitrail.data.sources.many_labels import DENSE_CELLS, as_labels, many
from vitrail.data.sources.source import FileSource, Labels, Source, Splits
from vitrail.data.sources.split_names import parts_of
from vitrail.data.sources.walk import is_image
from vitrail.errors import DataError
from vitrail.spelling import PREFIX, count, printable, unescaped

MAX_BYTES = 2**30
PATH_COLUMNS = ("path", "image_path", "file", "filename", "file_name", "filepath", "image", "img")
_COLUMNS = {
    "path": PATH_COLUMNS,
    "label": ("label", "labels", "class", "target", "category"),
    "split": ("split", "set", "subset"),
}
_EXPECTED = "Expected a first line path,label or path,label,split"


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str


def open_table(path: str) -> Splits:
    """The splits of a CSV file. Raises DataError VIT-304, 307, 308, 310 to 313."""
    rows, notes = _rows(path, _read_text(path))
    if not rows:
        raise DataError("VIT-305", f"{path} lists no images.")
    rows = _with_splits(path, rows)
    _check_rows(path, rows)
    root = os.path.dirname(path) or "."
    _check_files(path, root, rows)
    multi_label = any("|" in row.label for row in rows)
    labels_of = [_labels_of(path, row, multi_label) for row in rows]
    parts = {
        part: [i for i, row in enumerate(rows) if row.split == part]
        for part in ("train", "val", "test")
    }
    train_names = {name for i in parts["train"] for name in labels_of[i]}
    classes = tuple(sorted(train_names))
    _check_classes(path, rows, labels_of, classes, multi_label)
    index = {name: number for number, name in enumerate(classes)}
    sources: dict[str, Source] = {}
    for part, numbers in parts.items():
        if numbers:
            chosen = sorted(numbers, key=lambda i: rows[i].path)
            labels = _labels([labels_of[i] for i in chosen], index, multi_label)
            paths = tuple(rows[i].path for i in chosen)
            sources[part] = FileSource(f"{path}:{part}", classes, labels, root, paths)
    name = printable(os.path.splitext(os.path.basename(path))[0])
    return Splits(
        name=name,
        classes=classes,
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        how="",
        kind="files",
        multi_label=multi_label,
        notes=notes,
    )


def _read_text(path: str) -> str:
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise DataError("VIT-310", f"{path}: table of more than {MAX_BYTES} bytes.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(
            "VIT-310",
            f"{path} is not UTF-8 text (byte {error.start}).",
            hint="Save the table as CSV UTF-8.",
        ) from error
    except OSError as error:
        raise DataError("VIT-310", f"{path} cannot be read: {error.strerror}.") from error


def _rows(path: str, text: str) -> tuple[list[_Row], tuple[str, ...]]:
    """The rows, and which columns are not used."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows: list[_Row] = []
    columns: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    width = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns, is_header = _columns(path, cells)
                width = len(cells)
                if is_header:
                    unused = [cell for i, cell in enumerate(cells) if i not in columns.values()]
                    notes = (f"columns that are not used: {some(unused)}.",) if unused else ()
                    continue
            rows.append(_row(path, reader.line_num, cells, columns, width))
    except csv.Error as error:
        raise DataError("VIT-310", f"{path} line {reader.line_num}: {error}.") from error
    return rows, notes


def _with_splits(path: str, rows: list[_Row]) -> list[_Row]:
    """The rows with train, val or test in place of the table's words. Raises DataError VIT-311."""
    parts = parts_of({row.split for row in rows})
    for row in rows:
        if row.split not in parts:
            raise DataError(
                "VIT-311",
                f"{path} line {row.line}: split {row.split!r}; expected train, val or test.",
            )
    return [replace(row, split=parts[row.split]) for row in rows]


def _columns(path: str, cells: list[str]) -> tuple[dict[str, int], bool]:
    """Column -> its position, and whether `cells` is a header line."""
    heads = [cell.strip().lower() for cell in cells]
    columns: dict[str, int] = {}
    for column, names in _COLUMNS.items():
        places = [place for place, head in enumerate(heads) if head in names]
        if len(places) > 1:
            raise DataError(
                "VIT-310",
                f"{path}: several columns may be the {column}: "
                f"{some([heads[place] for place in places])}.",
                hint=f"{_EXPECTED}.",
            )
        if places:
            columns[column] = places[0]
    if "path" in columns and "label" in columns:
        return columns, True
    if not columns and len(cells) in (2, 3) and is_image(cells[0].strip()):
        return {"path": 0, "label": 1} | ({"split": 2} if len(cells) == 3 else {}), False
    raise DataError("VIT-310", f"{path}: {_EXPECTED}, got {some(cells)}.")


def _row(path: str, line: int, cells: list[str], columns: dict[str, int], width: int) -> _Row:
    """width: columns of the first line. Raises DataError VIT-311."""
    if any(cell.strip() for cell in cells[width:]):
        raise DataError(
            "VIT-311",
            f"{path} line {line}: expected {count(width, 'column')} as in the first line, got "
            f"{len(cells)}.",
            hint='A cell that holds a comma is put in quotes: "a, b".',
        )
    if len(cells) <= max(columns.values()):
        raise DataError(
            "VIT-311",
            f"{path} line {line}: expected {max(columns.values()) + 1} columns, got {len(cells)}.",
        )
    picture, label = cells[columns["path"]].strip(), cells[columns["label"]].strip()
    split = cells[columns["split"]].strip() if "split" in columns else "train"
    if not picture:
        raise DataError("VIT-311", f"{path} line {line}: no path.")
    if picture.startswith(PREFIX):
        picture = _name(path, line, picture)
    else:
        picture = picture.replace("\\", "/")
    if os.path.isabs(picture):
        picture = os.path.relpath(picture, os.path.dirname(path) or ".")
    return _Row(line, os.path.normpath(picture), label, split)


def _name(path: str, line: int, cell: str) -> str:
    """The name in a cell. Raises DataError VIT-311."""
    try:
        return unescaped(cell)
    except ValueError as error:
        raise DataError("VIT-311", f"{path} line {line}: {cell}: {error}.") from error


def _check_rows(path: str, rows: list[_Row]) -> None:
    seen: dict[str, _Row] = {}
    twice = []
    for row in rows:
        if row.path in seen:
            twice.append(f"{row.path} (lines {seen[row.path].line} and {row.line})")
        seen[row.path] = row
    if twice:
        raise DataError(
            "VIT-313",
            f"{path} lists {count(len(twice), 'image')} more than once: {some(twice)}.",
            hint="One line an image; several labels are joined by |.",
        )
    if all(row.split != "train" for row in rows):
        raise DataError("VIT-307", f"{path} has no rows of the split train.")


def _check_files(path: str, root: str, rows: list[_Row]) -> None:
    """Every path must exist inside the table's folder; folders are resolved once each."""
    folders: dict[str, bool] = {}
    missing, outside = [], []
    for row in rows:
        full = os.path.join(root, row.path)
        folder = os.path.dirname(full) or "."
        if folder not in folders:
            folders[folder] = is_inside(folder, root)
        try:
            is_link = stat.S_ISLNK(os.lstat(full).st_mode)
        except (OSError, ValueError):
            missing.append(f"{row.path} (line {row.line})")
            continue
        if not folders[folder] or (is_link and not is_inside(full, root)):
            outside.append(f"{row.path} (line {row.line})")
    if outside:
        raise DataError(
            "VIT-309",
            f"{path}: {len(outside)} of {count(len(rows), 'image')} lie outside its folder: "
            f"{some(outside)}.",
            hint="Put the table into a folder above all images, with paths relative to it.",
        )
    if missing:
        raise DataError(
            "VIT-312",
            f"{path}: {len(missing)} of {count(len(rows), 'image')} do not exist: {some(missing)}.",
            hint=f"Paths are relative to the table's folder: {root}",
        )


def _labels_of(path: str, row: _Row, multi_label: bool) -> list[str]:
    names = [name.strip() for name in row.label.split("|")] if multi_label else [row.label]
    names = [_name(path, row.line, name) for name in names if name]
    names = [class_name(name, f"{path} line {row.line}") for name in names]
    if not names and not multi_label:
        raise DataError("VIT-311", f"{path} line {row.line}: {row.path} has no label.")
    return names


def _check_classes(
    path: str, rows: list[_Row], labels_of: list[list[str]], classes: tuple[str, ...], multi: bool
) -> None:
    known = set(classes)
    for row, names in zip(rows, labels_of, strict=True):
        if strange := sorted(set(names) - known):
            raise DataError(
                "VIT-307",
                f"{path} line {row.line}: the {row.split} split has classes that train has not: "
                f"{some(strange)}.",
                hint="Every class needs training images.",
            )
    if len(classes) < (1 if multi else 2):
        raise DataError(
            "VIT-304", f"{path} has only one class: {some(classes)}. Expected two classes or more."
        )


def _labels(names: list[list[str]], index: dict[str, int], multi_label: bool) -> Labels:
    if not multi_label:
        return np.array([index[own[0]] for own in names], dtype=np.int64)
    if len(names) * len(index) > DENSE_CELLS:
        return as_labels(many([[index[name] for name in own] for own in names], len(index)))
    labels = np.zeros((len(names), len(index)), np.float32)
    for row, own in enumerate(names):
        labels[row, [index[name] for name in own]] = 1
    return labels
