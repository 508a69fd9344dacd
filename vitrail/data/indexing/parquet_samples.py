"""The images and labels of Parquet files as the Hugging Face hub has them: a column of images
(bytes, or records of bytes and path) and one of labels; class names are in the schema's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.data.indexing.tar_samples import Label, Sample
from vitrail.data.shards.parquet import parquet
from vitrail.errors import DataError

_IMAGES = ("image", "img", "picture", "jpg", "png", "webp")
_LABELS = ("label", "labels", "cls", "class", "fine_label", "target", "category")


class Columns(NamedTuple):
    """Names of the columns that are read."""

    image: str = ""
    label: str = ""


def columns_of(folder: Path, names: Sequence[str]) -> tuple[Columns, tuple[str, ...]]:
    """The columns of all files, and the names of the classes where the schema has them.

    Raises DataError VIT-332, VIT-334, EnvironmentFault VIT-520.
    """
    reader = parquet()
    found: set[tuple[Columns, tuple[str, ...]]] = set()
    for name in names:
        try:
            schema = reader.read_schema(folder / name)
        except (OSError, ValueError) as error:  # those of pyarrow are among them
            raise refused(folder / name, error) from error
        image = next((one for one in _IMAGES if one in schema.names), "")
        label = next((one for one in _LABELS if one in schema.names), "")
        if not image or not label:
            raise DataError(
                "VIT-334",
                f"{folder / name} has the columns {', '.join(schema.names)}; expected an image "
                f"({', '.join(_IMAGES)}) and a label ({', '.join(_LABELS)}).",
            )
        found.add((Columns(image, label), _class_names(schema.metadata or {}, label)))
    if len(found) > 1:
        raise DataError("VIT-334", f"the Parquet files of {folder} have different columns.")
    return found.pop()


def parquet_samples(path: Path, shard: int, columns: Columns) -> list[Sample]:
    """The images of a file, by rows. Raises DataError VIT-332, VIT-334."""
    found: list[Sample] = []
    try:
        with parquet().ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group, columns=[*columns], use_threads=False)
                pairs = zip(table.column(0), table.column(1), strict=True)
                if table.column_names != [*columns]:
                    pairs = zip(table.column(1), table.column(0), strict=True)
                for image, label in pairs:
                    found.append(_sample(path, shard, len(found), image.as_py(), label.as_py()))
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    return found


def _sample(path: Path, shard: int, row: int, image: Any, label: Any) -> Sample:
    data = image.get("bytes") if isinstance(image, dict) else image
    name = image.get("path") if isinstance(image, dict) else None
    if not isinstance(data, bytes):
        raise DataError("VIT-334", f"{path}: row {row} has no image bytes.")
    return Sample(
        shard, row, len(data), str(name or f"{path.stem}:{row}"), _label(path, row, label)
    )


def _label(path: Path, row: int, label: Any) -> Label:
    if isinstance(label, list) and all(isinstance(one, int | str) for one in label):
        return tuple(label)
    if isinstance(label, int | str) and not isinstance(label, bool) and label not in (-1, ""):
        return label
    raise DataError("VIT-334", f"{path}: row {row} has no label.")


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        own = features[label]
        own = own.get("feature", own) if isinstance(own, dict) else {}
        names = own.get("names", ())
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def refused(path: Path, error: Exception) -> DataError:
    """A file is no Parquet file, or a damaged one."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError("VIT-332", f"shard {path} is refused: {text}.")
