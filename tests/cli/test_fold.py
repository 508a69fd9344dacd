"""Output on a terminal of 80 columns: lines are broken between words, once; not in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.test_cli_console import on_terminal
from vitrail.cli.display.fold import folded

WIDTH = 80
MAIN = "import sys; del sys.argv[1]; from vitrail.cli.main import main; main(sys.argv[1:])"


def captured(folder: Path, *words: str) -> list[str]:
    """What a command says on a terminal of 80 columns, in `folder`."""
    script = f"import os; os.chdir({str(folder)!r}); {MAIN}"
    text = on_terminal(*words, script=script, COLUMNS=str(WIDTH), TERM="dumb", OMP_NUM_THREADS="1")
    return text.replace("\r\n", "\n").splitlines()


def piped(folder: Path, *words: str) -> list[str]:
    """The same in a pipe."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": str(WIDTH), "OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()


TRAIN = ("train", "builtin:digits", "--steps", "2", "--threads", "1", "--model", "vit_mu8")


@pytest.mark.parametrize(
    "words",
    [
        (*TRAIN, "--residual-baseline", "false", "--device", "cpu"),
        ("compare", "builtin:digits", "--dry-run", "--examples", "1000"),
        ("train", "photos", "--recipe", "paper.masked_patches", "--augment.mixup", "0.5"),
        ("eval", "runs/none"),
        ("export", "runs/none"),
        ("serve", "runs/none", "--host", "0.0.0.0"),
        ("compare", "builtin:digits", "--models", "vit_s17"),
        ("data", "check", "nothing"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_command_fits_into_80_columns(words: tuple[str, ...], tmp_path: Path) -> None:
    lines = captured(tmp_path, *words)
    assert lines
    for line in lines:
        assert len(line) <= WIDTH or line.strip().startswith("vitrail "), line


def test_a_pipe_gets_lines_as_they_are(tmp_path: Path) -> None:
    words = ("eval", "runs/none")
    plain, seen = piped(tmp_path, *words), captured(tmp_path, *words)
    assert max(map(len, plain)) > WIDTH
    assert " ".join(plain).split() == " ".join(seen).split()


def test_what_follows_stands_below_the_text() -> None:
    text = "next   " + "word " * 20
    first, second, *_ = folded(text.strip(), 40).split("\n")
    assert (first[:11], second[:11]) == ("next   word", "       word")
    command = "vitrail train --resume runs/a-long-name --steps 100"
    lines = folded(f"run  somewhere  (continue with: {command})", 40).split("\n")
    assert lines[-1].strip() == f"{command})"
    assert not re.search(r"\n\s*%", folded("x" * 34 + " (95 % of it) and more", 40))


# No unit stands behind a number, which it would stay with.
@given(st.lists(st.from_regex(r"[A-Z,.][A-Z,.%0-9]{0,11}", fullmatch=True), min_size=1))
def test_every_word_stays_and_none_is_broken(words: list[str]) -> None:
    text = " ".join(words)
    made = folded(text, 40)
    assert made.split() == text.split()
    lines = made.split("\n")
    assert max(map(len, lines)) <= 40
    for line, following in pairwise(lines):  # broken where the next word has no room, no earlier
        assert len(f"{line} {following.split()[0]}") > 40
