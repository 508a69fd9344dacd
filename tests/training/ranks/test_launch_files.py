"""docs/launch: each file is read, its line held against both parsers, and run on one machine."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from tests.training.ranks.test_launch import OPTIONS, ended, started, wait_for_step
from tests.training.running import records, weights

LAUNCH = Path(__file__).parents[3] / "docs/launch"
VARIABLE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
FILES = ["slurm.sbatch", "trainjob.yaml", "jobset.yaml", "skypilot.yaml", "ray_train.py"]
OF_A_SITE = {"--nnodes": "1", "--rdzv-endpoint": "localhost:0", "--rdzv-id": "test"}


def line_of(name: str) -> list[str]:
    """The words behind torchrun, every option and its value apart."""
    text = (LAUNCH / name).read_text()
    if name.endswith(".py"):
        scope: dict[str, Any] = {"__name__": "ray_train"}
        exec(compile(text, name, "exec"), scope)
        given = "photos/ --out /shared/runs --name big --resume-or-start --optim.accumulate 32"
        words = scope["torchrun"](4, 8, "head", given.split())[3:]
    elif name in ("trainjob.yaml", "jobset.yaml"):
        yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra hub")
        (words,) = calls_in(yaml.safe_load(text))
    else:
        shell = text
        if name == "skypilot.yaml":
            yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra hub")
            shell = yaml.safe_load(text)["run"]
        found = re.search(r"torchrun (.+)", shell.replace("\\\n", " "))
        assert found is not None
        words = shlex.split(found[1])
    return [part for word in words for part in split(word)]


def calls_in(value: Any) -> Any:
    """The args beside a command torchrun, anywhere."""
    if isinstance(value, dict) and value.get("command") == ["torchrun"]:
        yield value["args"]
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from calls_in(item)


def split(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]


@pytest.mark.parametrize("name", FILES)
def test_its_line_is_understood(name: str) -> None:
    from torch.distributed.run import get_args_parser

    line = line_of(name)
    assert VARIABLE in (LAUNCH / name).read_text()
    asked = get_args_parser().parse_args(line)
    assert (asked.module, asked.training_script) == (True, "vitrail")
    assert asked.max_restarts == 3
    assert asked.signals_to_handle == "SIGTERM,SIGINT,SIGUSR1"
    assert asked.shutdown_timeout == 300
    words = ["builtin:digits" if word == "photos/" else word for word in asked.training_script_args]
    assert words[:2] == ["train", "builtin:digits"]
    assert "--resume-or-start" in words
    done = run(*words, "--batch-size", "32", "--print-config")
    assert done.code == 0, done.err
    assert "accumulate = 32" in done.out


def test_the_scripts_are_scripts() -> None:
    script = (LAUNCH / "slurm.sbatch").read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", script, re.MULTILINE))
    assert asked["ntasks-per-node"] == "1"
    assert asked["signal"] == "USR1@300"
    assert "requeue" in asked


def test_the_table_names_every_file() -> None:
    page = (LAUNCH.parent / "launch.md").read_text()
    assert sorted(set(re.findall(r"\(launch/([\w.]+)\)", page))) == sorted(FILES)
    assert {path.name for path in LAUNCH.iterdir()} == set(FILES)


@pytest.fixture(scope="module")
def options() -> list[str]:
    """Settings of a tiny run that are not those of the files."""
    settings = {key: value for key, value in OPTIONS.items() if key != "optim.accumulate"}
    return [
        word
        for key, value in settings.items()
        for word in (f"--{key.replace('_', '-')}", str(value).lower())
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Path:
    """The run of all of them that one process makes without a stop."""
    folder = tmp_path_factory.mktemp("straight")
    line = ["train", "builtin:digits", "--name", "big", "--optim.accumulate", "32", *options]
    code, text = ended(started(folder, *line))
    assert code == 0, text
    return folder / "runs/big"


@pytest.mark.slow
@pytest.mark.promise("R7")
@pytest.mark.parametrize("name", ["slurm.sbatch", "trainjob.yaml", "ray_train.py"])
def test_its_line_runs_here_stopped_and_started_again(
    tmp_path: Path, straight: Path, options: list[str], name: str
) -> None:
    """With two processes; SIGUSR1 to torchrun, then the same line again."""
    line = [*line_of(name), *options]
    for option, value in {**OF_A_SITE, "--nproc-per-node": "2", "--out": str(tmp_path)}.items():
        if option in line:
            line[line.index(option) + 1] = value
    line = ["builtin:digits" if word == "photos/" else word for word in line]
    environment = os.environ | {"OMP_NUM_THREADS": "1", VARIABLE: "1"}
    if "--nnodes" not in line:  # as Kubeflow's runtime says it
        environment |= {"PET_NNODES": "1", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "localhost"}
        environment |= {"PET_MASTER_PORT": "0", "PET_STANDALONE": "1"}
    codes = []
    for is_first in (True, False):
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *line],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if is_first:
            wait_for_step(tmp_path / "big", 6)
            process.send_signal(signal.SIGUSR1)
        code, text = ended(process)
        codes.append((code, text[-2000:]))
    assert codes[1][0] == 0, codes
    assert records(tmp_path / "big") == records(straight)
    assert weights(tmp_path / "big") == weights(straight)
