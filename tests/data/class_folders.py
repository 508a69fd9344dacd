"""Small folders of class folders with images that can be learnt, and tars of them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLORS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "fox": (40, 40, 200)}


def picture(seed: int, color: tuple[int, int, int], kind: str = "JPEG") -> bytes:
    """An encoded image of some noise in a color, of a size that differs."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(34, 60, 2)
    noise = rng.integers(0, 90, (height, width, 3)) + np.array(color) * 0.6
    stream = io.BytesIO()
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def class_folders(root: Path, per_class: int = 12) -> Path:
    """root/CLASS/NUMBER.jpg, every seventh a PNG, and a copy of one."""
    for number, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for k in range(per_class):
            kind, ending = ("PNG", "png") if k % 7 == 0 else ("JPEG", "jpg")
            content = picture(100 * number + k, color, kind)
            (root / name / f"{k:03d}.{ending}").write_bytes(content)
    (root / "cat" / "copy.jpg").write_bytes((root / "cat" / "001.jpg").read_bytes())
    return root


def tar_of(
    path: Path, members: Iterable[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT
) -> Path:
    """A tar file by the standard library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def webdataset(root: Path, folder: Path, shards: int = 3) -> Path:
    """The images of `root` as others write them: in order, with .cls and classes.txt."""
    paths = sorted(root.glob("*/*"))
    classes = sorted({path.parent.name for path in paths})
    rows = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        label = str(classes.index(path.parent.name)).encode()
        rows.append([(name, path.read_bytes()), (f"{name.rpartition('.')[0]}.cls", label)])
    for number in range(shards):
        own = [member for row in rows[number::shards] for member in row]
        tar_of(folder / f"part-{number:03d}.tar", own)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return folder


def parquet_of(photos: Path, path: Path, group: int) -> Path:
    """The images as the Hugging Face hub has them, shuffled, in groups of rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files = sorted(photos.glob("*/*"), key=lambda one: one.stem)
    classes = sorted({file.parent.name for file in files})
    names = [file.relative_to(photos).as_posix() for file in files]
    images = [
        {"bytes": file.read_bytes(), "path": name} for file, name in zip(files, names, strict=True)
    ]
    labels = [classes.index(file.parent.name) for file in files]
    told = {"info": {"features": {"label": {"names": classes, "_type": "ClassLabel"}}}}
    table = arrow.table({"label": labels, "image": images})
    table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table, path, row_group_size=group)
    return path
