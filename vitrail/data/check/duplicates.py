"""Groups of images that are the same: equal bytes or pixels, and copies (`near_duplicates.py`),
within a split and across splits.

A group across splits is leakage: the model is asked what it was told. A group with several labels
has a wrong one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.check.near_duplicates import RADIUS, Copy, copies
from vitrail.data.check.perceptual_hash import Sketches, joined
from vitrail.data.sources.source import Source
from vitrail.data.sources.split import label_text
from vitrail.files import write_csv

COLUMNS = ("group", "kind", "split", "source", "label")
Place = tuple[str, int]  # split, index


@dataclass(frozen=True)
class DuplicateMember:
    """An image of a group; kind: what it is of the first one: "equal", "copy", "mirrored" or
    "recoloured".
    """

    split: str
    index: int
    source: str
    label: str
    kind: str = "equal"

    def __str__(self) -> str:
        more = "" if self.kind in ("equal", "copy") else f" ({self.kind})"
        return f"{self.split}: {self.source}{more}"


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are the same, in the order of their splits; is_exact: all are equal."""

    members: tuple[DuplicateMember, ...]
    is_exact: bool

    @property
    def splits(self) -> set[str]:
        """The splits that it lies in."""
        return {one.split for one in self.members}

    @property
    def labels(self) -> set[str]:
        """The labels that its images have."""
        return {one.label for one in self.members}

    @property
    def is_leakage(self) -> bool:
        """Whether it lies in several splits."""
        return len(self.splits) > 1

    @property
    def is_conflict(self) -> bool:
        """Whether its images have different labels."""
        return len(self.labels) > 1


@dataclass(frozen=True)
class Duplicates:
    """The groups, exact ones first. radius: coarse distance up to which copies were looked for, 0
    where they were not.
    """

    groups: tuple[DuplicateGroup, ...]
    radius: float = RADIUS

    def leaked(self, split: str, known: str = "train") -> set[int]:
        """The images of `split` that are also among the `known` ones."""
        return {
            one.index
            for group in self.groups
            if known in group.splits
            for one in group.members
            if one.split == split
        }

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [asdict(one) for one in self.groups]


def find_duplicates(
    parts: Mapping[str, Source],
    digests: Mapping[str, Sequence[bytes]],
    sketches: Mapping[str, tuple[Sketches, Sequence[int]]] | None = None,
) -> Duplicates:
    """The groups of `parts`. digests: of each image of a split, b"" for one that is left out;
    sketches: per split, and which images they are of; None to look for equal images only.
    """
    same: defaultdict[bytes, list[Place]] = defaultdict(list)
    for part, own in digests.items():
        for index, digest in enumerate(own):
            if digest:
                same[digest].append((part, index))
    equal = {places[0]: places for places in same.values()}  # by the first of each
    exact = [
        _group(parts, [(place, "equal") for place in places], is_exact=True)
        for places in equal.values()
        if len(places) > 1
    ]
    if sketches is None:
        return Duplicates(tuple(exact), 0.0)
    near, radius = _near(sketches, equal)
    groups = [
        _group(parts, [(place, kind) for first, kind in chain for place in equal[first]])
        for chain in near
    ]
    return Duplicates((*exact, *groups), radius)


def firsts_of(groups: Sequence[DuplicateGroup], num: int) -> NDArray[np.int64]:
    """For each of the `num` images of one split the place of the first of its group, or its own."""
    firsts = np.arange(num, dtype=np.int64)
    for group in groups:  # exact ones first: a group of copies holds them whole
        places = [one.index for one in group.members]
        firsts[places] = min(places)
    return firsts


def _near(
    sketches: Mapping[str, tuple[Sketches, Sequence[int]]], equal: Mapping[Place, list[Place]]
) -> tuple[list[list[tuple[Place, str]]], float]:
    """Groups of copies, of the first of each set of equal images; what each is of the first."""
    firsts: list[Place] = []
    chosen = []
    for part, (own, indices) in sketches.items():
        kept = [k for k, index in enumerate(indices) if (part, index) in equal]
        chosen.append(own.take(np.array(kept, np.int64)))
        firsts += [(part, indices[k]) for k in kept]
    found, radius = copies(joined(chosen))
    chains = [[(firsts[place], kind) for place, kind in chain] for chain in chains_of(found)]
    return chains, radius


def chains_of(found: Sequence[Copy]) -> list[list[tuple[int, str]]]:
    """Copies of copies together: (place, what it is of the first), the first by place first."""
    beside: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for one in found:
        beside[one.first].append((one.second, one.kind))
        beside[one.second].append((one.first, one.kind))
    chains, seen = [], set()
    for start in sorted(beside):
        if start in seen:
            continue
        seen.add(start)
        chain = [(start, "equal")]
        for place, kind in chain:  # grows while it is read
            for other, edge in beside[place]:
                if other not in seen:
                    seen.add(other)
                    chain.append((other, _together(kind, edge)))
        chains.append(sorted(chain))
    return chains


def _together(kind: str, edge: str) -> str:
    """What the copy of a copy is: mirrored twice is not mirrored."""
    if "mirrored" in (kind, edge):
        return "copy" if kind == edge else "mirrored"
    return "recoloured" if "recoloured" in (kind, edge) else "copy"


def _group(
    parts: Mapping[str, Source], places: Sequence[tuple[Place, str]], *, is_exact: bool = False
) -> DuplicateGroup:
    members = [
        DuplicateMember(
            part, index, parts[part].source_id(index), label_text(parts[part], index), kind
        )
        for (part, index), kind in places
    ]
    order = list(parts)
    members.sort(key=lambda one: (order.index(one.split), one.index))
    return DuplicateGroup(tuple(members), is_exact)


def write_duplicates(groups: Sequence[DuplicateGroup], out: str | Path) -> Path:
    """duplicates.csv: a line for each image of each group."""
    rows = (
        (number, one.kind, one.split, one.source, one.label)
        for number, group in enumerate(groups, 1)
        for one in group.members
    )
    return write_csv(Path(out), COLUMNS, rows, replace=True)
