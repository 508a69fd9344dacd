"""The source archive and the wheel: built, installed into an empty environment, and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import vitrail
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
PACKAGE = ROOT / "vitrail"


def call(*command: object, folder: Path) -> str:
    """What a command prints; fails with its errors where it fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with archive and wheel, the latter built from the former."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    return folder


def interpreters() -> dict[str, Path]:
    """Other versions of Python on this machine that Vitrail supports: on the path, or of pyenv."""
    supported = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = [*Path.home().glob(".pyenv/versions/*/bin"), *map(Path, os.get_exec_path())]
    found: dict[str, Path] = {}
    for name in supported:
        for place in places:
            if name != ours and "shims" not in place.parts and (place / f"python{name}").is_file():
                found.setdefault(name, place / f"python{name}")
    return found


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", folder, folder=folder)
    (wheel,) = built.glob("*.whl")
    call(folder / "bin" / "pip", "install", "--no-deps", "--no-index", wheel, folder=folder)
    return folder


def test_archive_and_wheel_hold_the_package_and_its_licence(built: Path) -> None:
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert [
        name for name in ("LICENSE", "NOTICE") if not any(n.endswith(f"/{name}") for n in names)
    ] == []
    with tarfile.open(archive) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    assert expected | {"LICENSE", "NOTICE", "CHANGELOG.md", "CITATION.cff"} <= held
    assert [name for name in held if name.startswith("tests")] == []


def test_the_command_starts_without_any_dependency(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "vitrail"
    assert call(command, "--version", folder=tmp_path) == f"vitrail {vitrail.__version__}\n"
    assert "Usage: vitrail" in call(command, "--help", folder=tmp_path)


@pytest.mark.parametrize("name", ["3.12", "3.13", "3.14"])
def test_the_command_starts_by_other_versions_of_python(
    name: str, built: Path, tmp_path: Path
) -> None:
    """Without any dependency: the package is read by that version, and says what it can do."""
    python = interpreters().get(name)
    if python is None:
        pytest.skip(f"Python {name} is not on this machine")
    call(python, "-m", "venv", tmp_path / "own", folder=tmp_path)
    (wheel,) = built.glob("*.whl")
    pip = tmp_path / "own" / "bin" / "pip"
    call(pip, "install", "--no-deps", "--no-index", wheel, folder=tmp_path)
    command = tmp_path / "own" / "bin" / "vitrail"
    assert call(command, "--version", folder=tmp_path) == f"vitrail {vitrail.__version__}\n"
    assert "Usage: vitrail" in call(command, "--help", folder=tmp_path)
    everything = tmp_path / "own" / "lib" / f"python{name}" / "site-packages" / "vitrail"
    compiled = "import compileall, sys; sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1))"
    call(
        tmp_path / "own" / "bin" / "python",
        "-W",
        "error",
        "-c",
        compiled,
        everything,
        folder=tmp_path,
    )


def test_the_installed_package_trains_and_reports(environment: Path, tmp_path: Path) -> None:
    """The dependencies are those of this environment, Vitrail is the wheel's."""
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = "import vitrail; print(vitrail.__file__)"
    home = call(environment / "bin" / "python", "-P", "-c", where, folder=tmp_path)
    assert Path(home.strip()).is_relative_to(environment)
    command = environment / "bin" / "vitrail"
    tiny = [
        "--model",
        "vit_digits",
        "--steps",
        "2",
        "--threads",
        "1",
        "--residual-baseline",
        "false",
    ]
    call(command, "train", "builtin:digits", *tiny, "--name", "tiny", folder=tmp_path)
    call(command, "report", "runs/tiny", folder=tmp_path)
    assert "<style" in (tmp_path / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
