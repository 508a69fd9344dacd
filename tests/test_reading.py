"""How hard texts are to read, by the grade of Flesch and Kincaid (Kincaid et al. 1975): 0.39 words
a sentence + 11.8 syllables a word - 15.59, about the years of school that a reader needs.

Limits: README and tutorials at most 9, the help of a verb at most 8: a pupil of 14 (they are at 4
to 6). Terms of the field have many syllables (classification, calibration), and lists of options
few words a sentence, so the figure judges no single sentence; it shows when texts drift.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.cli_command import run
from vitrail.cli.registry import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/first-model.md", "docs/fine-tune.md", "docs/clean-data.md")
MOST, MOST_OF_A_VERB = 9.0, 8.0


def syllables(word: str) -> int:
    """Groups of vowels; a final e is silent, and every word has one."""
    word = word.lower()
    found = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith("e") and not word.endswith(("le", "ee")) and found > 1
    return max(1, found - silent)


def grade(text: str) -> float:
    """The grade of a text. An empty line, a semicolon and a colon end a thought too."""
    sentences = [
        one for one in re.split(r"[.!?;:](?=\s|$)|\n\s*\n", text) if re.search("[A-Za-z]{2}", one)
    ]
    words = re.findall(r"[A-Za-z]+(?:'[a-z]+)?", text)
    spoken = sum(map(syllables, words))
    return 0.39 * len(words) / len(sentences) + 11.8 * spoken / len(words) - 15.59


def prose(markdown: str) -> str:
    """What is read as sentences: no code, tables, addresses or headings."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "it", text)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(\||#|<|    )", line)]
    return re.sub(r"^\s*[-*] ", "\n\n", "\n".join(lines), flags=re.MULTILINE)


def help_of(verb: str) -> str:
    """What the options of a verb say, a paragraph each, without names and values."""
    text = run("help", verb).out
    lines = [re.sub(r"^\s+--?\S+(?: \S+)*?  +", "\n\n", line) for line in text.splitlines()]
    return "\n".join(re.sub(r"\[[^\]]*\]", "", line) for line in lines)


def test_the_measure_of_known_texts() -> None:
    assert grade("The cat sat on the mat.") == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    hard = "The characterisation of heteroscedasticity necessitates methodological sophistication."
    assert grade(hard) > 25
    assert [syllables(one) for one in ("image", "the", "table", "model", "a")] == [2, 1, 2, 2, 1]


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_plain(page: str) -> None:
    found = grade(prose((ROOT / page).read_text(encoding="utf-8")))
    assert found <= MOST, f"{page}: {found:.1f}"


def test_help_is_plain() -> None:
    grades = {}
    for verb in VERBS:
        import_module(VERBS[verb].module)
        grades[verb] = grade(help_of(verb))
    assert {verb: one for verb, one in grades.items() if one > MOST_OF_A_VERB} == {}
