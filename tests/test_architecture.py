"""docs/architecture.md, as a test: the tree of folders, and the order in which they import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vitrail"
PAGE = ROOT / "docs/architecture.md"
MOST_FILES = 20  # of a folder, __init__.py apart
FENCES = {  # a library and the only rooms that may name it
    "pickle": {"system"},  # in one file only, see below
    "subprocess": {"system", "studies"},
    "rich": {"cli"},
    "cyclopts": {"cli"},
    "simplejpeg": {"data"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "pyarrow": {"studies", "data"},
    "fsspec": {"data"},
    "ray": {"studies"},
    "optuna": {"studies"},
    "tensorboard": {"trackers"},
    "mlflow": {"trackers"},
    "wandb": {"trackers"},
    "starlette": {"serve", "cli"},  # the verb only asks whether they are there
    "uvicorn": {"serve", "cli"},
    "scipy": {"evaluation", "studies"},
    "onnx": {"export"},
    "onnxscript": {"export"},
    "onnxruntime": {"export", "runtime"},
    "openvino": {"runtime"},
}
FORBIDDEN = {"torchvision", "timm", "matplotlib", "yaml", "requests", "urllib", "socket", "http"}
CONNECTIONS = {"urllib", "http"}  # allowed in the one file that downloads
LISTENERS = ("serve/listening.py", "serve/server.py")  # what opens a socket, to listen
PAGE_SERVER = "serve/live_page.py"  # answers on loopback with the standard library's http.server
DOWNLOADER = "checkpoints/hub/download.py"


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def home(path: Path) -> str:
    """Room, or file at the root, that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def place(module: str) -> str:
    """Folder of a module `data/sources/split`; of a module of the root its own name."""
    return module.rpartition("/")[0] or module


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def edges() -> list[tuple[str, str, int]]:
    """(module, module that it imports, line), also inside functions and for types only."""
    names = {str(path.relative_to(PACKAGE).with_suffix("")) for path in modules()}
    found = []
    for path in modules():
        here = str(path.relative_to(PACKAGE).with_suffix(""))
        if here.endswith("__init__"):
            continue  # the public names, loaded when first used
        for name, line in imports(path):
            parts = name.split(".")[1:]
            for module in ("/".join(parts), "/".join(parts[:-1])):
                if name.startswith("vitrail.") and module in names and module != here:
                    found.append((here, module, line))
                    break
    return found


def block(heading: str) -> list[str]:
    """Lines of the first indented block behind a heading of the page."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    lines = text.split("\n## ", 1)[0].splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def rows() -> list[set[str]]:
    return [set(line.split(", ")) for line in block("Rows")]


def places() -> set[str]:
    """Folders with a module of their own, and the modules of the root."""
    files = [path for path in modules() if path.name != "__init__.py"]
    return {place(str(path.relative_to(PACKAGE).with_suffix(""))) for path in files}


def test_every_module_has_a_row() -> None:
    named = [name for names in rows() for name in names]
    assert sorted(named) == sorted(set(named)), "a place has one row"
    assert set(named) == places()


def test_imports_go_downwards() -> None:
    number = {name: n for n, names in enumerate(rows()) for name in names}
    wrong = [
        f"vitrail/{one}.py:{line} {place(one)} -> {place(other)}"
        for one, other, line in edges()
        if place(one) != place(other) and number[place(other)] <= number[place(one)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also inside functions and under TYPE_CHECKING."""
    left: dict[str, set[str]] = {}
    for one, other, _ in edges():
        left.setdefault(one, set()).add(other)
    while ends := [name for name, found in left.items() if not found & set(left)]:
        for name in ends:
            del left[name]
    assert not left, {name: sorted(found & set(left)) for name, found in left.items()}


def test_folders_stay_small_and_two_levels_deep() -> None:
    counts = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {str(folder): n for folder, n in counts.items() if n > MOST_FILES} == {}
    assert max(len(path.relative_to(PACKAGE).parts) for path in modules()) <= 3


def test_the_tree_on_the_page_is_the_tree() -> None:
    """A folder a line, with the first sentence of its `__init__.py`."""
    found = []
    for path in modules():
        folder = path.relative_to(PACKAGE).parent
        if path.name == "__init__.py" and folder != Path("."):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found.append((f"{folder}/", text.splitlines()[0]))
    assert [tuple(re.split(r" {2,}", line)) for line in block("Tree")] == sorted(found)


def test_libraries_stay_in_their_places() -> None:
    wrong = []
    for path in modules():
        for name, line in imports(path):
            library = name.split(".")[0]
            if library in CONNECTIONS and path == PACKAGE / DOWNLOADER:
                continue
            if library == "http" and path == PACKAGE / PAGE_SERVER:
                continue
            if library == "socket" and path in [PACKAGE / name for name in LISTENERS]:
                continue
            if library in FORBIDDEN or home(path) not in FENCES.get(library, {home(path)}):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {library}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.promise("M9")
def test_what_is_unpacked_is_unpacked_by_one_rule() -> None:
    """Whoever names a library that unpacks either is `unpacking`, asks it, or only packs."""
    asks = {
        "data/sources/arrays.py",
        "model_folder/bundle.py",
        "checkpoints/formats/zip_directory.py",
    }
    only_packs = {"checkpoints/formats/tensor_writing.py"}
    checksum = {"training/lora.py", "data/shards/index.py", "export/web/site_record.py"}
    pinned = {"export/web/ort_web.py"}  # one package, unpacked once its sha256 is the known one
    images = {"data/images/tiff_structure.py"}  # throws away what comes out, in pieces
    found = set()
    for path in modules():
        for name, _ in imports(path):
            if name.split(".")[0] in ("gzip", "bz2", "lzma", "zipfile", "tarfile", "zlib"):
                found.add(str(path.relative_to(PACKAGE)))
    assert found == asks | only_packs | checksum | pinned | images | {"unpacking.py"}
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
    assert found == {"system/pickle_sandbox.py"}
    users = {
        path.name for path in modules() if any(n.startswith("pickle") for n, _ in imports(path))
    }
    assert users == {"pickle_sandbox.py"}


WRITERS = {  # the only places that write files, and why they do not use files.py
    "files.py": "whole files",
    "runs/filesystem.py": "checkpoints and metrics, with a protocol of their own",
    "runs/lock.py": "the lock",
    "training/storage/run_dir.py": "run.json and its like, and log.txt, which grows",
    "folder.py": "folders that somebody else may have made",
    "data/shards/cached_store.py": "shards of an object store, checked before they get their names",
    "data/shards/columns.py": "into the folder that its caller writes whole",
    "studies/engine/store.py": "rows.jsonl, which grows",
    "studies/engine/processes.py": "log.txt, which grows",
    "checkpoints/hub/download.py": "downloads, which go on where they were cut",
    "cli/display/streams.py": "the null device",
    "system/background.py": "what processes print, which grows, in a temporary folder",
}
IN_THEIR_BLOCKS = {  # write to what a block of files.py, or a temporary folder, lends them
    "batch_prediction/part_store.py",
    "batch_prediction/records.py",
    "export/export_model.py",
    "model_folder/bundle.py",
    "checkpoints/formats/tensor_writing.py",
    "data/indexing/shard_making.py",
    "cli/verbs/data.py",
    "cli/display/data_findings.py",
    "explain/explanation.py",
    "explain/inspect/inspection_figures.py",
}


@pytest.mark.promise("R3")
def test_files_are_written_in_one_place() -> None:
    """So that a full disk leaves nothing half-written under a name, wherever it happens."""
    words = re.compile(
        r"""open\([^)]*["'][rb]*[wxa+][b+]*["']|os\.open\(.*O_(?:WRONLY|RDWR|CREAT)"""
        r"|(?<!store\.)write_text\(|write_bytes\(|os\.replace|os\.rename\(|csv\.writer|DictWriter|to_csv\("
        r"|savefig\(|np\.save|NamedTemporaryFile|copyfile|shutil\.(?:copy|move)"
    )
    found: dict[str, list[str]] = {}
    for path in modules():
        lines = [
            line for line in path.read_text(encoding="utf-8").splitlines() if words.search(line)
        ]
        if lines:
            found[path.relative_to(PACKAGE).as_posix()] = lines
    assert set(found) <= set(WRITERS) | IN_THEIR_BLOCKS, found
    for name in IN_THEIR_BLOCKS:
        assert re.search(r"with whole_\w+\(", (PACKAGE / name).read_text(encoding="utf-8")), name


@pytest.mark.promise("M1")
def test_the_process_that_reads_pickles_imports_the_standard_library_only() -> None:
    names = {name.split(".")[0] for name, _ in imports(PACKAGE / "system/pickle_sandbox.py")}
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
        "import sys; import vitrail.config, vitrail.models.vit.config, vitrail.models.cost, "
        "vitrail.recipes.registry, vitrail.data.sources.open_data, vitrail.data.check.check_data; "
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
