"""What is wrong or unusual in a data set: `vitrail data check`, and the look before a training.

Every image is read and decoded once (`inspection.py`). Found are files that cannot be used, with
the reason; equal images (bytes of files, pixels of arrays) and copies of images, within and
across splits (`duplicates.py`), some with different labels; classes with few images or none; and
the facts that a run is planned with: sizes, gray images, channel statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.check.duplicates import DuplicateGroup, Duplicates, find_duplicates, firsts_of
from vitrail.data.check.inspection import (
    ImageStats,
    InspectOptions,
    bad_images,
    first_of_each,
    inspect_images,
    only_first,
    sketches_of,
)
from vitrail.data.check.near_duplicates import RADIUS
from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.sources.digest import DIGEST_BYTES, as_digests, fingerprint
from vitrail.data.sources.folder import lacks, some
from vitrail.data.sources.source import Source, Splits, subset
from vitrail.errors import DataError
from vitrail.files import write_csv
from vitrail.spelling import count, printable

__all__ = [
    "DataReport",
    "ImageStats",
    "bad_images",
    "check",
    "inspect_images",
    "require_good",
    "usable",
    "write_bad_files",
]

FEW_PICTURES = 5  # fewer training images of a class cannot be learned or measured
TINY_PX = 32  # short side
HUGE_PIXELS = 12_000_000  # slower to decode than a training step
IMBALANCE = 10.0  # largest class / smallest class


@dataclass(frozen=True)
class DataReport:
    """Everything `check` found. Image ids are those of `Source.source_id`."""

    name: str
    kind: str  # "files" or "arrays"
    how: str
    multi_label: bool
    classes: list[str]
    splits: dict[str, int]  # split -> images
    per_class: dict[str, dict[str, int]]  # class -> split -> images
    bad_files: list[tuple[str, str]]  # id, reason
    bad_per_split: dict[str, int]
    duplicates: list[list[str]]  # groups of equal images, one label, within one split
    leakage: list[list[str]]  # groups of equal images in several splits, as "split/..: id"
    conflicts: list[list[str]]  # groups of equal images with different labels, as "id (label)"
    groups: tuple[DuplicateGroup, ...]  # all of these, and groups of copies
    leaked: dict[str, int]  # held-out split -> its images that are equal to or copies of train's
    imbalance: float  # largest class / smallest class, training images
    few: list[str]  # classes with fewer than FEW_PICTURES training images
    absent: dict[str, list[str]]  # split -> classes without an image there
    num_gray: int
    num_tiny: int
    num_huge: int
    all_gray: bool
    sizes: dict[str, int]  # height_min height_median height_max width_min width_median width_max
    mean: list[float]  # per channel of the training images, of values in [0, 1]
    std: list[float]
    fingerprints: dict[str, str]
    notes: list[str]
    problems: list[str]  # one sentence each, worst first; empty: nothing found

    def to_json(self) -> dict[str, Any]:
        """Plain values for data_report.html and --json."""
        return asdict(self)


def check(
    splits: Splits,
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    pixels: bool = True,
    looks: Mapping[str, Sequence[ImageStats]] | None = None,
) -> DataReport:
    """Look at every image of `splits` with `workers` threads (0: this one), unless `looks` of
    each split, with sketches, are there already.

    With `pixels` False only headers are read: truncated files, gray images and copies are not
    found then.
    """
    parts = splits.parts()
    if looks is None:
        wanted = InspectOptions(sketch=True)
        looks = {
            part: inspect_images(
                source, max_pixels=max_pixels, workers=workers, pixels=pixels, wanted=wanted
            )
            for part, source in parts.items()
        }
    bad = {part: bad_images(parts[part], looks[part]) for part in parts}
    per_class = _per_class(splits)
    train_counts = [counts["train"] for counts in per_class.values()]
    duplicates = find_duplicates(
        parts,
        {part: [look.digest for look in own] for part, own in looks.items()},
        {part: sketches_of(parts[part], own) for part, own in looks.items()} if pixels else None,
    )
    good = [look for part in looks.values() for look in part if not look.reason]
    means, stds = _statistics([look for look in looks["train"] if look.mean])
    facts: dict[str, Any] = {
        "name": splits.name,
        "kind": splits.kind,
        "how": splits.how,
        "multi_label": splits.multi_label,
        "classes": list(splits.classes),
        "splits": {part: len(source) for part, source in parts.items()},
        "per_class": per_class,
        "bad_files": [row for rows in bad.values() for row in rows],
        "bad_per_split": {part: len(rows) for part, rows in bad.items()},
        **_equal(duplicates),
        "groups": duplicates.groups,
        "leaked": {
            part: n for part in parts if part != "train" and (n := len(duplicates.leaked(part)))
        },
        "imbalance": round(max(train_counts) / max(1, min(train_counts)), 2),
        "few": [name for name, own in per_class.items() if own["train"] < FEW_PICTURES],
        "absent": {
            part: names
            for part in parts
            if (names := [name for name, own in per_class.items() if not own[part]])
        },
        "num_gray": sum(look.gray for look in good),
        "num_tiny": sum(min(look.size) < TINY_PX for look in good if splits.kind == "files"),
        "num_huge": sum(look.size[0] * look.size[1] > HUGE_PIXELS for look in good),
        "all_gray": bool(good) and all(look.gray for look in good),
        "sizes": _sizes(good),
        "mean": means,
        "std": stds,
        "fingerprints": {
            part: fingerprint(known(source, looks[part])) for part, source in parts.items()
        },
        "notes": [
            *splits.notes,
            *only_first(
                [first_of_each(parts[part], dict(enumerate(looks[part]))) for part in parts],
                sum(map(len, parts.values())),
            ),
            *_looked(duplicates),
        ],
    }
    return DataReport(**facts, problems=_problems(facts, max_pixels))


def usable(
    source: Source, *, max_pixels: int = MAX_PIXELS, workers: int = 0
) -> tuple[Source, list[tuple[str, str]]]:
    """`source` without the images that cannot be decoded, and (id, reason) of each of those."""
    looks = inspect_images(source, max_pixels=max_pixels, workers=workers)
    bad = bad_images(source, looks)
    kept = np.array([i for i, look in enumerate(looks) if not look.reason], dtype=np.int64)
    source = known(source, looks)
    return (subset(source, kept) if bad else source), bad


def alike_firsts(source: Source, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int64]:
    """For each image the place of the first that it is equal to or a near-duplicate of. (n,)

    Every image is decoded; one that cannot be is like no other.
    """
    looks = inspect_images(source, max_pixels=max_pixels, wanted=InspectOptions(sketch=True))
    digests, sketches = [look.digest for look in looks], sketches_of(source, looks)
    found = find_duplicates({"train": source}, {"train": digests}, {"train": sketches})
    return firsts_of(found.groups, len(source))


def known(source: Source, looks: Sequence[ImageStats]) -> Source:
    """`source` with the digests that the looks at its images found."""
    if source.digests is not None:
        return source
    found = b"".join(look.digest or bytes(DIGEST_BYTES) for look in looks)
    return source.with_digests(as_digests(found))


def write_bad_files(bad: Iterable[tuple[str, str]], out: str | Path) -> Path:
    """bad_files.csv: a line path,reason for each image that cannot be used."""
    return write_csv(Path(out), ["path", "reason"], bad, replace=True)


def _statistics(looks: Sequence[ImageStats]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel over the images looked at."""
    if not looks:
        return [], []
    means = np.array([look.mean for look in looks]).mean(0)
    squares = np.array([look.mean_square for look in looks]).mean(0)
    stds: NDArray[Any] = np.sqrt(np.maximum(squares - means**2, 0))
    return [round(value, 6) for value in means.tolist()], [
        round(value, 6) for value in stds.tolist()
    ]


def _sizes(looks: Sequence[ImageStats]) -> dict[str, int]:
    if not looks:
        return {}
    table = np.array([look.size for look in looks])  # (n, 2)
    rows = {"min": table.min(0), "median": np.median(table, axis=0), "max": table.max(0)}
    return {
        f"{side}_{which}": int(row[place])
        for place, side in enumerate(("height", "width"))
        for which, row in rows.items()
    }


def _per_class(splits: Splits) -> dict[str, dict[str, int]]:
    counts = {}
    for part, source in splits.parts().items():
        labels = source.labels
        own = (
            labels.sum(0)
            if labels.ndim == 2
            else np.bincount(labels, minlength=len(splits.classes))
        )
        counts[part] = own.astype(np.int64).tolist()
    return {
        name: {part: own[number] for part, own in counts.items()}
        for number, name in enumerate(splits.classes)
    }


def _equal(duplicates: Duplicates) -> dict[str, list[list[str]]]:
    """Groups of equal images: harmless, in several splits, with different labels."""
    exact = [group for group in duplicates.groups if group.is_exact]
    return {
        "duplicates": [
            [one.source for one in group.members] for group in exact if not group.is_leakage
        ],
        "leakage": [[str(one) for one in group.members] for group in exact if group.is_leakage],
        "conflicts": [_labelled(group) for group in exact if group.is_conflict],
    }


def _labelled(group: DuplicateGroup) -> list[str]:
    return [f"{one.source} ({one.label})" for one in group.members]


def _looked(duplicates: Duplicates) -> list[str]:
    """How far copies were looked for, where that was not as far as usual."""
    if duplicates.radius in (0, RADIUS):
        return []
    return [
        "Many images look alike: near-duplicates are only those that differ by less "
        f"than {duplicates.radius:.2g} (usually {RADIUS:g})."
    ]


def _problems(facts: dict[str, Any], max_pixels: int) -> list[str]:
    found = (*_file_problems(facts, max_pixels), *_class_problems(facts), *facts["notes"])
    return list(dict.fromkeys(found))


def _file_problems(facts: dict[str, Any], max_pixels: int) -> Iterator[str]:
    total = sum(facts["splits"].values())
    if bad := facts["bad_files"]:
        shown = "; ".join(
            [f"{name}: {reason}" for name, reason in bad[:3]] + ["..."] * (len(bad) > 3)
        )
        yield (
            f"{len(bad)} of {count(total, 'image')} cannot be decoded: {shown}. "
            "Remove or fix them, or train without them: --on-bad-file skip"
        )
    if leaked := facts["leakage"]:
        yield (
            f"{count(len(leaked), 'image', 'is')} in several splits, so results would be too good: "
            f"{_group(leaked[0])}. Keep each in one split."
        )
    yield from _copy_problems(facts)
    if conflicts := facts["conflicts"]:
        yield (
            f"{count(len(conflicts), 'image', 'appears')} with different labels: "
            f"{_group(conflicts[0])}. "
            "Keep the right one."
        )
    if same := facts["duplicates"]:
        appear = count(len(same), "image", "appears")
        yield f"{appear} more than once in a split: {_group(same[0])}."
    if facts["num_tiny"]:
        yield f"{count(facts['num_tiny'], 'image', 'has')} a side below {TINY_PX} px."
    if facts["num_huge"]:
        yield (
            f"{count(facts['num_huge'], 'image', 'has')} more than {HUGE_PIXELS // 10**6} "
            "million pixels "
            f"(limit {max_pixels}): smaller copies load faster."
        )
    if facts["num_gray"] and not facts["all_gray"]:
        yield f"{facts['num_gray']} of {count(total, 'image')} are gray, the others in colour."


def _copy_problems(facts: dict[str, Any]) -> Iterator[str]:
    copied = [group for group in facts["groups"] if not group.is_exact]
    if leaked := [group for group in copied if group.is_leakage]:
        yield (
            f"{count(len(leaked), 'image', 'has')} a near-duplicate in another split (re-encoded, "
            f"resized, mirrored, recoloured): {_group([str(one) for one in leaked[0].members])}. "
            "vitrail data split keeps near-duplicates in one split."
        )
    for part, number in facts["leaked"].items():
        total = facts["splits"][part]
        yield (
            f"{number} of {total} {part} images ({100 * number / total:.1f} %) are also in "
            "train: these duplicates inflate the accuracy."
        )
    if conflicts := [group for group in copied if group.is_conflict]:
        yield (
            f"{count(len(conflicts), 'image', 'has')} a near-duplicate with another label: "
            f"{_group(_labelled(conflicts[0]))}. Keep the right one."
        )
    if same := [group for group in copied if not group.is_leakage]:
        names = [one.source for one in same[0].members]
        have = count(len(same), "image", "has")
        yield f"{have} a near-duplicate in the same split: {_group(names)}."


def _class_problems(facts: dict[str, Any]) -> Iterator[str]:
    if few := facts["few"]:
        have = count(len(few), "class", "has")
        yield f"{have} fewer than {FEW_PICTURES} training images: {some(few)}."
    for part, names in facts["absent"].items():
        yield lacks(part, names)
    if facts["imbalance"] > IMBALANCE:
        yield (
            f"the largest class has {facts['imbalance']:g} times the images of the smallest. "
            "--loss.class-weights balanced weighs them equally."
        )


def _group(names: Sequence[str], most: int = 3) -> str:
    return " = ".join(names[:most]) + (f" = ... ({len(names)} in all)" if len(names) > most else "")


def require_good(bad: Sequence[tuple[str, str]], total: int, full_list: str = "") -> None:
    """Raises DataError VIT-301 naming the images that cannot be used, where there are any."""
    if not bad:
        return
    lines = [f"  {name}   {reason}" for name, reason in bad[:10]]
    more = [f"  ... and {len(bad) - 10} more"] if len(bad) > 10 else []
    text = "\n".join([f"{len(bad)} of {count(total, 'image')} cannot be decoded.", *lines, *more])
    where = f"Full list: {printable(full_list)}. " if full_list else ""
    raise DataError(
        "VIT-301",
        text,
        hint=f"{where}Remove or fix them, or go on without them: --on-bad-file skip",
    )
