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
from vitrail.cli.verbs import doctor
from vitrail.errors import EnvironmentFault, install_command

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


FOR_PEOPLE = {"studies", "hub", "export", "onnx", "openvino", "serve", "stores", "tune", "ray"}
FOR_PEOPLE |= {"tensorboard", "mlflow", "wandb"}
TOOLS = {
    "test",
    "check",
    "bench",
    "parity",
    "docs",
    "browser",
}  # extras of those who work on vitrail


def plain_name(requirement: str) -> str:
    """`huggingface-hub` of "huggingface_hub>=2.0,<3", as package indices compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def published() -> set[str]:
    """Names that were installed from an index, each at an exact version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {plain_name(line) for line in lines if "==" in line}


def test_everything_that_is_required_is_published(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    assert FOR_PEOPLE <= set(extras)
    for name in FOR_PEOPLE:
        words = install_command(name).replace("'", "").split()
        assert words[:2] == ["pip", "install"]
        assert {plain_name(one) for one in words[2:]} == {plain_name(one) for one in extras[name]}
    needed = [*project["project"]["dependencies"], *(one for own in extras.values() for one in own)]
    assert {plain_name(one) for one in needed} <= published()


def test_no_text_names_a_package_that_is_not_published() -> None:
    """`pip install NAME` of messages and documents; vitrail itself is on no index yet."""
    found = set()
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        if path.name != "decisions.md":
            text = path.read_text(encoding="utf-8")
            for words in re.findall(r"pip install ([^\n`;(]+)", text):
                found |= {one for one in re.findall(r"[\w{<.\[\]-]+", words) if one[:1] != "-"}
    names = {plain_name(one) for one in found if re.match(r"[a-zA-Z]\w", one)}
    assert {"torch"} <= names
    assert names & {"vitrail", "sklearn", "pil", "cv2"} == set()


def test_extras_are_told_in_readme_and_by_doctor(project: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("| extra | for |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z]+)`(?=[,| ]*(?:`|\|))", table)) >= FOR_PEOPLE
    extras = set(project["project"]["optional-dependencies"]) - TOOLS
    assert set(doctor.EXTRAS) == FOR_PEOPLE == extras
    lines = doctor.extra_lines({"hub": [], "serve": ["uvicorn"], "test": ["pytest"]})
    assert lines[0].split() == ["extras", "hub"]
    assert lines[1].endswith(install_command("serve"))
    assert len(lines) == 2


def test_a_plain_install_brings_what_the_main_verbs_import() -> None:
    """train, eval, report, compare and explain, with every package of the extras out of reach."""
    absent = ["pyarrow", "ray", "onnx", "onnxruntime", "openvino", "starlette", "uvicorn"]
    absent += ["huggingface_hub", "matplotlib", "onnxscript"]
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({absent})\n"
        "from vitrail.cli.main import main\n"
        "for verb in ('train', 'eval', 'report', 'compare', 'explain', 'predict', 'data'):\n"
        "    assert main([verb, '--help']) == 0\n"
        "import vitrail, vitrail.studies.publish, vitrail.studies.run, vitrail.classifier\n"
        "import vitrail.training.loop, vitrail.studies.results.study_page, vitrail.report\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
