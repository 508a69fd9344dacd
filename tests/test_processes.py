"""Every place that starts a process, by name, and that none of them imports from the working
directory.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vitrail"
# What starts a process: of `os` these names, of the other modules anything.
OS_CALLS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
OS_PREFIXES = ("exec", "spawn")
MODULES = {"subprocess", "multiprocessing", "pty", "ray"}
CLASSES = {"ProcessPoolExecutor", "DataLoader", "create_subprocess_exec", "create_subprocess_shell"}
PLACES = {  # file: how its processes leave the working directory out
    "system/pickle_process.py": "-I -S, the file by its whole path, no environment",
    "studies/engine/processes.py": "child_process.python_command",
    "studies/engine/timing.py": "child_process.python_command",
    "studies/engine/ray_engine.py": "ray is told of no working directory",
    "system/process_group.py": "its caller: training/ranks/launch.py, child_process.python_command",
    "system/background.py": "its callers: training/self_test.py, api/serving.py, python_command",
    "serve/decoders.py": "forkserver or spawn, under child_process.safe_children",
    "data/loading/crew.py": "waits for those of data/loading/worker_process.py",
    "data/loading/worker_process.py": "fork on Linux; elsewhere child_process.safe_children",
}


def starters(path: Path) -> list[str]:
    """What in a module starts processes, or may."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            names = {one.name for one in node.names}
            if module[0] in MODULES or "multiprocessing" in module or names & CLASSES:
                found.append(f"{node.module}: {sorted(names)}")
            if module[0] == "os" and any(is_os_starter(name) for name in names):
                found.append(f"os: {sorted(names)}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and is_os_starter(node.attr):
                found.append(f"os.{node.attr}")
    return found


def is_os_starter(name: str) -> bool:
    return name in OS_CALLS or name.startswith(OS_PREFIXES)


@pytest.mark.promise("M7")
def test_every_place_that_starts_a_process_is_known() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if starters(path)
    }
    assert found == set(PLACES)


@pytest.mark.promise("M7")
def test_the_fence_sees_every_way_to_start_a_process(tmp_path: Path) -> None:
    ways = (
        "import subprocess",
        "import os\nos.system('x')",
        "from os import execv",
        "import multiprocessing.pool",
        "from torch.multiprocessing import spawn",
        "from concurrent.futures import ProcessPoolExecutor",
        "import pty",
        "import ray",
        "def f():\n    import os\n    os.posix_spawn('x', [], {})",
        "from torch.utils.data import DataLoader",
        "import os\nos.fork()",
    )
    for way in ways:
        (tmp_path / "module.py").write_text(way)
        assert starters(tmp_path / "module.py"), way
    (tmp_path / "module.py").write_text("import os\nos.open('x', os.O_RDONLY)")
    assert not starters(tmp_path / "module.py")


@pytest.mark.promise("M7")
def test_no_command_line_runs_python_without_leaving_the_working_directory_out() -> None:
    """A list that begins with sys.executable has -P or -I next."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = [ast.unparse(one) for one in getattr(node, "elts", [])]
            if words and words[0] == "sys.executable" and words[1] not in ("'-P'", "'-I'"):
                wrong.append(f"{path.name}:{node.lineno}")  # type: ignore[attr-defined]
    assert not wrong


TRAPS = ("json", "sitecustomize", "usercustomize", "torch", "numpy", "encodings", "vitrail/studies")


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose modules leave a file RAN-NAME beside it when they are imported."""
    place = tmp_path / "downloaded"
    (place / "vitrail" / "studies").mkdir(parents=True)
    for name in TRAPS:
        file = place / f"{name}.py" if "/" not in name else place / name / "__init__.py"
        mark = tmp_path / f"RAN-{name.replace('/', '-')}"
        file.write_text(f"open({str(mark)!r}, 'w').close()\n")
    (place / "vitrail" / "__init__.py").write_text(f"open({str(tmp_path / 'RAN-v')!r}, 'w')\n")
    monkeypatch.chdir(place)
    return tmp_path


@pytest.mark.promise("M7")
def test_a_process_of_a_study_imports_nothing_of_the_working_directory(trapped: Path) -> None:
    from vitrail.system.child_process import python_command

    subprocess.run(
        python_command("vitrail.studies.engine.worker"), input=b"", timeout=100, check=False
    )
    assert not list(trapped.glob("RAN-*"))


@pytest.mark.promise("M7")
def test_processes_that_libraries_start_leave_it_out_too(trapped: Path) -> None:
    from vitrail.system.child_process import SAFE_PATH, safe_children

    before = os.environ.get(SAFE_PATH)
    with safe_children():
        subprocess.run([sys.executable, "-c", "import json"], check=True)
    assert not list(trapped.glob("RAN-*"))
    assert os.environ.get(SAFE_PATH) == before


@pytest.mark.promise("M7")
def test_python_m_vitrail_imports_nothing_of_the_working_directory(trapped: Path) -> None:
    """But for a folder `vitrail` there, which Python takes before a line of ours is read."""
    (trapped / "downloaded" / "vitrail").rename(trapped / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-m", "vitrail", "models", "vit_b16", "--json"],
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # encodings and sitecustomize are loaded before the working directory is on the path
    assert not list(trapped.glob("RAN-*"))
