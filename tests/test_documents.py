"""Texts that somebody else may have made: parsed, or refused with a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.cli_command import run
from vitrail.checkpoints.origins.name_map import read_map
from vitrail.documents import MOST_LEVELS, parse_toml
from vitrail.errors import UsageError

DEEP = {
    "brackets": "a = " + "[" * 100_000,
    "a dotted key": ".".join("a" * 5_000) + " = 1",
    "a dotted table": "[" + ".".join("a" * 5_000) + "]\nb = 1",
    "inline tables": "a = " + "{b = " * 3_000 + "1" + "}" * 3_000,
}


def test_tables_within_tables() -> None:
    assert parse_toml("[a.b]\nc = [1, {d = 2}]") == {"a": {"b": {"c": [1, {"d": 2}]}}}
    most = ".".join("a" * (MOST_LEVELS - 1))
    assert parse_toml(f"{most} = 1")
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml(f"a.{most} = 1")


@pytest.mark.parametrize("kind", ["brackets", "inline tables"])
def test_a_map_that_is_nested_too_deeply(tmp_path: Path, kind: str) -> None:
    (tmp_path / "map.toml").write_text(DEEP[kind])
    with pytest.raises(UsageError, match="nested too deep") as caught:
        read_map(tmp_path / "map.toml")
    assert caught.value.code == "VIT-228"


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("train builtin:digits --print-config --config {file}", "VIT-215"),
        ("study {file} --data builtin:digits --dry-run", "VIT-215"),
        ("train --resume {folder}", "VIT-409"),
    ],
)
def test_a_file_that_is_nested_too_deeply(tmp_path: Path, kind: str, words: str, code: str) -> None:
    (tmp_path / "config.toml").write_text(DEEP[kind])
    (tmp_path / "run.json").write_text('{"schema": 1, "status": "stopped"}')
    done = run(*words.format(file=tmp_path / "config.toml", folder=tmp_path).split())
    assert (done.code, code in done.err) == (int(code[4]), True), done.err
    assert "nested too deep" in done.err
