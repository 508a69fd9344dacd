"""A downloaded folder, with everything in it that its maker could think of, used as data, as run,
as model and as working directory: nothing of it runs, nothing outside changes, nothing waits: no
command takes HANG_SECS longer than in the same folder before anybody laid hands on it. Which
verbs there are is asked of the registry, so that none is left out.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.cli.registry import VERBS, commands
from vitrail.training import loop

SMALL = "--model vit_digits --image-size 8 --batch-size 4 --precision float32 --steps 2 --workers 0"
MODULES = ("json", "sitecustomize", "usercustomize", "torch", "numpy", "site", "subprocess", "PIL")
# Words of a command in the hostile folder. {run}: a stopped run in it, {model}: a model folder,
# {onnx}: an export, {spoilt}: one whose files are links and pipes, {shards}: tar files.
COMMANDS = [
    "help train",
    "completion bash",
    f"train photos {SMALL} --nproc 2 --out ../out3",
    f"train {{shards}} {SMALL} --out ../out4",
    f"lr-find photos {SMALL.replace('--steps 2', '')}",
    f"tune photos {SMALL} --trials 1 --out ../tune",
    "predict {model} photos --out ../p.csv --part-rows 5",
    "predict {onnx} photos/a/0.png --engine auto",
    "predict {spoilt} photos/a/0.png",
    "predict . photos/a/0.png",
    "eval {onnx} photos --split val --out ../e",
    "export {model} ../onnx --images photos --split train",
    "export {run} ../torch --to torch --images photos --split train",
    "export {model} ../hf --to huggingface-onnx --images photos --split train",
    "export {model} ../triton --to triton --images photos --split train",
    "export {model} ../pt2 --to torch-export --images photos --split train",
    "export {model} ../web --to web --images photos --split train",
    "export {onnx} ../again --images photos --split train",
    "export . ../out5",
    "push {model} me/photos --dry-run",
    "push {onnx} me/photos --dry-run",
    "push {spoilt} me/photos --dry-run",
    "push . me/photos --dry-run",
    "serve {model} --port 0",
    "serve {run} {onnx} --port 0",
    "serve {spoilt} --port 0",
    "data split photos --out ../split.csv",
    "data show photos --out ../seen.png",
    "data get digits ../digits",
    "data shard photos ../made",
    "data shard . ../made2",
    "data index {shards} --out ../index",
    "data index photos --out ../index2",
    "data check {shards}",
    "data check .",
    "report .",
    "runs .",
    "models {onnx}",
    f"train . {SMALL} --out ../out1",
    f"train photos {SMALL} --name new",
    "train --resume {run}",
    "eval {run}",
    "eval {model} photos --split val",
    "predict {model} photos/a/0.png",
    "predict {run} photos",
    "explain {model} photos/a/0.png --method rollout --out ../maps",
    "probe {model} photos --kind knn --k 1 --split val",
    "convert {model} ../m2 --to timm",
    "report {run}",
    "runs",
    "runs {run}",
    "models {model}",
    "data check photos",
    "doctor",
    "models vit_b16",
    "train photos --config {pipe}",
    "eval {model} photos --out ../e --split val",
    f"train photos --from {{model}} {SMALL.replace('--model vit_digits', '')} --out ../out2",
    "compare photos --models vit_ti16 --budget 1s --out ../cmp",
    "study data-size --data photos --examples 16 --seeds 1 --processes 1 --out ../study",
]
SAMPLE = ("predict {run}",)
HANG_SECS = 10.0
PRECIOUS = ("report.html", "audit.json", "log.txt", "bad_files.csv", "metrics.jsonl", "model.onnx")


def pictures(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng((seed, number)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def vitrail(words: str, place: Path, *, limit: float = 400) -> tuple[int, str]:
    """Run the command as people do, in `place`: its exit code (-1: still there after `limit`)."""
    command = [str(Path(sys.executable).with_name("vitrail")), *words.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VITRAIL_THREADS": "1"}
    if words.startswith("serve"):
        return served(command, place, environment, limit)
    try:
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return -1, ""
    return done.returncode, done.stdout + done.stderr


def served(
    command: list[str], place: Path, environment: dict[str, str], limit: float
) -> tuple[int, str]:
    """As `vitrail` of a server, which is told to stop once it says where it listens."""
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        timer = threading.Timer(limit, server.kill)
        timer.start()
        for line in server.stdout:
            lines.append(line)
            if "  stop " in line:  # the last line that is said before the models are read
                server.send_signal(signal.SIGTERM)
        timer.cancel()
    return (-1 if server.returncode == -signal.SIGKILL else server.returncode), "".join(lines)


@pytest.fixture(scope="module")
def with_products(harmless: Path) -> Path:
    """harmless/ with shards of the photographs and an export of the model."""
    assert vitrail("data shard photos shards", harmless)[0] == 0
    words = "export model onnx --images photos --split train"
    assert vitrail(words, harmless)[0] == 0
    shutil.copytree(harmless / "onnx", harmless / "spoilt")
    return harmless


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, a stopped run and a model folder, before anybody laid hands on them."""
    place = tmp_path_factory.mktemp("harmless")
    pictures(place / "photos" / "a", 12, 0)
    pictures(place / "photos" / "b", 12, 1)
    here = Path.cwd()
    os.chdir(place)
    try:
        keys = {
            "model": "vit_digits",
            "image_size": 8,
            "batch_size": 4,
            "precision": "float32",
            "steps": 2,
            "workers": 0,
            "data.path": "photos",
            "threads": 1,
        }
        loop.train([("test", keys)], name="run", with_report=False)
    finally:
        os.chdir(here)
    run = place / "runs" / "run"
    shutil.copytree(run / "model", place / "model")
    shutil.rmtree(run / "model")
    text = (run / "run.json").read_text().replace('"finished"', '"stopped"')
    (run / "run.json").write_text(text)
    return place


def poison(place: Path, mark: Path, victim: Path) -> None:
    """Lay every trap into the folder and into each folder of it."""
    trap = f"open({str(mark)!r}, 'a').write(__name__ + chr(10))\n"
    shell = f"#!/bin/sh\necho shell >>'{mark}'\n"
    inner = ("photos", "runs/run", "model", "onnx", "spoilt", "shards")
    for at in (place, *(place / name for name in inner if (place / name).is_dir())):
        for name in MODULES:
            (at / f"{name}.py").write_text(trap)
        (at / "vitrail").mkdir()
        (at / "vitrail" / "__init__.py").write_text(trap)
        (at / "conftest.py").write_text(trap)
        (at / "matplotlibrc").write_text("backend: module://json\n")
        git(at / ".git", shell)
        (at / ".gitattributes").write_text("* filter=evil\n")
    for number, name in enumerate(("linked", "deep")):
        (place / "photos" / "a" / f"{name}.png").symlink_to(victim / f"{number}.png")
    os.mkfifo(place / "photos" / "b" / "pipe.png")
    os.mkfifo(place / "pipe.toml")
    (place / "photos" / "c").symlink_to(victim)
    run = place / "runs" / "run"
    for name in PRECIOUS:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(victim / name)
    shutil.rmtree(run / "eval")
    (run / "eval").symlink_to(victim)
    (run / "model").symlink_to(victim)
    os.mkfifo(run / "plots")
    os.mkfifo(run / ".lock.new")
    if (place / "spoilt").is_dir():
        for name in ("model.onnx", "README.md"):
            (place / "spoilt" / name).unlink()
        (place / "spoilt" / "model.onnx").symlink_to(victim / "model.onnx")
        os.mkfifo(place / "spoilt" / "README.md")
        os.mkfifo(place / "shards" / "train-000001.tar")
        (place / "shards" / "train-000002.tar").symlink_to(victim / "model.onnx")


def git(folder: Path, shell: str) -> None:
    (folder / "hooks").mkdir(parents=True)
    (folder / "refs" / "heads").mkdir(parents=True)
    (folder / "objects").mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "refs" / "heads" / "main").write_text("0" * 40 + "\n")
    for name in ("evil.sh", "hooks/post-index-change", "hooks/fsmonitor-watchman"):
        (folder / name).write_text(shell)
        (folder / name).chmod(0o755)
    evil = folder / "evil.sh"
    (folder / "config").write_text(
        f"[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {evil}\n\tpager = {evil}\n"
        f'\tsshCommand = {evil}\n[filter "evil"]\n\tclean = {evil}\n\tsmudge = {evil}\n'
        f"[diff]\n\texternal = {evil}\n"
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def filled(words: str) -> str:
    """The words with the names of the folder."""
    own = {name: name for name in ("model", "onnx", "spoilt", "shards")}
    return words.format(run="runs/run", pipe="pipe.toml", **own)


def parts_of(verb: str) -> list[str]:
    """The verb, or each of its parts: "data check"."""
    parts = commands(importlib.import_module(VERBS[verb].module).app)
    return [f"{verb} {name}".strip() for name in parts]


def unread(folder: Path) -> None:
    """Let every file look as if it had not been read since it was written."""
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 2 * 10**18))


def were_read(folder: Path) -> list[str]:
    """Those that were read since `unread`, where the file system tells."""
    return [path.name for path in folder.iterdir() if path.stat().st_atime_ns != 10**18]


def harmless_secs(words: str, harmless: Path, folder: Path) -> float:
    """How long a command takes in an unharmed copy."""
    place = folder / "downloaded"
    shutil.copytree(harmless, place)
    started = time.monotonic()
    assert vitrail(filled(words), place)[0] != -1
    return time.monotonic() - started


def tried(words: str, harmless: Path, tmp_path: Path, usual: float | None = None) -> str:
    """Run a command in a poisoned copy; what is wrong with how it went, "" where nothing is.
    usual: how long it takes in an unharmed copy.
    """
    place, mark, victim = tmp_path / "downloaded", tmp_path / "RAN", tmp_path / "victim"
    shutil.copytree(harmless, place)
    victim.mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(harmless / "photos" / "a" / "0.png", victim / name)
    for name in PRECIOUS:
        (victim / name).write_text("precious\n" * 100)
    poison(place, mark, victim)
    before = content(victim)
    unread(victim)
    started = time.monotonic()
    code, said = vitrail(filled(words), place)
    took = time.monotonic() - started
    if mark.exists():
        return f"{words}: of the folder ran: {mark.read_text()}"
    if found := were_read(victim):
        return f"{words}: read through links: {found}"
    if content(victim) != before:
        return f"{words}: files outside were changed"
    if code == -1:
        return f"{words}: still there after {took:.0f} s"
    if usual is not None and took > usual + HANG_SECS:
        return f"{words}: {took:.1f} s, {usual:.1f} s in an unharmed folder"
    if code == 1 or "VIT-100" in said or "Traceback" in said:
        return f"{words}: exit {code}: {said[-500:]}"
    return ""


@pytest.mark.promise("M7")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("start", SAMPLE)
def test_nothing_of_a_hostile_folder_runs_or_leads_out(
    harmless: Path, tmp_path: Path, start: str
) -> None:
    words = next(one for one in COMMANDS if one.startswith(start))
    assert not tried(words, harmless, tmp_path)


@pytest.mark.promise("M7")
def test_no_verb_is_left_out() -> None:
    parts = [part for verb in VERBS for part in parts_of(verb)]
    assert len(parts) > len(VERBS)
    assert [
        part for part in parts if not any(f"{one} ".startswith(f"{part} ") for one in COMMANDS)
    ] == []


def test_what_is_read_through_a_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    unread(tmp_path)
    (tmp_path / "a").read_text()
    if were_read(tmp_path) == []:
        pytest.skip("this file system keeps no time of access")
    assert were_read(tmp_path) == ["a"]


@pytest.mark.slow
@pytest.mark.promise("M7")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("words", COMMANDS)
def test_every_verb_in_a_hostile_folder(with_products: Path, tmp_path: Path, words: str) -> None:
    usual = harmless_secs(words, with_products, tmp_path / "usual")
    assert not tried(words, with_products, tmp_path, usual)
