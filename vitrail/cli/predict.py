"""`vitrail predict MODEL FILES`: one line a picture, and a file of all of them.

A picture that cannot be read gets an error in its own line; the others are classified. Exit 3 only
where none could be read.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.output import Output, plain
from vitrail.cli.told import tell
from vitrail.errors import DataError, UsageError
from vitrail.files import write_whole

if TYPE_CHECKING:
    from vitrail.classifier import Prediction

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
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Classify pictures.

    Parameters
    ----------
    model
        A run directory or a model directory.
    files
        Pictures, or folders of pictures.
    top
        How many labels a picture.
    out
        Write a table: .csv, .jsonl or .parquet. A file that exists is never overwritten.
    batch_size
        Pictures classified at a time.
    """
    check_numbers({"--top": top, "--batch-size": batch_size})
    if out is not None:
        check_table(out)
    pictures = find_pictures(files)
    from vitrail.classifier import Classifier
    from vitrail.cli.downloads import progress_of

    classifier = Classifier.load(model, progress=progress_of(output))
    tell(classifier, output)
    predictions = classifier.predict(pictures, top=top, batch_size=batch_size)
    records = [record_of(prediction) for prediction in predictions]
    if out is not None:
        write_whole(out, table_of(records, out.suffix.lower()))
    output.result(records, [line_of(record) for record in records])
    failed = [record for record in records if record["error"]]
    if len(failed) == len(records):
        raise DataError(
            "VIT-362",
            f"none of the {len(records)} pictures can be read; the first: "
            f"{failed[0]['source']}: {failed[0]['error']}",
            hint="Accepted: jpeg png webp bmp gif tiff",
        )
    if failed:
        output.note(f"{len(failed)} of {len(records)} pictures cannot be read; their lines say why")
    return 0


def check_numbers(numbers: dict[str, int]) -> None:
    """Raise UsageError VIT-202 for a count below 1."""
    for option, value in numbers.items():
        if value < 1:
            raise UsageError(
                "VIT-202",
                f"{option}: expected a number from 1, got {value}.",
                hint=f"For instance {option} 5",
            )


def check_table(out: Path) -> None:
    """Raise UsageError VIT-206 where `out` exists, VIT-202 for an unknown kind;
    EnvironmentFault VIT-520 for Parquet without its library.
    """
    if out.suffix.lower() == ".parquet":
        from vitrail.studies.tables import require_pyarrow

        require_pyarrow()
    if out.suffix.lower() not in TABLES:
        raise UsageError(
            "VIT-202",
            f"--out {out}: expected a name ending in {', '.join(TABLES)}, "
            f"got {out.suffix or 'none'}.",
            hint=f"For instance --out {out.with_suffix('.csv')}",
        )
    if out.exists():
        raise UsageError(
            "VIT-206", f"--out {out} exists; it is not overwritten.", hint="Choose another name"
        )


def find_pictures(files: Sequence[Path]) -> list[Path]:
    """Files as given and the pictures below folders, sorted.

    Raises UsageError VIT-201 where nothing is given, DataError VIT-360 for a missing path,
    VIT-361 for a folder without any.
    """
    if not files:
        raise UsageError(
            "VIT-201",
            "FILES are missing: what to classify.",
            hint="For instance: vitrail predict MODEL a.jpg photos/",
        )
    from vitrail.data.folder import is_picture
    from vitrail.data.image_header import SUFFIXES

    pictures = []
    for path in files:
        if path.is_dir():
            found = sorted(
                item for item in path.rglob("*") if is_picture(item.name) and item.is_file()
            )
            if not found:
                raise DataError(
                    "VIT-361",
                    f"{path} holds no pictures.",
                    hint=f"Accepted endings: {' '.join('.' + suffix for suffix in SUFFIXES)}",
                )
            pictures += found
        elif path.exists():
            pictures.append(path)
        else:
            raise DataError("VIT-360", f"{path} does not exist.", hint=near_path(path))
    return pictures


def near_path(path: Path) -> str:
    """A way out for a path that does not exist: the nearest name beside it."""
    if not path.parent.is_dir():
        return f"{path.parent} does not exist either; the working directory is {Path.cwd()}"
    names = [item.name for item in path.parent.iterdir()][:10_000]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / close[0]}?" if close else f"Look into {path.parent}"


def record_of(prediction: Prediction) -> dict[str, Any]:
    """The object of `predict --json`: source, label, score, top, error."""
    names = ("source", "label", "score", "top", "error")
    record: dict[str, Any] = plain({name: getattr(prediction, name) for name in names})
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
    from vitrail.studies.tables import csv_text, parquet_bytes

    lines = []
    for record in records:
        line = {name: record[name] for name in ("source", "label", "score", "error")}
        for place, item in enumerate((record["top"] or ())[1:], start=2):
            line |= {f"label_{place}": item["label"], f"score_{place}": item["score"]}
        lines.append(line)
    return parquet_bytes(lines) if suffix == ".parquet" else csv_text(lines)
