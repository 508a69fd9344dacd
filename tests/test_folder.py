"""Files of a folder that somebody else may have made."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.errors import EnvironmentFault
from vitrail.folder import Folder, NotPlain, TooLarge, open_plain

pytestmark = [pytest.mark.promise("M7"), pytest.mark.timeout(20)]


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to(path.parent.parent / "victim"),
    "a link to nothing": lambda path: path.symlink_to(path.parent / "nothing"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": _socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "in").mkdir()
    return Folder(tmp_path / "in")


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_plain_file_is_refused_at_once(kind: str, folder: Folder) -> None:
    STRANGE[kind](folder.path / "a")
    for act in (
        lambda: folder.read("a", 100),
        lambda: folder.append("a", "more"),
        lambda: os.close(open_plain(folder.path / "a", os.O_WRONLY)),
        lambda: os.close(open_plain(folder.path / "a", os.O_RDWR | os.O_CREAT)),
    ):
        with pytest.raises(NotPlain) as error:
            act()
        assert "expected a plain file" in str(error.value)
    assert not folder.has("a")
    assert folder.lies("a")
    assert (folder.path.parent / "victim").read_text() == "precious"


@pytest.mark.parametrize("kind", [kind for kind in STRANGE if kind != "a folder"])
def test_a_new_file_takes_the_place_of_a_strange_one(kind: str, folder: Folder) -> None:
    STRANGE[kind](folder.path / "a")
    folder.write("a", b"new")
    assert folder.read("a", 100) == b"new"
    assert (folder.path.parent / "victim").read_text() == "precious"
    assert folder.names() == ["a"]


@pytest.mark.parametrize("kind", [kind for kind in STRANGE if kind != "a folder"])
def test_nothing_is_done_below_a_strange_folder(kind: str, folder: Folder) -> None:
    outside = folder.path.parent / "outside"
    outside.mkdir()
    (outside / "b").write_text("precious")
    if kind == "a link":
        (folder.path / "a").symlink_to(outside)
    else:
        STRANGE[kind](folder.path / "a")
    for act in (
        lambda: folder.read("a/b", 100),
        lambda: folder.write("a/b", b"new"),
        lambda: folder.append("a/b", "new"),
        lambda: folder.make("a/c"),
        lambda: folder.names("a"),
    ):
        with pytest.raises(NotPlain, match="expected a plain folder"):
            act()
    assert (outside / "b").read_text() == "precious"
    assert sorted(os.listdir(outside)) == ["b"]


def test_a_large_file_is_refused_and_a_missing_one_is_told(folder: Folder) -> None:
    (folder.path / "a").write_bytes(b"12345")
    with pytest.raises(TooLarge, match="5 bytes"):
        folder.read("a", 4)
    with pytest.raises(FileNotFoundError):
        folder.read("b", 4)
    with pytest.raises(FileNotFoundError):
        folder.read("c/b", 4)
    assert folder.names("c") == []


def test_the_folder_itself_may_be_named_by_a_link(folder: Folder) -> None:
    latest = folder.path.parent / "latest"
    latest.symlink_to(folder.path)
    Folder(latest).write("a", b"x")
    Folder(latest).append("a", "y")
    assert folder.read("a", 10) == b"xy"


def test_folders_are_made_on_the_way(folder: Folder) -> None:
    assert folder.make("eval/test") == folder.path / "eval" / "test"
    folder.write("eval/test/metrics.json", b"{}")
    assert folder.names("eval/test") == ["metrics.json"]


def test_a_write_that_fails_leaves_nothing(folder: Folder) -> None:
    folder.make("a")
    with pytest.raises(EnvironmentFault):
        folder.write("a", b"new")  # a folder lies there
    assert folder.names() == ["a"]
