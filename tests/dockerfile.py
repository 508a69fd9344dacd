"""The instructions of a Dockerfile, and its pip lines as commands of a virtual environment."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile: RUN, COPY ... and what stands behind it; stage: number of FROMs."""

    word: str
    rest: str
    stage: int

    @property
    def words(self) -> list[str]:
        """The rest as words: a JSON list, or split as a shell does."""
        if self.rest.startswith("["):
            found: list[str] = json.loads(self.rest)
            return found
        return shlex.split(self.rest)


def instructions(path: Path) -> list[Instruction]:
    """All of them, in order."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    found, stage = [], 0
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            stage += word == "FROM"
            found.append(Instruction(word, rest.strip(), stage))
    return found


def copied(path: Path) -> list[str]:
    """The sources that COPY takes from the project."""
    lines = [one.words for one in instructions(path) if one.word == "COPY"]
    return [word for words in lines if not words[0].startswith("--from") for word in words[:-1]]


def pip_commands(path: Path, pip: list[str], places: dict[str, str]) -> list[list[str]]:
    """The RUN lines, each a call of pip, with names of the image replaced by `places`."""
    commands = []
    for one in instructions(path):
        if one.word == "RUN":
            words = one.words
            assert words[0] == "pip", one.rest
            commands.append(pip + [_placed(word, places) for word in words[1:]])
    return commands


def _placed(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = re.sub(rf"^{re.escape(name)}$", place, word)
    return word
