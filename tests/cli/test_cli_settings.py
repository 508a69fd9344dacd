"""Settings of a run as options, and the order in which their sources win."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.cli.registry import option_names, setting_options
from vitrail.cli.settings import layers_of, take_settings
from vitrail.cli.verbs.train import app
from vitrail.config import known_keys
from vitrail.errors import UsageError
from vitrail.settings.layers import resolve


def test_dotted_options_are_taken_and_the_rest_is_left() -> None:
    tokens = [
        "photos",
        "--optim.lr",
        "3e-4",
        "--model",
        "vit_s16",
        "--model.num-heads=3",
        "--ema",
        "0.9",
    ]
    settings, rest = take_settings(tokens, ["--model"])
    assert settings == {"optim.lr": "3e-4", "model.num_heads": "3", "ema": "0.9"}
    assert rest == ["photos", "--model", "vit_s16"]


def test_a_negative_number_is_a_value() -> None:
    assert take_settings(["--optim.lr", "-3"], [])[0] == {"optim.lr": "-3"}


def test_switches_need_no_value() -> None:
    assert take_settings(["--compile", "photos"], []) == ({"compile": "true"}, ["photos"])
    assert take_settings(["--compile", "false"], []) == ({"compile": "false"}, [])


def test_words_after_two_dashes_stay() -> None:
    assert take_settings(["--", "--ema", "1"], []) == ({}, ["--", "--ema", "1"])


@pytest.mark.parametrize(
    ("tokens", "code", "text"),
    [
        (["--optim.lrr", "3"], "VIT-211", "Did you mean --optim.lr?"),
        (["--optim.lr"], "VIT-201", "needs a value"),
        (["--optim.lr", "--json"], "VIT-201", "needs a value"),
        (["--optim.lr", "1", "--optim.lr", "2"], "VIT-201", "twice"),
        (["--lr", "1", "--optim.lr", "2"], "VIT-203", "--lr and --optim.lr are the same"),
        (["--data.workers", "1", "--workers=2"], "VIT-203", "--workers and --data.workers"),
    ],
)
def test_refusals(tokens: list[str], code: str, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        take_settings(tokens, [])
    assert caught.value.code == code


def test_every_key_can_be_given() -> None:
    declared = option_names(app)
    for key in known_keys():
        option = "--" + key.replace("_", "-")
        if key == "data.path" or option in declared:
            continue
        assert take_settings([option, "true"], declared)[0] == {key: "true"}
    assert "--lr" in setting_options()


@given(st.permutations(["config", "environment", "command"]), st.integers(1, 3))
def test_later_sources_win(order: list[str], used: int) -> None:
    given_by = order[:used]
    numbers = {"config": 1, "environment": 2, "command": 3}
    layers = [(name, {"batch_size": numbers[name]}) for name in numbers if name in given_by]
    config, sources = resolve(layers)
    winner = max(given_by, key=lambda name: numbers[name])
    assert config.batch_size == numbers[winner]
    assert sources["batch_size"] == winner


def test_layers_of_reads_file_environment_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("epochs = 3\n[optim]\nlr = 0.1\nclip = 2.0\n")
    monkeypatch.setenv("VITRAIL_OPTIM_LR", "0.2")
    monkeypatch.setenv("VITRAIL_SEED", "5")
    layers = layers_of("photos", file, {"lr": "0.3", "model": None})
    assert [name for name, _ in layers] == [str(file), "environment", "command line"]
    config, sources = resolve(layers)
    assert (config.optim.lr, config.optim.clip, config.seed, config.epochs) == (0.3, 2.0, 5, 3)
    assert config.data.path == "photos"
    assert sources["optim.lr"] == "command line"
    assert sources["seed"] == "environment"
    assert sources["optim.clip"] == str(file)
