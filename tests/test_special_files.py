"""Files that are no plain ones, beside the data or named by an option: a pipe never makes a command
wait, and no link of a folder leads out of it (M7).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.class_folders import picture, tar_of
from vitrail.checkpoints.origins.name_map import read_map
from vitrail.data.indexing.foreign import index_shards
from vitrail.data.indexing.shard_making import ShardOptions
from vitrail.data.sources.arrays import class_list
from vitrail.errors import DataError, VitrailError
from vitrail.evaluation.real_labels import read_real
from vitrail.export.web.ort_web import ort_web_files

PACKAGE = Path(__file__).parents[1] / "vitrail"
READING = re.compile(r"(?<![\w.])open\(|(?<!Image)(?<!archive)\.open\(\"r|\.read_(bytes|text)\(")
# Where the package reads a file without folder.py, and whose it is.
PLAIN = {
    "api/run_report.py": "found to be a file before",
    "api/serving.py": "what a process of ours prints",
    "batch_prediction/part_store.py": "written",
    "batch_prediction/predict_parts.py": "just written",
    "batch_prediction/records.py": "written",
    "checkpoints/catalogue/table.py": "of the package",
    "checkpoints/hub/download.py": "of the cache",
    "checkpoints/hub/hf_download.py": "of the cache",
    "checkpoints/hub/hf_upload.py": "in the list of what is sent, which holds plain files alone",
    "cli/display/streams.py": "devnull",
    "data/loading/worker_process.py": "of /proc",
    "data/shards/cached_store.py": "of the cache",
    "data/sources/cifar.py": "found to be a file before",
    "data/sources/digits.py": "of the package",
    "data/sources/table.py": "found to be a file before",
    "device.py": "of /proc and /sys",
    "export/card.py": "a text",
    "export/layout.py": "just written",
    "export/triton_layout.py": "just written",
    "folder.py": "the one place",
    "model_folder/bundle.py": "opened as a plain file before",
    "page/assets.py": "of the package",
    "report/frame.py": "of the package",
    "runs/lock.py": "of /proc",
    "serve/limits.py": "opened without waiting",
    "serve/listening.py": "found to be a file before",
    "studies/engine/timing.py": "of /proc",
    "studies/engine/worker.py": "devnull",
    "training/ranks/launch.py": "of a folder of our own",
    "training/self_test.py": "of runs that it has just made",
}


def link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "victim")


SPECIAL: dict[str, Callable[[Path], None]] = {"pipe": os.mkfifo, "link": link}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a shard of two labelled images, beside a file of somebody else."""
    (tmp_path / "victim").write_text("[[7]]\n[names]\n")
    members = []
    for number in range(2):
        members += [
            (f"{number}.png", picture(number, (9, 9, 9))),
            (f"{number}.cls", b"%d" % number),
        ]
    (tmp_path / "d").mkdir()
    tar_of(tmp_path / "d" / "train-000.tar", members)
    return tmp_path / "d"


@pytest.mark.promise("M7")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["_info.json", "train-000.json", "classes.txt"])
def test_what_lies_beside_shards(folder: Path, name: str, kind: str) -> None:
    SPECIAL[kind](folder / name)
    if name == "classes.txt" and kind == "pipe":
        assert class_list(str(folder)) == ()
        return
    with pytest.raises(DataError, match=f"a {kind}") as caught:
        index_shards(folder, folder.parent / "index", ShardOptions())
    assert name in str(caught.value)


@pytest.mark.promise("M7")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("read", [read_real, read_map, ort_web_files])
def test_a_pipe_in_the_place_of_a_file(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VitrailError, match="pipe"):
        read(tmp_path / "pipe")


@pytest.mark.promise("M7")
def test_every_other_place_that_reads_a_file_is_known() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(
            READING.search(line) and "fdopen" not in line and not line.lstrip().startswith("#")
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    }
    assert sorted(found) == sorted(PLAIN)
