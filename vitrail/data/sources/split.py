"""Which images are held out: stratified by class, drawn from the seed alone, and written down.

A split depends on the labels in their order, the sizes, the seed and which images are equal, never
on the machine or the file system. An image with several labels counts for the rarest of them.
Images of equal content (`data/sources/digest.py`), and near-duplicates where these are looked for,
are drawn as one, by the first of them, and lie in one split: held out and trained on, they would
make every figure too good.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.digest import equal_firsts
from vitrail.data.sources.many_labels import ManyLabels
from vitrail.data.sources.source import Indices, Labels, Source, Splits, subset
from vitrail.errors import DataError
from vitrail.files import write_csv
from vitrail.spelling import count, escaped, is_formula

Fraction = float | Literal["auto"]
# The place of the first image that each is drawn with, (n,): of those that are the same.
Alike = Callable[[Source], Indices]
AUTO_SHARE = 0.15
AUTO_VAL_MOST = 5000  # images; more tell little and train nothing
_PURPOSES = {"test": 1, "val": 2, "train": 3}  # what is drawn, in the key of its numbers


def hold_out(
    labels: Labels,
    size: float | int,
    seed: int,
    purpose: Literal["val", "test"] = "val",
    firsts: Indices | None = None,
) -> tuple[Indices, Indices]:
    """(kept, held) sorted index arrays of `labels` int (n,) or 0/1 (n, C).

    `size` below 1 is a share, from 1 a count. The total is met as closely as two rules allow: every
    class with two images or more gives at least one, and every class keeps at least one. firsts:
    (n,) the place of the first image that each is equal to; equal ones count as one.
    """
    num = len(labels)
    if size == 0:
        return np.arange(num), np.zeros(0, np.int64)
    draws = drawn(num, seed, purpose)
    if firsts is None or (heads := np.flatnonzero(firsts == np.arange(num))).size == num:
        held = _held(labels, size, draws)
    else:
        held = np.zeros(num, bool)
        held[heads] = _held(labels[heads], size, draws[heads])
        held = _give_back(labels, held[firsts], firsts)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _held(
    labels: Labels, size: float | int, draws: NDArray[np.float64]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each image is held out. (n,)"""
    num = len(labels)
    groups = groups_of(labels)  # (n,)
    target = min(num, int(size) if size >= 1 else round(size * num))
    if target == 0:
        return np.zeros(num, bool)
    groups, counts = _numbered(groups)
    quotas = _quotas(counts, target)
    held = np.zeros(num, bool)
    held[_first(groups, draws, quotas)] = True
    if labels.ndim == 2:
        held = _give_back(labels, held, np.arange(num))
    return held


def _numbered(groups: Indices) -> tuple[Indices, Indices]:
    """The groups (n,) numbered in their order without gaps, and how many are in each."""
    shifted = groups - groups.min()
    counts = np.bincount(shifted)
    present = np.flatnonzero(counts)
    numbers = np.zeros(len(counts), np.int64)
    numbers[present] = np.arange(len(present))
    return numbers[shifted], counts[present]


def _first(groups: Indices, draws: NDArray[np.float64], quotas: Indices) -> Indices:
    """The places of the `quotas[g]` lowest draws of each group; most images are not sorted."""
    near = np.flatnonzero(draws < 2 * quotas.sum() / len(draws) + 0.01)
    if (np.bincount(groups[near], minlength=len(quotas)) < quotas).any():
        near = np.arange(len(draws))
    groups = groups[near]
    order = _by_group(groups, draws[near])
    counts = np.bincount(groups, minlength=len(quotas))
    rank = np.arange(len(near)) - np.repeat(np.cumsum(counts) - counts, counts)
    found: Indices = near[order[rank < np.repeat(quotas, counts)]]
    return found


def _by_group(groups: Indices, draws: NDArray[np.float64]) -> Indices:
    """All places by group, then by the draw: what np.lexsort gives, much sooner."""
    by_draw = np.argsort(draws, kind="stable")
    few = groups.astype(np.uint16) if groups.max(initial=0) < 2**16 else groups  # radix sort
    order: Indices = by_draw[np.argsort(few[by_draw], kind="stable")]
    return order


def drawn(num: int, seed: int, purpose: Literal["val", "test", "train"]) -> NDArray[np.float64]:
    """Random numbers (num,) in [0, 1) by which images are ranked: a function of the arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, _PURPOSES[purpose]])).random(num)


def groups_of(labels: Labels) -> Indices:
    """The class that each image counts for, (n,): its own, or the rarest of several, -1: none."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    if isinstance(labels, ManyLabels):
        return labels.rarest()
    counts = labels.sum(axis=0)  # (C,)
    rarity = np.where(labels > 0, counts, np.inf)  # (n, C)
    return np.where(labels.any(axis=1), rarity.argmin(axis=1), -1).astype(np.int64)


def complete(
    splits: Splits,
    *,
    val: Fraction = "auto",
    test: Fraction = "auto",
    seed: int = 0,
    automatic: tuple[int, int] | None = None,
    alike: Alike = equal_firsts,
) -> Splits:
    """The splits with what is missing held out of train; `alike` says which images are the same.

    "auto" takes 15 % for test where neither val nor test is given, and 15 % of the rest (at most
    5,000) for val; `automatic` are the counts (val, test) to use instead. Raises DataError VIT-318.
    """
    _check_fraction("val", val, splits.val)
    _check_fraction("test", test, splits.test)
    bare = splits.val is None and splits.test is None
    labels = splits.train.labels
    test_size = test if test != "auto" else 0
    if test == "auto" and bare:
        test_size = automatic[1] if automatic else AUTO_SHARE
    is_drawing = bool((test_size and not splits.test) or (val != 0 and not splits.val))
    if not is_drawing:
        return replace(splits, how=_sentence(splits, {}, seed), is_drawn=False)
    firsts = alike(splits.train)
    test_size = 0 if splits.test else test_size
    rest, test_indices = hold_out(labels, test_size, seed, "test", firsts)
    val_size = val if val != "auto" else min(AUTO_SHARE * len(rest), AUTO_VAL_MOST) / len(rest)
    if val == "auto" and automatic:
        val_size = automatic[0]
    val_size = 0 if splits.val else val_size
    of_rest = np.searchsorted(rest, firsts[rest])  # the same images are all in it, or none
    train, held = hold_out(labels[rest], val_size, seed, "val", of_rest)
    made = {"val": rest[held], "test": test_indices}
    how = _sentence(splits, made, seed)
    if num_same := int(np.count_nonzero(firsts != np.arange(len(firsts)))):
        same = "equal to another" if alike is equal_firsts else "near-duplicates of another"
        how += f"; {num_same} that are {same} lie in one split with it"
    given = {"val": splits.val, "test": splits.test}
    parts = {
        name: given[name] or (subset(splits.train, taken) if len(taken) else None)
        for name, taken in made.items()
    }
    kept = splits.train if len(train) == len(labels) else subset(splits.train, rest[train])
    is_drawn = any(len(taken) for taken in made.values())
    val_part, test_part = parts["val"], parts["test"]
    return replace(splits, train=kept, val=val_part, test=test_part, how=how, is_drawn=is_drawn)


def write_split(splits: Splits, out: str | Path) -> Path:
    """A table path,label,split of every image; no image is moved or deleted.

    Paths are relative to the folder of the data; put the table there, and it is the same data set:
    a name that a cell cannot hold as it is, is `escaped`.
    Raises DataError VIT-321 where `out` exists.
    """
    rows = (
        (_path(source, index), _label(source, index), part)
        for part, source in splits.parts().items()
        for index in range(len(source))
    )
    return write_csv(Path(out), ["path", "label", "split"], rows, refuse=_refuse_existing)


def _refuse_existing(out: Path) -> None:
    if os.path.lexists(out):
        raise DataError(
            "VIT-321",
            f"{out} exists; a table of a split is never overwritten.",
            hint="Name another file.",
        )


def label_text(source: Source, index: int) -> str:
    """The label as tables have it: a class name, or several joined by "|"."""
    label = source.labels[index]
    if source.labels.ndim == 1:
        return source.classes[int(label)]
    return "|".join(source.classes[k] for k in np.flatnonzero(label))


def _path(source: Source, index: int) -> str:
    path = source.raw_name(index)
    return _stored(path, also="\\")  # which a table may have in place of "/"


def _label(source: Source, index: int) -> str:
    label = source.labels[index]
    names = [int(label)] if source.labels.ndim == 1 else np.flatnonzero(label)
    return "|".join(_stored(source.classes[k], also="|") for k in names)


def _stored(name: str, also: str) -> str:
    """A name that a table gives back exactly, and that no spreadsheet computes."""
    if name != name.strip():
        also += " "
    return escaped(name, also + name[0] if is_formula(name) else also)


def _quotas(counts: Indices, target: int) -> Indices:
    """How many of each class are held: proportional, largest remainders first; 1..count-1 each."""
    shares = counts * (target / counts.sum())
    least, most = np.minimum(1, counts - 1), counts - 1
    quotas = np.clip(np.floor(shares).astype(np.int64), least, most)
    while missing := target - int(quotas.sum()):
        step = 1 if missing > 0 else -1
        room = np.flatnonzero(quotas < most if missing > 0 else quotas > least)
        if not len(room):
            break
        excess = step * (quotas[room] - shares[room])
        quotas[room[np.argsort(excess, kind="stable")][: abs(missing)]] += step
    return np.asarray(quotas, dtype=np.int64)


def _give_back(
    labels: Labels, held: np.ndarray[tuple[int], np.dtype[np.bool_]], firsts: Indices
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """`held` (n,) without one image, and its equals, of each class of which all were held."""
    held = held.copy()
    if isinstance(labels, ManyLabels):
        owned, all_of = labels.ids[held[labels.owners]], labels.sum(axis=0)
        gone = np.bincount(owned, minlength=len(all_of)) == all_of
        classes = [labels.of_class(int(number)) for number in np.flatnonzero(gone & (all_of > 0))]
    elif labels.ndim == 1:
        kept = np.unique(labels[~held])
        classes = [labels == number for number in np.setdiff1d(labels, kept)]
    else:
        classes = [labels[:, number] > 0 for number in np.flatnonzero(labels.any(axis=0))]
    for own in classes:
        if held[own].all():
            held[firsts == firsts[np.flatnonzero(own)[0]]] = False
    return held


def _check_fraction(part: str, fraction: Fraction, given: Source | None) -> None:
    if fraction == "auto":
        return
    if given is not None:
        raise DataError(
            "VIT-318",
            f"{part} fraction {fraction} would have no effect: the data has its own {part} split "
            f"of {count(len(given), 'image')}.",
            hint=f"Leave out --{part}-fraction.",
        )
    if not 0 <= fraction < 1:
        raise DataError("VIT-318", f"{part} fraction must be from 0 to below 1, got {fraction}.")


PART_NAMES = {"train": "train", "val": "validation", "test": "test"}


def _sentence(splits: Splits, made: dict[str, Indices], seed: int) -> str:
    given: Sequence[str] = list(splits.parts())
    total = len(splits.train)
    taken = {part: len(indices) for part, indices in made.items() if len(indices)}
    start = f"{', '.join(given)} as given" if len(given) > 1 else ""
    if not taken:
        return start or f"no split: {count(total, 'training image')}"
    sizes = {"train": total - sum(taken.values()), **taken}
    parts = ", ".join(f"{n:,} {PART_NAMES[part]}" for part, n in sizes.items())
    end = f"stratified split (seed {seed}): {parts}"
    return f"{start}; {end}" if start else end
