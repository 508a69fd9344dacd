"""What is shipped, and what is promised in docs/reliability.md with the tests that carry its id."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import vitrail
from vitrail.errors import EnvironmentFault

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vitrail"
MARK = re.compile(r"@pytest\.mark\.promise\(([^)]+)\)")
ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+?) \| (kept|partly|not yet) \| (.+?) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_written_twice_and_equal(project: dict[str, Any]) -> None:
    assert vitrail.__version__ == project["project"]["version"]


def test_every_file_of_the_package_is_shipped(project: dict[str, Any]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["vitrail"]
    files = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert {"py.typed", "data/sources/digits.npz", "report/page.css", "report/sort.js"} <= files
    assert {name for name in files if not any(fnmatch(name, p) for p in patterns)} == set()
    assert [p for p in patterns if not any(fnmatch(name, p) for name in files)] == []


def test_every_folder_of_code_is_a_package_that_is_found(project: dict[str, Any]) -> None:
    include = project["tool"]["setuptools"]["packages"]["find"]["include"]
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), folder
        name = ".".join(folder.relative_to(ROOT).parts)
        assert any(fnmatch(name, pattern) for pattern in include)


def test_named_files_exist(project: dict[str, Any]) -> None:
    named = [project["project"]["readme"], *project["project"]["license-files"]]
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_each_promise_names_the_files_of_its_tests() -> None:
    marked: defaultdict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        marks = " ".join(MARK.findall(path.read_text(encoding="utf-8")))
        for promise in re.findall(r'"([^"]+)"', marks):
            marked[promise].add(path.relative_to(ROOT).as_posix())
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = ROW.findall(text)
    told = {promise: set(re.findall(r"`(tests/[^`]+)`", tests)) for promise, _, _, tests in rows}
    states = {promise: state for promise, _, state, _ in rows}
    assert len(told) == len(rows) == text.count("\n| ") - 1, "an id stands twice, or a row is torn"
    assert set(marked) <= set(told), "marks without a row"
    assert {promise: files - marked[promise] for promise, files in told.items() if files} == {
        promise: set() for promise, files in told.items() if files
    }, "files without the mark"
    assert not [one for one in marked if states[one] == "not yet"]


def test_another_system_is_refused_in_a_sentence() -> None:
    from vitrail.system.supported import require_posix

    require_posix("posix")
    with pytest.raises(EnvironmentFault, match="VIT-502.*Windows is not supported"):
        require_posix("nt")


@pytest.mark.parametrize("start", ["import vitrail; vitrail.train", "MAIN(['models'])"])
def test_every_way_in_asks_for_the_system(start: str) -> None:
    program = (
        "import vitrail.system.supported as system, vitrail.cli.main as cli\n"
        "def refuse(): raise SystemExit(77)\n"
        "system.require_posix = cli.require_posix = refuse\n"
        "MAIN = cli.main\n"
    )
    done = subprocess.run([sys.executable, "-c", program + start], timeout=100, check=False)
    assert done.returncode == 77


def test_the_ways_in_that_scripts_use_stay() -> None:
    program = (
        "from vitrail.data.decode import DecodeFault, decode, decode_size, read_bytes\n"
        "from vitrail.data.decode import read_picture\n"
        "import vitrail.data.sources.open_data\n"
        "from vitrail.data.sources import open_data\n"
        "print(len(open_data('builtin:digits').classes))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "10\n"
