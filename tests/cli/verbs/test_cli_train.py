"""`vitrail train` in front of a loop that only records what it is asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import fake, run
from vitrail.cli.main import main
from vitrail.config import TrainConfig, flatten
from vitrail.settings.layers import resolve
from vitrail.training.ranks.ranks import Ranks
from vitrail.training.reporter import RunResult


class Loop:
    """Stands in for vitrail.training.loop."""

    def __init__(self, stopped: str | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.stopped = stopped

    def train(self, layers: Any, **options: Any) -> RunResult:
        """Record a new run."""
        self.calls.append({"layers": layers, **options})
        return RunResult(Path("runs/x"), 1.0, 3, stopped=self.stopped)

    def resume(
        self,
        run_dir: Path,
        *,
        data: str | None,
        reporter: Any,
        age_secs: float,
        ranks: Ranks,
        profile: int,
    ) -> RunResult:
        """Record a continued run."""
        assert ranks.is_alone
        assert age_secs >= 0
        self.calls.append({"resume": run_dir} | ({"data": data} if data else {}))
        return RunResult(run_dir, 1.0, 3, stopped=self.stopped)


def record(monkeypatch: pytest.MonkeyPatch, stopped: str | None = None) -> Loop:
    """Put a recording loop in place."""
    loop = Loop(stopped)
    fake(monkeypatch, "vitrail.training.loop", train=loop.train, resume=loop.resume)
    return loop


def test_options_reach_the_loop_as_layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loop = record(monkeypatch)
    (tmp_path / "run.toml").write_text("seed = 3\nepochs = 4\n")
    words = (
        f"train photos --config {tmp_path / 'run.toml'} --model vit_s16 --model.depth 6 --lr 3e-4"
    )
    done = run(*words.split(), "--out", "there", "--name", "me", "--ema", "0.9", "--compile")
    assert done.code == 0
    call = loop.calls[0]
    assert (call["runs_dir"], call["name"]) == (Path("there"), "me")
    assert call["command"].startswith(f"vitrail {words} --out there")  # called by Python, here
    assert 0 < call["age_secs"] < 60  # not the age of the process that runs the tests
    config, sources = resolve(call["layers"])
    assert (config.seed, config.epochs, config.optim.lr, config.ema) == (3, 4, 3e-4, 0.9)
    assert (config.model.name, config.model.overrides) == ("vit_s16", {"depth": "6"})
    assert config.compile is True
    assert config.data.path == "photos"
    assert sources["optim.lr"] == "command line"


def test_a_command_line_is_as_old_as_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = record(monkeypatch)
    monkeypatch.setattr("vitrail.cli.main.process_age", lambda: 1234.0)
    monkeypatch.setattr("vitrail.cli.main.end_when_interrupted", lambda: None)
    monkeypatch.setattr("sys.argv", ["vitrail", "train", "photos", "--time-limit", "60s"])
    assert main() == 0
    assert 1234 <= loop.calls[0]["age_secs"] < 1234 + 60


def test_every_short_option_reaches_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "recipe": "deit",
        "epochs": 3.0,
        "batch-size": 7,
        "lr": 0.5,
        "image-size": (64, 48),
        "augment": "randaugment",
        "freeze": "body",
        "precision": "float32",
        "device": "cpu",
        "workers": 3,
        "seed": 11,
        "patience": 5,
        "save-every": 90.0,
        "val-fraction": 0.25,
        "on-bad-file": "skip",
    }
    words = {**values, "image-size": "64x48", "save-every": "90s"}
    loop = record(monkeypatch)
    argv = [word for name, value in words.items() for word in (f"--{name}", value)]
    assert run("train", "photos", *argv).code == 0
    config, sources = resolve(loop.calls[0]["layers"])
    from vitrail.config import SHORT

    flat = flatten(config)
    keys = {name: SHORT.get(name.replace("-", "_"), name.replace("-", "_")) for name in values}
    assert {name: flat[keys[name]] for name in values} == values
    assert {sources[key] for key in keys.values()} == {"command line"}
    assert run("train", "photos", "--time-limit", "1.5h").code == 0
    assert resolve(loop.calls[1]["layers"])[0].time_limit_secs == 5400


def test_data_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loop = record(monkeypatch)
    (tmp_path / "run.toml").write_text('[data]\npath = "photos"\n')
    assert run("train", "--config", tmp_path / "run.toml").code == 0
    assert resolve(loop.calls[0]["layers"])[0].data.path == "photos"


def test_resume_hands_over_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = record(monkeypatch)
    assert run("train", "--resume", "runs/a").code == 0
    assert loop.calls == [{"resume": Path("runs/a")}]


def test_resume_may_say_where_the_data_lies_now(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = record(monkeypatch)
    assert run("train", "photos", "--resume", "runs/a").code == 0
    assert loop.calls == [{"resume": Path("runs/a"), "data": "photos"}]


@pytest.mark.parametrize(
    "other", ["--epochs 3", "--ema 0.5", "--name b", "--out b", "--config c", "--dry-run"]
)
def test_resume_takes_no_other_option(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    loop = record(monkeypatch)
    done = run("train", "--resume", "runs/a", *other.split())
    assert done.code == 2
    assert "VIT-203" in done.err
    assert other.split()[0] in done.err
    assert loop.calls == []


@pytest.mark.parametrize(
    ("stopped", "code"), [(None, 0), ("patience", 0), ("SIGINT", 130), ("SIGTERM", 143)]
)
def test_exit_code_says_how_a_run_ended(
    monkeypatch: pytest.MonkeyPatch, stopped: str | None, code: int
) -> None:
    record(monkeypatch, stopped)
    assert run("train", "photos").code == code
    assert run("train", "--resume", "runs/a").code == code


def test_print_config_is_toml_that_gives_the_same_settings(tmp_path: Path) -> None:
    words = ["train", "builtin:digits", "--optim.lr", "3e-4", "--steps", "7", "--print-config"]
    words += ["--data.split_seed", "3", "--data.train_pictures", "211"]
    done = run(*words)
    assert done.code == 0
    lines = {line.split(" = ")[0]: line for line in done.out.splitlines() if " = " in line}
    assert lines["steps"].endswith("# command line")
    assert lines["lr"].split() == "lr = 0.0003 # command line".split()
    assert "auto: " in lines["batch_size"]
    assert tomllib.loads(done.out)["optim"]["lr"] == 3e-4
    (tmp_path / "run.toml").write_text(done.out)
    again = run("train", "--config", tmp_path / "run.toml", "--print-config", "--json").document
    first = run(*words, "--json").document
    assert {key: entry["value"] for key, entry in again.items()} == {
        key: entry["value"] for key, entry in first.items()
    }
    assert set(first) >= set(flatten(TrainConfig())) - {"time_limit_secs"}
    assert first["data.split_seed"] == {"value": 3, "source": "command line"}
    assert first["data.train_pictures"] == {"value": 211, "source": "command line"}
    assert first["optim.lr"] == {"value": 3e-4, "source": "command line"}


def test_dry_run_shows_the_plan_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", "builtin:digits", "--dry-run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("vitrail 0.1.0 | torch ")
    assert lines[1] == "data   digits  10 classes | train 1437, val 180, test 180 | 8x8 gray"
    assert "nothing was kept" in done.err
    assert list(tmp_path.iterdir()) == []
    choices = run("train", "builtin:digits", "--dry-run", "--json").document["choices"]
    assert {"key", "value", "why"} == set(choices[0])
