"""The rows of docs/architecture.md, as a test: a module imports only from rows below its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vitrail"
# From the top; a module may import from its own folder and from every later row.
ROWS = [
    {"demo", "__main__"},
    {"cli"},
    {"studies"},
    {"training"},
    {"classifier"},
    {"checkpoints"},
    {"run_model"},
    {"bundle", "model_card"},
    {"evaluation"},
    {"explain"},
    {"model_record"},
    {"models", "recipes"},
    {"data"},
    {"runs"},
    {"keyed_random", "device", "config", "restricted_pickle", "child_process"},
    {"documents", "folder"},
    {"containers", "files", "unpacking", "interrupts"},
    {"errors"},
    {"spelling"},
]
FENCES = {  # a library and the only places that may name it
    "pickle": {"restricted_pickle", "checkpoints"},  # there in pickle_child.py only, see below
    "subprocess": {"checkpoints", "studies"},
    "rich": {"cli"},
    "cyclopts": {"cli"},
    "simplejpeg": {"data"},
    "matplotlib": {"studies"},
    "pyarrow": {"studies"},
    "ray": {"studies"},
}
FORBIDDEN = {"torchvision", "timm", "yaml", "requests", "urllib", "socket", "http"}
CONNECTIONS = {"urllib", "http"}  # allowed in the one file that downloads
DOWNLOADER = "checkpoints/download.py"


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def home(path: Path) -> str:
    """Folder, or file at the root, that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def row(name: str) -> int:
    return next(number for number, names in enumerate(ROWS) if name in names)


def test_every_module_has_a_row() -> None:
    known = set().union(*ROWS) | {"__init__"}
    assert {home(path) for path in modules()} <= known


def test_imports_go_downwards() -> None:
    wrong = []
    for path in modules():
        place = home(path)
        if place == "__init__":
            continue  # the public names, loaded when first used
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] != "vitrail" or len(parts) < 2 or parts[1] in ("__version__", place):
                continue
            if not (PACKAGE / parts[1]).is_dir() and not (PACKAGE / f"{parts[1]}.py").is_file():
                continue  # a public name of the root
            if row(parts[1]) <= row(place):
                wrong.append(f"{path.relative_to(ROOT)}:{line} {place} -> {parts[1]}")
    assert not wrong, "\n".join(wrong)


def test_libraries_stay_in_their_places() -> None:
    wrong = []
    for path in modules():
        for name, line in imports(path):
            library = name.split(".")[0]
            if library in CONNECTIONS and path == PACKAGE / DOWNLOADER:
                continue
            if library in FORBIDDEN or home(path) not in FENCES.get(library, {home(path)}):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {library}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.promise("M9")
def test_what_is_unpacked_is_unpacked_by_one_rule() -> None:
    """Whoever names a library that unpacks either is `unpacking`, asks it, or only packs."""
    asks = {"data/arrays.py", "bundle.py", "checkpoints/zip_directory.py"}
    only_packs = {"checkpoints/tensor_writing.py"}
    checksum = {"training/lora.py"}
    images = {"data/tiff_structure.py"}  # throws away what comes out, in pieces
    found = set()
    for path in modules():
        for name, _ in imports(path):
            if name.split(".")[0] in ("gzip", "bz2", "lzma", "zipfile", "tarfile", "zlib"):
                found.add(str(path.relative_to(PACKAGE)))
    assert found == asks | only_packs | checksum | images | {"unpacking.py"}
    for name in asks:
        text = (PACKAGE / name).read_text(encoding="utf-8")
        assert "vitrail.unpacking" in text, name
        assert not re.search(r"ZipFile\(|GzipFile\(|gzip\.open|lzma\.open|bz2\.open", text), name


@pytest.mark.promise("M4")
def test_dangerous_words_occur_in_one_file_only() -> None:
    words = re.compile(
        r"\bpickle\.|torch\.load\(|\beval\(|\bexec\(|yaml\.load|extractall|shell=True"
        r"|requests\.get|urlopen"
    )
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        for line in path.read_text(encoding="utf-8").splitlines()
        if words.search(line.replace("model.eval(", "").replace(".eval()", ""))
    }
    assert found <= {"restricted_pickle.py", "checkpoints/pickle_child.py"}
    users = {
        path.name for path in modules() if any(n.startswith("pickle") for n, _ in imports(path))
    }
    assert users <= {"restricted_pickle.py", "pickle_child.py"}


WRITERS = {  # the only places that write files, and why they do not use files.py
    "files.py": "whole files",
    "runs/filesystem.py": "checkpoints and metrics, with a protocol of their own",
    "runs/lock.py": "the lock",
    "training/run_dir.py": "run.json and its like, and log.txt, which grows",
    "folder.py": "folders that somebody else may have made",
    "studies/store.py": "rows.jsonl, which grows",
    "studies/engine.py": "log.txt, which grows",
    "checkpoints/download.py": "downloads, which go on where they were cut",
    "cli/streams.py": "the null device",
}
IN_THEIR_BLOCKS = {  # write to what a block of files.py, or a temporary folder, lends them
    "bundle.py",
    "checkpoints/tensor_writing.py",
    "cli/data.py",
    "cli/data_findings.py",
    "explain/explanation.py",
    "explain/figures.py",
}


@pytest.mark.promise("R3")
def test_files_are_written_in_one_place() -> None:
    """So that a full disk leaves nothing half-written under a name, wherever it happens."""
    words = re.compile(
        r"""open\([^)]*["'][rb]*[wxa+][b+]*["']|os\.open\(.*O_(?:WRONLY|RDWR|CREAT)"""
        r"|(?<!store\.)write_text\(|write_bytes\(|os\.replace|os\.rename\(|csv\.writer|DictWriter|to_csv\("
        r"|savefig\((?!place)|np\.save|NamedTemporaryFile|copyfile|shutil\.(?:copy|move)"
    )
    found: dict[str, list[str]] = {}
    for path in modules():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines()
                 if words.search(line)]  # fmt: skip
        if lines:
            found[path.relative_to(PACKAGE).as_posix()] = lines
    assert set(found) <= set(WRITERS) | IN_THEIR_BLOCKS, found
    for name in IN_THEIR_BLOCKS:
        assert re.search(r"with whole_\w+\(", (PACKAGE / name).read_text(encoding="utf-8")), name


@pytest.mark.promise("M1")
def test_the_process_that_reads_pickles_imports_the_standard_library_only() -> None:
    names = {name.split(".")[0] for name, _ in imports(PACKAGE / "checkpoints/pickle_child.py")}
    assert names - {"__future__"} <= set(sys.stdlib_module_names)


def test_no_torchvision_or_timm_anywhere() -> None:
    for folder in ("tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {name.split(".")[0] for name, _ in imports(path)} & {
                "torchvision",
                "timm",
            }, path


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, vitrail; heavy = ('torch', 'numpy', 'pydantic', 'PIL', 'rich'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
    assert answer.stderr == ""


def test_configurations_are_checked_without_torch() -> None:
    program = (
        "import sys; import vitrail.config, vitrail.models.configs, vitrail.models.cost, "
        "vitrail.recipes.catalogue, vitrail.data.sources, vitrail.data.check; "
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_public_names_resolve() -> None:
    import vitrail

    assert list(vitrail.__all__) == sorted(vitrail.__all__)
    for name in vitrail.__all__:
        assert getattr(vitrail, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        vitrail.nothing  # noqa: B018
