"""Tar archives by their headers: every kind of them, and hostile ones (acceptance A20)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.class_folders import tar_of
from vitrail.data.shards import tar
from vitrail.data.shards.store import Descriptor

NAMES = ("a.jpg", "x/" * 30 + "b.jpg", "y" * 150 + ".jpg", "ö/c.jpg", "z/" * 100 + "long.jpg")
CONTENTS = (b"", b"1", b"x" * 512, b"y" * 513)


def found(path: Path) -> list[tar.Member]:
    file = Descriptor(str(path))
    return list(tar.members(file.number))


def refused(path: Path, word: str) -> None:
    with pytest.raises(tar.TarFault, match=word):
        found(path)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_the_standard_library(tmp_path: Path, kind: int) -> None:
    members = [(name, content) for name in NAMES for content in CONTENTS]
    members = [(f"{k}/{name}", content) for k, (name, content) in enumerate(members)]
    path = tar_of(tmp_path / "a.tar", members, kind)
    data = path.read_bytes()
    assert [(one.name, data[one.offset : one.offset + one.size]) for one in found(path)] == members


def test_our_headers_are_read_by_the_standard_library(tmp_path: Path) -> None:
    path = tmp_path / "ours.tar"
    parts = [tar.header_of(f"{n:09d}.jpg", n) + b"q" * n + tar.padding_of(n) for n in (0, 1, 700)]
    path.write_bytes(b"".join(parts) + tar.END)
    with tarfile.open(path) as archive:
        assert [(one.name, one.size) for one in archive] == [
            ("000000000.jpg", 0),
            ("000000001.jpg", 1),
            ("000000700.jpg", 700),
        ]
    assert [one.size for one in found(path)] == [0, 1, 700]


def special(path: Path, kind: bytes, name: str = "a.jpg", target: str = "/etc/passwd") -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (b"S", "sparse"),
        (b"Q", "unknown kind"),
    ],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes, word: str) -> None:
    refused(special(tmp_path / "a.tar", kind), word)


@pytest.mark.parametrize("name", ["../out.jpg", "a/../../out.jpg", "/etc/x.jpg", "a\\..\\b.jpg"])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, kind: int) -> None:
    refused(tar_of(tmp_path / "a.tar", [(name, b"x")], kind), "leads out")
    long = "q" * 200 + "/" + "../" * 9 + "x"
    refused(tar_of(tmp_path / "b.tar", [(long, b"x")], kind), "leads out")


def test_pax_records_that_lead_out_or_lie_are_refused(tmp_path: Path) -> None:
    for headers, word in (
        ({"path": "../x.jpg"}, "leads out"),
        ({"size": "99999999"}, "claims"),
        ({"GNU.sparse.name": "x"}, "sparse"),
        ({"comment": "x" * 2**17}, "record"),
    ):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            info = tarfile.TarInfo("a.jpg")
            info.size, info.pax_headers = 3, headers
            archive.addfile(info, io.BytesIO(b"abc"))
        refused(path, word)


def test_a_global_record_that_renames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"path": "x"}) as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    refused(path, "renames")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_archives_are_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tar_of(tmp_path / "a.tar", [("a.jpg", b"x")])
    path.write_bytes(pack(path.read_bytes()))
    refused(path, "packed with")


def changed(path: Path, change: Callable[[bytearray], object]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def resized(data: bytearray, size: bytes) -> None:
    """Another size in the first header, with the right checksum."""
    data[124:136] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])


def test_sizes_that_lie_damage_and_cuts_are_refused(tmp_path: Path) -> None:
    def fresh() -> Path:
        return tar_of(tmp_path / "a.tar", [("a.jpg", b"x" * 600), ("b.jpg", b"y")])

    refused(changed(fresh(), lambda data: resized(data, b"77777777777\0")), "claims")
    refused(changed(fresh(), lambda data: resized(data, b"\xff" * 12)), "tar archive|damaged")
    refused(changed(fresh(), lambda data: resized(data, b"\x80" + b"\xff" * 11)), "claims")
    refused(changed(fresh(), lambda data: data.__setitem__(0, 7)), "no tar archive")
    whole = fresh().read_bytes()
    for cut in (100, 512, 700, 1536, 2048, 2100):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        refused(tmp_path / "cut.tar", "cut off|claims|no tar")
    (tmp_path / "empty.tar").write_bytes(b"")
    refused(tmp_path / "empty.tar", "no tar archive")


def test_very_many_members_are_refused_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 20_000)
    header = tar.header_of("a", 0)
    (tmp_path / "a.tar").write_bytes(header * 40_000 + tar.END)
    began = time.process_time()
    refused(tmp_path / "a.tar", "20,000 members")
    assert time.process_time() - began < 5


@given(st.binary(max_size=60), st.integers(0, 3000))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_damage_gives_another_error(tmp_path: Path, noise: bytes, place: int) -> None:
    path = tar_of(tmp_path / "a.tar", [("x" * 120, b"x" * 600), ("b.jpg", b"y")])
    data = path.read_bytes()
    path.write_bytes(data[:place] + noise + data[place + len(noise) :])
    try:
        for one in found(path):
            assert 0 <= one.offset <= one.offset + one.size <= os.path.getsize(path)
    except tar.TarFault:
        pass
