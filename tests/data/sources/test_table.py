"""Tables of images: header variants, splits, several labels, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.odd_images import encoded, noise
from vitrail.data.sources.open_data import Splits, open_data
from vitrail.errors import DataError

PNG = encoded(noise(5, 7), "PNG")
FILES = ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, one without a suffix."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    return tmp_path


def opened(folder: Path, text: str, encoding: str = "utf-8", **fractions: float) -> Splits:
    """The splits of labels.csv with `text` in it."""
    path = folder / "labels.csv"
    path.write_text(text, encoding=encoding, newline="")
    return open_data(path, **(fractions or {"val_fraction": 0, "test_fraction": 0}))  # type: ignore[arg-type]


def refused(folder: Path, text: str, code: str, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(folder, text)
    assert caught.value.code == code, str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "head",
    [
        "path,label",
        "image_path,label",
        "file,class",
        "FileName , Label",
        "image,category",
        "filename,target",
        "file_name,labels",
    ],
)
def test_header_variants(folder: Path, head: str) -> None:
    splits = opened(folder, f"{head}\nb/3.png,y\na/1.png,x\n\nb/5,x\n")
    assert splits.classes == ("x", "y")
    assert [splits.train.source_id(k) for k in range(3)] == ["a/1.png", "b/3.png", "b/5"]
    assert splits.train.labels.tolist() == [0, 1, 0]
    assert splits.train.labels.dtype == np.int64
    assert splits.train.read(2)[0] == PNG


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_byte_order_mark_and_order_of_columns(
    folder: Path, delimiter: str, end: str
) -> None:
    rows = [
        ["split", "label", "path"],
        ["train", "x", "a/1.png"],
        ["train", "y", '"b/3.png"'],
        ["Validation", "y", "./b/4.png"],
        ["TEST", "x", "a\\2.png"],
    ]
    text = end.join(delimiter.join(row) for row in rows)
    splits = opened(folder, text, "utf-8-sig", val_fraction="auto")  # type: ignore[arg-type]
    assert splits.val is not None
    assert splits.test is not None
    assert splits.val.source_id(0) == "b/4.png"
    assert splits.test.source_id(0) == "a/2.png"
    assert splits.train.labels.tolist() == [0, 1]


def test_without_a_header(folder: Path) -> None:
    splits = opened(folder, "a/1.png,x\nb/3.png,y\n")
    assert len(splits.train) == 2


def test_columns_that_are_not_needed_are_ignored(folder: Path) -> None:
    splits = opened(folder, "id,path,label,weight\n1,a/1.png,x,3\n2,b/3.png,y,4\n")
    assert splits.classes == ("x", "y")


def test_several_labels(folder: Path) -> None:
    splits = opened(
        folder, "path,label\na/1.png,dog|cat\na/2.png,cat\nb/3.png,\nb/4.png, dog | ox\n"
    )
    assert splits.multi_label
    assert splits.classes == ("cat", "dog", "ox")
    assert splits.train.labels.dtype == np.float32
    assert splits.train.labels.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_mistakes_are_named_with_their_line(folder: Path) -> None:
    good = "path,label\na/1.png,x\nb/3.png,y\n"
    refused(folder, "", "VIT-305", "lists no images")
    refused(folder, "path,label\n", "VIT-305")
    refused(folder, "name,kind\na/1.png,x\n", "VIT-310", "Expected a first line path,label", "kind")
    refused(folder, "path,file,label\n", "VIT-310", "several columns")
    refused(folder, good + "b/4.png\n", "VIT-311", "line 4", "got 1")
    refused(folder, good + "b/4.png,\n", "VIT-311", "line 4", "has no label")
    refused(folder, good + ",x\n", "VIT-311", "line 4", "no path")
    refused(folder, "path,label,split\na/1.png,x,holdout\n", "VIT-311", "line 2", "'holdout'")
    refused(folder, good + "c/9.png,x\n", "VIT-312", "1 of 3 images do not exist: c/9.png (line 4)")
    refused(folder, good + "./a/1.png,y\n", "VIT-313", "a/1.png (lines 2 and 4)")
    refused(folder, "path,label\na/1.png,x\n", "VIT-304", "only one class: x")
    refused(folder, "path,label,split\na/1.png,x,val\n", "VIT-307", "no rows of the split train")
    refused(folder, 'path,label\n"a/1.png,x\n', "VIT-310", "line")
    refused(
        folder,
        "path,label,split\na/1.png,x,train\na/2.png,y,train\nb/3.png,z,val\n",
        "VIT-307",
        "line 4: the val split has classes that train has not: z",
    )


def test_text_that_is_no_utf_8(folder: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8 text") as caught:
        opened(folder, "path,label\na/1.png,caf\u00e9\n", "latin-1")
    assert caught.value.code == "VIT-310"


def test_images_outside_the_folder_are_refused(folder: Path) -> None:
    table = folder / "a"
    (folder / "a" / "out.png").symlink_to(folder / "b" / "3.png")
    (folder / "a" / "in.png").symlink_to("1.png")
    for line in ["../b/3.png", str(folder / "b" / "3.png"), "out.png", "/etc/passwd"]:
        refused(table, f"path,label\n1.png,x\n{line},y\n", "VIT-309", "outside its folder")
    splits = opened(table, f"path,label\n1.png,x\nin.png,y\n{table / '2.png'},x\n")
    assert [splits.train.source_id(k) for k in range(3)] == ["1.png", "2.png", "in.png"]


def test_missing_files_are_listed_at_most_ten(folder: Path) -> None:
    lines = "".join(f"m{k}.png,x\n" for k in range(30))
    refused(folder, f"path,label\n{lines}", "VIT-312", "30 of 30", "m9.png", "(30 in all)")


def test_held_out_from_a_table(folder: Path) -> None:
    for k in range(40):
        (folder / f"n{k}.png").write_bytes(PNG + bytes([k]))  # equal ones are held out together
    text = "path,label\n" + "".join(f"n{k}.png,{'xy'[k % 2]}\n" for k in range(40))
    splits = opened(folder, text, val_fraction=0.25, test_fraction=0.5)
    assert [len(source) for source in splits.parts().values()] == [15, 5, 20]
    turned = "path,label\n" + "".join(reversed(text.splitlines(keepends=True)[1:]))
    again = opened(folder, turned, val_fraction=0.25, test_fraction=0.5)
    for part, source in splits.parts().items():
        ids = [source.source_id(k) for k in range(len(source))]
        other = again.parts()[part]
        assert ids == [other.source_id(k) for k in range(len(other))]
