"""Which images a model is judged on: those that its run held out, found by content, or all.

No split is drawn to judge on: a split drawn again from data that changed, with another seed or in
another folder, holds images that were trained on. What is judged is

- recorded: the split as the run recorded it, for the run's own data, wherever it lies now. DATA is
  the run's own where it holds images that were trained on and at least half of that split;
- given: the val or test split that DATA itself has;
- all: every labelled image of DATA.

In each of them the images that the model was trained on are counted by content. A model without a
record of what it was trained on says that this cannot be told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.digest import digests_of
from vitrail.data.sources.examples import ROLES, SEEN, Examples, Pool, pool_of
from vitrail.data.sources.folder import some
from vitrail.data.sources.open_data import open_data, open_whole
from vitrail.data.sources.source import Source, Splits
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.evaluation.on_data import labels_differ
from vitrail.evaluation.record import Evaluation
from vitrail.evaluation.run_data import facts_of, indexed_parts, parts_of, places_of, record_of
from vitrail.spelling import count, printable

How = Literal["recorded", "given", "all", "drawn"]
OWN_SHARE = 0.5  # of a recorded split that DATA must hold to be taken for the run's own
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EvalSet:
    """The images that a model is judged on. trained_on, chosen_on (n,): whether the model was
    trained on each, or its best epoch was chosen by it; None and `unknown` where that cannot be
    told. recorded: images of the split when the run began; new: images of the data that came later.
    relabelled (n,): whether an image has other labels than the run recorded of it; None where it
    recorded none.
    """

    source: Source
    data: str
    split: str
    how: How
    trained_on: Mask | None
    chosen_on: Mask | None
    unknown: str = ""
    recorded: int = 0
    new: int = 0
    relabelled: Mask | None = None

    def to_json(self) -> dict[str, Any]:
        """What metrics.json says of it."""
        document: dict[str, Any] = {
            "data": printable(self.data),
            "split": self.split,
            "how": self.how,
            "n": len(self.source),
        }
        if self.how == "recorded":
            document |= {"recorded": self.recorded, "new": self.new}
        if self.relabelled is not None and self.relabelled.any():
            document["relabelled"] = int(self.relabelled.sum())
        document["trained_on"] = None if self.trained_on is None else int(self.trained_on.sum())
        document["chosen_on"] = None if self.chosen_on is None else int(self.chosen_on.sum())
        return document | ({"unknown": self.unknown} if self.unknown else {})

    @property
    def unseen(self) -> Mask:
        """Whether an image is not known to have been trained on. (n,)"""
        none = np.zeros(len(self.source), bool)
        return ~(none if self.trained_on is None else self.trained_on)

    def sentences(self) -> list[str]:
        """What is judged and how far it was seen, for people."""
        n, data = len(self.source), printable(self.data)
        what = {
            "recorded": f"the {n:,} {self.split} images that the run recorded when it began",
            "given": f"the {count(n, 'image')} of the {self.split} split that {data} has",
            "all": f"every labelled image of {data}, {n:,}; no split is drawn",
            "drawn": f"{n:,} {self.split} images that are held out of {data} now",
        }[self.how]
        if self.how == "recorded" and n < self.recorded:
            what = f"{n:,} of {what.replace(f'the {n:,}', f'the {self.recorded:,}')}"
        told = [f"judged on {what}"]
        if self.new:
            told.append(f"{count(self.new, 'image')} of {data} came later and are not evaluated")
        return told + self.label_changes() + self._seen()

    def label_changes(self) -> list[str]:
        """What is said of labels that are others than the run recorded; nothing of none."""
        if self.relabelled is None or not self.relabelled.any():
            return []
        names = [self.source.source_id(int(i)) for i in np.flatnonzero(self.relabelled)]
        return [
            f"{len(names):,} of these {count(len(self.source), 'image')} have other labels than "
            f"the run recorded ({some(names, 3)}): those of now are taken"
        ]

    def _seen(self) -> list[str]:
        n, told = len(self.source), []
        if self.trained_on is None:
            return [f"whether they were trained on cannot be told: {self.unknown}"]
        if seen := int(self.trained_on.sum()):
            told.append(
                f"{seen:,} of these {count(n, 'image')} were trained on: figures are too good"
            )
        elif not self.unknown:
            told.append("none of them was trained on")
        if self.unknown:
            told.append(f"beyond that it cannot be told: {self.unknown}")
        if self.chosen_on is not None and (chosen := int(self.chosen_on.sum())):
            told.append(f"{count(chosen, 'validation image')}, by which the epoch was chosen")
        return told

    def without_seen(self, found: Evaluation) -> dict[str, Any] | None:
        """n and top-1 of the images that were not trained on, where some were."""
        if self.trained_on is None or not self.trained_on.any() or len(self.unseen) != found.n:
            return None
        rest = found.only(self.unseen)
        return {"n": rest.n, "top1": rest.top1 if rest.n else None}


@dataclass(frozen=True, eq=False)
class Opened:
    """A dataset for judging a model, or for fitting and judging a probe.

    known: what the model was trained on; parts: its splits; missing: recorded images of each split
    that are not there.
    """

    listed: Splits
    known: Examples | str
    how: How
    parts: dict[str, Source]
    missing: dict[str, int]
    new: int = 0

    @property
    def splits(self) -> Splits:
        """The parts as splits."""
        train = self.parts.get("train", self.listed.train)
        val, test = self.parts.get("val"), self.parts.get("test")
        return replace(self.listed, train=train, val=val, test=test)

    def judged(self, split: str, readable: Source | None = None) -> EvalSet:
        """The images to judge on. readable: those of them that can be decoded, where that was asked
        for. Raises UsageError VIT-240 where there is no such split.
        """
        everything = self.how == "all"
        if split not in (("train", "val", "test") if everything else self.parts):
            raise UsageError(
                "VIT-240",
                f"{self.listed.name} has no split {split!r}; it has {', '.join(self.parts)}.",
                hint="Name one of these: --split",
            )
        source = self.parts["all" if everything else split]
        recorded = len(source) + self.missing.get(split, 0)
        source = source if readable is None else readable
        return judged_as(source, self.listed.name, split, self.how, self.known, recorded, self.new)


def judged_as(
    source: Source,
    data: str,
    split: str,
    how: How,
    known: Examples | str,
    recorded: int = 0,
    new: int = 0,
) -> EvalSet:
    """`source` beside what a model was trained on."""
    record = known if isinstance(known, Examples) else None
    trained, chosen = seen_in(source, record, split)
    unknown = known if isinstance(known, str) else ""
    if record is not None and record.index and trained is None:
        unknown = "it was trained on an index of very many images, and these are of another"
    if record is not None and not record.is_whole:
        unknown = "the model that its run started from has no record of its own"
    other = labels_differ(source, record)
    return EvalSet(source, data, split, how, trained, chosen, unknown, recorded, new, other)


def seen_in(
    source: Source, known: Examples | None, split: str = ""
) -> tuple[Mask | None, Mask | None]:
    """Whether each image was trained on, and whether it is one of validation."""
    if known is None:
        return None, None
    if known.index:
        return _seen_of_index(source, known, split)
    digests = digests_of(source)
    trained = known.holds(digests, *SEEN)
    chosen = known.holds(digests, "val") & ~trained & (split != "val")
    return trained, chosen


def _seen_of_index(source: Source, known: Examples, split: str) -> tuple[Mask | None, Mask | None]:
    """By the rows of the index that the model was trained on; None for other images."""
    indexed = source.indexed
    if indexed is None or indexed.num_rows != len(known) or indexed.digest != known.index:
        return None, None
    rows = indexed.rows
    roles = known.roles[slice(rows.start, rows.stop) if isinstance(rows, range) else rows]
    trained = np.isin(roles, [ROLES.index(role) for role in SEEN])
    return trained, (roles == ROLES.index("val")) & ~trained & (split != "val")


def open_own(run: Path, split: str) -> Opened:
    """The data of a run, where it lies now, with the splits that the run recorded.

    Raises DataError VIT-303 where the data is not there, VIT-324 where recorded images of `split`
    are not among it, ModelError VIT-409.
    """
    facts, record = facts_of(run), record_of(run)
    best: Opened | None = None
    failed: DataError | None = None
    for place in places_of(run, facts):
        try:
            found = _recorded(open_whole(place, min_classes=1), place, record)
        except DataError as error:
            failed = failed or error
            continue
        if best is None or found.missing.get(split, 0) < best.missing.get(split, 0):
            best = found
    if best is None:
        assert failed is not None
        raise failed
    if lost := best.missing.get(split, 0):
        _refuse(run, split, lost, best)
    return best


def _refuse(run: Path, split: str, lost: int, best: Opened) -> None:
    there = len(best.parts.get(split, ()))
    trained = len(best.parts.get("train", ()))
    raise DataError(
        "VIT-324",
        f"{lost:,} of the {lost + there:,} {split} images that {run} recorded when it began are "
        f"not in {printable(best.listed.train.name.rpartition(':')[0])}: it was changed, or it is "
        f"another dataset. Of those that are there {trained:,} were trained on.",
        hint=f"Put them back, or name where the data lies now: vitrail eval {run} DATA",
    )


def _recorded(listed: Splits, name: str, record: Examples) -> Opened:
    if record.index:
        same = listed.index == record.index
        there = indexed_parts(record, listed, name) if same else {}
        lost = {} if same else {role: len(record.of(role)) for role in ("train", "val", "test")}
        return Opened(listed, record, "recorded", there, lost)
    pool = pool_of(listed, record)
    parts, missing = parts_of(record, pool, name)
    known = record.holds(pool.digests, "train", "val", "test", "unused")
    new = int((~known & pool.digests.any(axis=1)).sum()) if record.names else 0
    return Opened(listed, record, "recorded", parts, missing, new)


def open_given(data: str, split: str, known: Examples | str, *, draw: bool = False) -> Opened:
    """`data` for a model that was trained on `known`. draw: hold out what is lacking where it is
    other data without splits, to fit something of its own.

    Raises DataError as `open_data` does, UsageError VIT-240.
    """
    listed = open_whole(data, min_classes=1)
    if isinstance(known, Examples) and known.index and not draw and listed.index == known.index:
        return _recorded(listed, data, known)
    by_content = isinstance(known, Examples) and not known.index
    pool = pool_of(listed, known) if by_content and isinstance(known, Examples) else None
    given = dict(pool.parts) if pool is not None else listed.parts()
    if len(given) > 1 and (split in given and split != "train") and not draw:
        return Opened(listed, known, "given", given, {})
    if isinstance(known, Examples) and pool is not None:
        found = _recorded(listed, data, known)
        if _is_own(found, pool, known, split):
            return found
    if draw:
        splits = open_data(data)
        return Opened(splits, known, "drawn" if splits.is_drawn else "given", splits.parts(), {})
    if len(given) > 1:
        return Opened(listed, known, "given", given, {})
    return Opened(listed, known, "all", {"all": given["train"]}, {})


def _is_own(found: Opened, pool: Pool, known: Examples, split: str) -> bool:
    there = len(found.parts.get(split, ()))
    recorded = there + found.missing.get(split, 0)
    return bool(
        there and there >= OWN_SHARE * recorded and known.holds(pool.digests, "train").any()
    )


def known_of(run: Path, otherwise: Examples | str) -> Examples | str:
    """What the run at `run` recorded; `otherwise` where it has no record that can be read."""
    try:
        return record_of(run)
    except ModelError:
        return otherwise


def both_unseen(judged: EvalSet, rival: Examples | str, names: tuple[str, str]) -> Mask:
    """The judged images that neither of two models is known to have been trained on. (n,)

    Raises DataError VIT-326 where there are none.
    """
    known = rival if isinstance(rival, Examples) else None
    theirs, _ = seen_in(judged.source, known)
    unseen = judged.unseen if theirs is None else judged.unseen & ~theirs
    if not unseen.any():
        one, other = names
        mine = int((~judged.unseen).sum())
        raise DataError(
            "VIT-326",
            f"every one of the {len(unseen):,} evaluated images was trained on by {some([one])} "
            f"({mine:,}) or {other} ({0 if theirs is None else int(theirs.sum()):,}): they say "
            "nothing about which is better.",
            hint="Compare on images that neither has seen: vitrail eval MODEL DATA --against OTHER",
        )
    return np.asarray(unseen, np.bool_)
