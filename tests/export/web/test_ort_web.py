"""The files of onnxruntime-web: pinned, whatever they come from, and fetched only when asked."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from vitrail.checkpoints.hub.download import DownloadRequest, check_address
from vitrail.errors import EnvironmentFault
from vitrail.export.web import ort_web
from vitrail.export.web.ort_web import ADDRESS, SCRIPT, WASM, ort_web_files

SMALL = {SCRIPT: b"export const small = 1;\n", WASM: b"\0asm\1\0\0\0"}


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as package:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small package in the place of the pinned one."""
    path = tmp_path / "onnxruntime-web.tgz"
    path.write_bytes(packed(SMALL))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(ort_web, "PACKAGE_SHA256", sha256)
    pinned = {n: (len(c), hashlib.sha256(c).hexdigest()) for n, c in SMALL.items()}
    monkeypatch.setattr(ort_web, "FILES", pinned)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


def unpacked(folder: Path, content: bytes = SMALL[WASM]) -> None:
    folder.mkdir(parents=True)
    (folder / SCRIPT).write_bytes(SMALL[SCRIPT])
    (folder / WASM).write_bytes(content)


def test_from_the_package(package: Path) -> None:
    assert ort_web_files(package) == SMALL


@pytest.mark.parametrize("place", ["", "dist", "node_modules/onnxruntime-web/dist"])
def test_from_a_folder(package: Path, tmp_path: Path, place: str) -> None:
    unpacked(tmp_path / "here" / place)
    assert ort_web_files(tmp_path / "here") == SMALL


def test_nothing_is_fetched_unless_asked_for(package: Path) -> None:
    """No socket is opened (pytest-socket would fail the test); the ways out are named."""
    with pytest.raises(EnvironmentFault) as found:
        ort_web_files(None)
    assert found.value.code == "VIT-528"
    assert "--download" in str(found.value.hint)
    assert "npm pack onnxruntime-web@1.30.0" in str(found.value.hint)


def test_fetched_when_asked_for_and_then_kept(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[DownloadRequest] = []

    def download(wanted: DownloadRequest, target: Path, *, progress: object) -> Path:
        asked.append(wanted)
        target.parent.mkdir(parents=True)
        target.write_bytes(package.read_bytes())
        return target

    monkeypatch.setattr(ort_web, "download", download)
    assert ort_web_files(None, fetch=True) == SMALL
    assert [one.address for one in asked] == [ADDRESS]
    assert asked[0].sha256 == ort_web.PACKAGE_SHA256
    monkeypatch.setattr(ort_web, "download", lambda wanted, target, **other: target)
    assert ort_web_files(None) == SMALL


def test_the_address_is_one_that_may_be_asked() -> None:
    check_address(ADDRESS)


@pytest.mark.parametrize("what", ["other version", "text", "missing", "other wasm", "no wasm"])
def test_anything_else_is_refused(package: Path, tmp_path: Path, what: str) -> None:
    given = tmp_path / "given"
    if what == "other version":
        given.write_bytes(packed(SMALL | {SCRIPT: b"export const small = 2;\n"}))
    elif what == "text":
        given.write_text("hello")
    elif what == "other wasm":
        unpacked(given, b"\0asm\2\0\0\0")
    elif what == "no wasm":
        given.mkdir()
    with pytest.raises(EnvironmentFault) as found:
        ort_web_files(given)
    assert found.value.code == "VIT-528"
    assert "onnxruntime-web 1.30.0" in found.value.message
