"""Files are there whole under their names or not at all, whatever the disk refuses and when."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.full_disk import largest_file
from vitrail.errors import EnvironmentFault, UsageError
from vitrail.files import (
    cache_root,
    encoded,
    utf8_name,
    whole_file,
    whole_folder,
    write_csv,
    write_together,
    write_whole,
)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("replace", [True, False])
def test_a_full_disk_leaves_nothing(tmp_path: Path, replace: bool) -> None:
    if replace:
        (tmp_path / "a.csv").write_text("old")
    with largest_file(1000), pytest.raises(EnvironmentFault, match=r"a\.csv") as caught:
        write_whole(tmp_path / "a.csv", "x" * 1001, replace=replace)
    assert caught.value.code == "VIT-506"
    assert names(tmp_path) == (["a.csv"] if replace else [])
    if replace:
        assert (tmp_path / "a.csv").read_text() == "old"


def test_several_files_appear_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with largest_file(1000), pytest.raises(EnvironmentFault, match="/c "):
        write_together(tmp_path, {"a": "1", "b": "2", "c": "3" * 1001}, replace=True)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    write_together(tmp_path, {"a": "1", "b": "2"}, replace=True)
    assert names(tmp_path) == ["a", "b"]


def test_a_library_in_another_language_that_meets_a_full_disk(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(EnvironmentFault, match=r"m\.safetensors.*too large"):
        with whole_file(tmp_path / "m.safetensors") as place:
            save_file({"a": torch.zeros(1000)}, place)
    with largest_file(1000), pytest.raises(EnvironmentFault, match="too large"):
        with whole_folder(tmp_path / "m") as place:
            save_file({"a": torch.zeros(1000)}, place / "w")
    assert names(tmp_path) == []


def test_other_errors_pass_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as place:
        place.write_text(str(1 / 0))
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "b"):
        _ = 1 / 0
    assert names(tmp_path) == []


def test_what_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("a", "link"):
        with pytest.raises(UsageError, match="VIT-206"):
            write_whole(tmp_path / name, "x")
    with pytest.raises(UsageError, match="VIT-206"), whole_file(tmp_path / "late"):
        (tmp_path / "late").write_text("somebody else's")  # while ours was being written
    assert (tmp_path / "a").read_text() == "mine"
    assert (tmp_path / "late").read_text() == "somebody else's"
    assert names(tmp_path) == ["a", "late", "link"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    (tmp_path / "link").symlink_to("outside")
    write_whole(tmp_path / "link", "ours", replace=True)
    assert (tmp_path / "outside").read_text() == "theirs"
    assert (tmp_path / "link").read_text() == "ours"


def test_a_folder_that_cannot_be_exchanged_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "old").touch()
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name.startswith(".tmp-"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(EnvironmentFault, match="Input/output"):
        with whole_folder(tmp_path / "m", replace=True) as place:
            (place / "new").touch()
    assert names(tmp_path) == ["m", "m/old"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a") as place:
            save_file({"a": torch.zeros(1)}, place)
        with whole_folder(tmp_path / "b") as place:
            save_file({"a": torch.zeros(1)}, place / "c")
    finally:
        os.umask(old)
    for name in ("a", "b/c"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 251 + ".csv"), "x")
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("fails", ["fsync", "replace", "link", "open"])
def test_every_call_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, fails, refuses)
    if fails == "link":  # a file system without links: the name is given by a rename
        write_whole(tmp_path / "a", "x")
        assert names(tmp_path) == ["a"]
        return
    with pytest.raises(EnvironmentFault, match="/a cannot be written: Input/output error"):
        write_whole(tmp_path / "a", "x", replace=True)
    monkeypatch.undo()
    assert names(tmp_path) == []


def test_tables_have_names_that_are_no_text(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", ["path"], [["a\udcff,b"], [3]])
    assert table.read_bytes() == b'path\n"a\\xff,b"\n3\n'
    assert encoded(b"\xff") == b"\xff"


def test_where_files_are_kept_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_root() == Path("/c/vitrail")

    def nobody(_: int) -> None:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        with pytest.raises(EnvironmentFault, match="no home directory") as caught:
            cache_root()
        assert "XDG_CACHE_HOME" in caught.value.hint


def test_a_file_under_a_name_that_is_no_text_is_read_by_safetensors(tmp_path: Path) -> None:
    folder = tmp_path / "x\udcff"
    folder.mkdir()
    save_file({"a": torch.ones(3)}, folder / "w.safetensors")
    with utf8_name(folder / "w.safetensors") as readable:
        assert load_file(readable)["a"].tolist() == [1, 1, 1]
    with utf8_name(tmp_path / "plain") as readable:
        assert readable == str(tmp_path / "plain")
