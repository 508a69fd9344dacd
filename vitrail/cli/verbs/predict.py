"""`vitrail predict MODEL FILES`: one line an image, and a file of all of them.

An image that cannot be read gets an error in its own line; the others are classified. Exit 3 only
where none could be read.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of, check_numbers
from vitrail.cli.display.output import Output, plain
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import DataError, UsageError
from vitrail.files import refuse_existing, write_whole
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.prediction import Prediction

app = app_of("vitrail predict")
TABLES = (".csv", ".jsonl", ".parquet")


@app.default
def predict(
    model: Path,
    files: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    /,
    *,
    top: int = 5,
    out: Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Classify images.

    Parameters
    ----------
    model
        A run directory or a model directory.
    files
        Images, or folders of images.
    top
        Classes to print per image.
    out
        Write a table: .csv, .jsonl or .parquet. A file that exists is never overwritten.
    batch_size
        Batch size.
    device
        auto, cpu, cuda, cuda:1, mps.
    """
    check_numbers({"--top": top, "--batch-size": batch_size})
    if out is not None:
        check_table(out)
    asked = find_pictures(files)
    for note in asked.notes:
        output.note(note)
    classifier = load(
        model,
        read_as,
        output,
        device=device,
        engine=engine or EngineOptions(),
        batch=max(1, min(batch_size, len(asked.readable))),
    )
    predictions = iter(classifier.predict_files(asked.readable, top=top, batch_size=batch_size))
    records = [
        refused_record(path, asked.refused[path])
        if path in asked.refused
        else record_of(next(predictions))
        for path in asked.pictures
    ]
    if out is not None:
        write_whole(out, table_of(records, out.suffix.lower()))
    output.result(records, [line_of(record) for record in records])
    failed = [record for record in records if record["error"]]
    if len(failed) == len(records):
        raise DataError(
            "VIT-362",
            f"none of the {count(len(records), 'image')} can be read; the first: "
            f"{failed[0]['source']}: {failed[0]['error']}",
            hint="Accepted: jpeg png webp bmp gif tiff",
        )
    if failed:
        output.note(
            f"{len(failed)} of {count(len(records), 'image')} cannot be read; their lines say why"
        )
    return 0


def check_table(out: Path) -> None:
    """Raise UsageError VIT-206 where `out` exists, VIT-202 for an unknown kind;
    EnvironmentFault VIT-520 for Parquet without its library.
    """
    if out.suffix.lower() == ".parquet":
        from vitrail.studies.results.tables import require_pyarrow

        require_pyarrow()
    if out.suffix.lower() not in TABLES:
        raise UsageError(
            "VIT-202",
            f"--out {out}: expected a name ending in {', '.join(TABLES)}, "
            f"got {out.suffix or 'none'}.",
            hint=f"For instance --out {out.with_suffix('.csv')}",
        )
    refuse_existing(out)


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


def find_pictures(files: Sequence[Path]) -> ImageList:
    """Files as given, and the images in and below folders by the rules of training (`walk.py`).

    Raises UsageError VIT-201 where nothing is given, DataError VIT-360 for a missing path,
    VIT-361 where the folders hold none.
    """
    if not files:
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
    from vitrail.data.images.decode import is_inside
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
    return f"Did you mean {path.parent / close[0]}?" if close else f"Look into {path.parent}"


def record_of(prediction: Prediction) -> dict[str, Any]:
    """The object of `predict --json`: source, label, score, top, error."""
    names = ("source", "label", "score", "top", "error")
    record: dict[str, Any] = plain({name: getattr(prediction, name) for name in names})
    return record


def refused_record(path: Path, why: str) -> dict[str, Any]:
    """As `record_of` of an image that is not opened."""
    record: dict[str, Any] = plain(
        {"source": path, "label": None, "score": None, "top": [], "error": why}
    )
    return record


def line_of(record: dict[str, Any]) -> str:
    """`photos/a.jpg  cat 0.98  dog 0.01`."""
    if record["error"]:
        return f"{record['source']}  error: {record['error']}"
    return f"{record['source']}  " + "  ".join(
        f"{item['label']} {item['score']:.4f}" for item in record["top"]
    )


def table_of(records: Sequence[dict[str, Any]], suffix: str) -> str | bytes:
    """The records as JSON lines, or as CSV or Parquet: source, label, score, error, label_2, ..."""
    if suffix == ".jsonl":
        return "".join(json.dumps(record) + "\n" for record in records)
    from vitrail.studies.results.tables import parquet_bytes, table_text

    lines = []
    for record in records:
        line = {name: record[name] for name in ("source", "label", "score", "error")}
        for place, item in enumerate((record["top"] or ())[1:], start=2):
            line |= {f"label_{place}": item["label"], f"score_{place}": item["score"]}
        lines.append(line)
    return parquet_bytes(lines) if suffix == ".parquet" else table_text(lines)
