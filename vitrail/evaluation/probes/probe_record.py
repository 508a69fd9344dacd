"""What a probe is asked and what it found; the object of probe.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vitrail.evaluation.metrics.intervals import mean_interval
from vitrail.notebook import Shown
from vitrail.spelling import count

SCHEMA = 1


@dataclass(frozen=True)
class ProbeSettings:
    """What to measure; None is the kind's own value. k: images of each class, or neighbours; l2:
    one is used as it is, of several the best on validation; seeds: how many draws.
    """

    kind: str = "few-shot"
    split: str = "test"
    k: tuple[int, ...] | None = None
    l2: tuple[float, ...] | None = None
    seeds: int | None = None
    temperature: float | None = None

    @classmethod
    def given(
        cls,
        kind: str,
        split: str,
        k: int | Sequence[int] | None,
        l2: float | Sequence[float] | None,
        seeds: int | None,
        temperature: float | None,
    ) -> ProbeSettings:
        """As Python gives them: one number, or several."""
        ks = (k,) if isinstance(k, int) else None if k is None else tuple(k)
        l2s = (l2,) if isinstance(l2, int | float) else None if l2 is None else tuple(l2)
        return cls(kind, split, ks, l2s, seeds, temperature)


@dataclass(frozen=True)
class ProbeScore:
    """One accuracy on the judged images, what gave it, and its 95 % intervals.

    interval: of the number of judged images; by_seed: the accuracy of each draw, where there are
    several. sweep: accuracy on validation by l2, where one was chosen; val_top1: on validation,
    where this figure is one of those to choose from.
    """

    top1: float
    interval: tuple[float, float]
    num_train: int
    k: int | None = None
    votes: str | None = None
    l2: float | None = None
    by_seed: tuple[float, ...] = ()
    sweep: dict[float, float] = field(default_factory=dict)
    val_top1: float | None = None
    is_chosen: bool = False

    @property
    def seeds_interval(self) -> tuple[float, float] | None:
        """The interval of the mean over draws of training images."""
        return mean_interval(self.by_seed) if len(self.by_seed) > 1 else None

    def row(self) -> tuple[str, str]:
        """What gave the figure, and the figure with its interval, for people."""
        given = {"k": self.k, "votes": self.votes, "l2": self.l2 and f"{self.l2:g}"}
        name = ", ".join(f"{what} {value}" for what, value in given.items() if value is not None)
        low, high = self.interval
        chosen = ", chosen on validation" * self.is_chosen
        return f"top-1 ({name})", f"{self.top1:.4f} (95 % {low:.4f} to {high:.4f}){chosen}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what does not apply."""
        facts: dict[str, Any] = {"k": self.k, "votes": self.votes, "l2": self.l2}
        facts |= {"num_train": self.num_train, "top1": self.top1}
        facts["top1_interval"] = list(self.interval)
        if self.by_seed:
            facts["by_seed"] = list(self.by_seed)
        if self.seeds_interval is not None:
            facts["seeds_interval"] = list(self.seeds_interval)
        if self.sweep:
            facts["sweep"] = [{"l2": l2, "val/top1": top1} for l2, top1 in self.sweep.items()]
        if self.val_top1 is not None:
            facts |= {"val/top1": self.val_top1, "is_chosen": self.is_chosen}
        return {key: value for key, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Probe(Shown):
    """The figures of one probe; chosen_on: the images that choices were made on."""

    kind: str
    data: str
    split: str
    n: int
    num_classes: int
    num_features: int
    majority: float
    figures: tuple[ProbeScore, ...]
    chosen_on: str | None = None
    notes: tuple[str, ...] = ()
    bad_files: tuple[tuple[str, str], ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        found = [
            ("probe", f"{self.kind}, {count(self.num_features, 'feature')} of the frozen model"),
            ("images", f"{self.data} {self.split}: {self.n:,}, {count(self.num_classes, 'class')}"),
            *(one.row() for one in self.figures),
            ("majority class", f"{self.majority:.4f}"),
        ]
        found += [("chosen on", self.chosen_on)] if self.chosen_on is not None else []
        found += [("skipped", f"{name}: {reason}") for name, reason in self.bad_files]
        return found + [("note", note) for note in self.notes]

    def to_json(self) -> dict[str, Any]:
        """The object of `vitrail probe --json` and of probe.json."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "num_classes": self.num_classes,
            "num_features": self.num_features,
            "baselines": {"majority class": self.majority},
            "results": [figure.to_json() for figure in self.figures],
            "chosen_on": self.chosen_on,
            "notes": list(self.notes),
            "bad_files": [{"source": name, "reason": reason} for name, reason in self.bad_files],
        }
