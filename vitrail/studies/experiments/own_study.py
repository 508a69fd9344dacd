"""A study of one's own: a TOML file that says which settings differ, computed and judged as the
paper's experiments are.

    title = "Does mixup help?"
    value = "test/top1"              # or val/top1; what the verdict rests on
    reference = "plain"              # the arm that others are compared with; default: the first

    [base]                           # settings of every arm
    model.name = "vit_ti4"

    [arms.plain]
    [arms.mixup]
    augment.mixup_alpha = 0.2
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitrail.config import flatten
from vitrail.errors import UsageError
from vitrail.figures.plot import Figure
from vitrail.settings.layers import DURATIONS
from vitrail.settings.toml_file import toml_document
from vitrail.spelling import count, printable
from vitrail.studies.compute_study import JudgedBy, Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.comparison import sentence, shown
from vitrail.studies.experiments.families import one_vit
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import Difference, difference, in_words, points, series
from vitrail.studies.setup import Setup

SUFFIX = ".toml"
LONGEST = 60  # letters of an arm's name
OF_THE_STUDY = ("seed", "recipe", "data.path", "data.train_pictures", "data.split_seed")
LIMITS = (
    "Arms see the same number of images; one with a larger model spends more time on each "
    "(column multiply-adds).",
    "The settings that the file does not name are the same in all arms, and may suit one better.",
    "Intervals are over seeds, each of 95 %: of twenty comparisons without any difference one is "
    "expected to look clear.",
)


class OwnFile(BaseModel):
    """What a file may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field("", max_length=200)
    value: JudgedBy = "test/top1"
    reference: str | None = None
    base: dict[str, Any] = {}
    arms: dict[str, dict[str, Any]] = Field(min_length=2, max_length=50)


@dataclass(frozen=True)
class Question:
    """A file that holds together. arms: flat settings by name, those of `base` among them."""

    name: str
    title: str
    value: JudgedBy
    reference: str
    arms: Mapping[str, Mapping[str, Any]]

    @property
    def digits(self) -> str:
        """16 hex digits of everything that decides the cells and the verdict."""
        facts = json.dumps([self.value, self.reference, dict(self.arms)], default=str)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def cells(self, setup: Setup) -> list[Cell]:
        """Seeds x arms. A file that names no model compares with the small ViT."""
        return [
            from_scratch(
                setup,
                arm,
                {},
                own if "model.name" in own else {**one_vit(setup), **own},
                setup.examples,
                seed,
            )
            for seed in setup.seeds
            for arm, own in self.arms.items()
        ]

    def outcome(self, setup: Setup, rows: Sequence[Row]) -> Outcome:
        """Each arm against the reference."""
        done = [
            row.seen_as(row.arm, axes={"arm": row.arm}) for row in rows if self.value in row.values
        ]
        return Outcome(
            self._verdict(done),
            [self._figure(done)] if done else [],
            {f"Top-1 ({self.value})": self._table(done)},
            {"reference": self.reference, "value": self.value},
        )

    def _figure(self, rows: Sequence[Row]) -> Figure:
        names = list(self.arms)
        lines = points(rows, self.value, "arm")
        return Figure(
            "arms",
            f"Top-1 of each arm ({self.value})",
            "arm",
            "top-1",
            [
                series(arm, line, colour=names.index(arm), kind="marks", x_labels=names)
                for arm, line in lines.items()
            ],
            x_labels=names,
            note="Mean over seeds with its 95 % interval (Student).",
        )

    def _table(self, rows: Sequence[Row]) -> list[list[str]]:
        cost = {row.arm: row.values["macs"] for row in rows if "macs" in row.values}
        body = [
            [arm, *map(shown, line), f"{cost.get(arm, 0.0) / 1e6:,.1f} M"]
            for arm, line in points(rows, self.value, "arm").items()
        ]
        return [["arm", "top-1", "multiply-adds"], *body]

    def _verdict(self, rows: Sequence[Row]) -> Verdict:
        there = [arm for arm in self.arms if any(row.arm == arm for row in rows)]
        others = [arm for arm in there if arm != self.reference]
        if self.reference not in there or not others:
            return Verdict("No result: too few finished runs.", "", "", [], LIMITS)
        gaps = {
            arm: difference(rows, arm, self.reference, self.value, besides=("arm",))
            for arm in others
        }
        evidence = [sentence(in_words(gap, arm, self.reference)) for arm, gap in gaps.items()]
        return Verdict(self._answer(gaps), "", "", evidence, LIMITS)

    def _answer(self, gaps: Mapping[str, Difference]) -> str:
        """The sentence itself where there is one opponent, else which are better and worse."""
        if len(gaps) == 1:
            arm, gap = next(iter(gaps.items()))
            return sentence(in_words(gap, arm, self.reference))
        better = [arm for arm, gap in gaps.items() if gap.is_clear and gap.mean > 0]
        worse = [arm for arm, gap in gaps.items() if gap.is_clear and gap.mean < 0]
        rest = [arm for arm in gaps if arm not in (*better, *worse)]
        said = [
            f"{words} {self.reference}: {', '.join(arms)}."
            for words, arms in (
                ("Better than", better),
                ("Worse than", worse),
                ("No evidence of a difference to", rest),
            )
            if arms
        ]
        return " ".join(said)


def own_study(path: Path) -> Study:
    """The study that a file asks for.

    Raises UsageError VIT-215 where it cannot be read, VIT-286 where it does not hold together, and
    what a wrong setting would raise in a run.
    """
    asked = question_of(path)
    for arm, own in asked.arms.items():
        Cell(arm, {}, {**own, "examples": 1}, 0).config()
    return Study(
        name=asked.name,
        title=asked.title,
        claim="",
        source="",
        cells=asked.cells,
        outcome=asked.outcome,
        full="",
        choices={"file": asked.digits},
        judged_by=asked.value,
        file=path.name,
    )


def question_of(path: Path) -> Question:
    """What a file says. Raises UsageError VIT-215, VIT-286."""
    record = toml_document(path, "An example: docs/studies/README.md")
    try:
        found = OwnFile.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _wrong(path, f"{where}: {first['msg'].lower()}") from error
    base, arms = flatten(found.base), {name: flatten(own) for name, own in found.arms.items()}
    _check(path, found, base, arms)
    return Question(
        path.stem,
        found.title or f"{count(len(arms), 'arm')} of {path.name}",
        found.value,
        found.reference or next(iter(arms)),
        {name: {**base, **own} for name, own in arms.items()},
    )


def _check(path: Path, found: OwnFile, base: Mapping[str, Any], arms: Mapping[str, Any]) -> None:
    """Raises UsageError VIT-286."""
    if path.stem.startswith(".") or not path.stem.isprintable():
        raise _wrong(path, "its name is that of the folder of results, which begins with no dot")
    for where, own in [("base", base), *((f"arms.{name}", own) for name, own in arms.items())]:
        taken = [key for key in own if key in (*DURATIONS, *OF_THE_STUDY)]
        if taken:
            raise _wrong(path, f"{where}: {taken[0]} is decided by the command, for all arms alike")
    for name in arms:
        if not name.isprintable() or not 0 < len(name) <= LONGEST:
            raise _wrong(path, f"arms: a name is {len(name)} letters long, or not printable")
    if found.reference is not None and found.reference not in arms:
        raise _wrong(path, f"reference: there is no arm {printable(found.reference)}")
    seen: dict[str, str] = {}
    for name, own in arms.items():
        text = json.dumps({**base, **own}, sort_keys=True, default=str)
        if text in seen:
            raise _wrong(path, f"arms {seen[text]} and {name} have the same settings")
        seen[text] = name


def _wrong(path: Path, why: str) -> UsageError:
    return UsageError(
        "VIT-286",
        f"{printable(str(path))} is no study: {why}.",
        hint="It needs [arms.NAME] tables of settings; an example: docs/studies/README.md",
    )
