"""Sheets of many images, each explained by several methods, and one page of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.classifier import Classifier
from vitrail.errors import DataError, UsageError
from vitrail.explain.explanation import Explanation
from vitrail.explain.methods.registry import METHODS, methods_of
from vitrail.explain.sheet import sheet
from vitrail.files import write_whole
from vitrail.models.create import Model
from vitrail.report.explain_page import explain_page, image_section
from vitrail.report.frame import PageSection
from vitrail.spelling import printable

PAGE = "explain.html"
LONGEST = 100  # letters of an image's name in those of its files
ALL = "all"


@dataclass(frozen=True)
class Sheet:
    """One image: the plain facts of each method, and the file; or in `error` why it cannot be read.
    The maps themselves are not kept: there may be thousands of images.
    """

    source: Path
    methods: tuple[dict[str, Any], ...] = ()
    file: Path | None = None
    error: str = ""


def methods_asked(classifier: Classifier, text: str) -> list[str]:
    """The methods of "all", or of names with commas between. Raises UsageError VIT-270, VIT-271
    where an image is explained by one that the model does not have; here VIT-202 for none.
    """
    assert isinstance(classifier.model, Model)
    if text == ALL:
        return [name for name in methods_of(classifier.model) if name != "random"]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("VIT-202", "--sheet: no method is named.", hint="For instance --sheet all")
    return list(dict.fromkeys(names))


def explained(
    classifier: Classifier, image: Path, methods: Sequence[str], target: str | None = None
) -> tuple[Explanation, ...]:
    """One image by several methods; target: for those that explain a class."""
    return tuple(
        classifier.explain(
            image, one, target=target if one in METHODS and METHODS[one].has_target else None
        )
        for one in methods
    )


def write_sheets(
    classifier: Classifier,
    images: Sequence[Path],
    methods: Sequence[str],
    folder: Path,
    *,
    target: str | None = None,
    refused: dict[Path, str] | None = None,
    title: str = "model",
) -> list[Sheet]:
    """Write NAME-sheet.png of each image into `folder`, and explain.html about all of them. Nothing
    is written where no image can be read. refused: images that are not opened, and why.

    Raises UsageError VIT-206 where a file exists, VIT-270 to VIT-276 for methods and target;
    EnvironmentFault VIT-506.
    """
    sheets: list[Sheet] = []
    sections, names = list[PageSection](), set[str]()
    for path in images:
        if refused and path in refused:
            sheets.append(Sheet(path, error=refused[path]))
            continue
        try:
            found = explained(classifier, path, methods, target)
        except DataError as fault:
            sheets.append(Sheet(path, error=getattr(fault, "reason", fault.message)))
            continue
        stem = free_name(f"{printable(path.stem)[:LONGEST]}-sheet", names)
        stream = io.BytesIO()
        drawn = sheet(found[0].picture, found[0].said, [one.column() for one in found])
        drawn.save(stream, "PNG")
        file = write_whole(folder / f"{stem}.png", stream.getvalue())
        sections.append(image_section(len(sections) + 1, printable(path.name), found))
        sheets.append(Sheet(path, tuple(one.to_json() for one in found), file))
    if sections:
        bad = sum(bool(one.error) for one in sheets)
        write_whole(folder / PAGE, explain_page(title, sections, bad))
    return sheets


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with a number where an image before had it; added to `taken`."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found
