"""What was found in the data, with images: equal images, near-duplicates and possible label errors.

The findings are the JSON objects of `data/check/duplicates.py` and `label_suspects.py`; the report
of a run and that of the data both show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.report.frame import PageSection, Table, name, number
from vitrail.report.mistakes import Frame, framed
from vitrail.report.run_images import Finder
from vitrail.report.verdict import percent
from vitrail.spelling import count

SHOWN, TABLED = 12, 200  # groups as images, and as lines
MEMBERS, NAMED = 3, 20  # of a group, as images and by name
SUSPECTS_SHOWN = 18
KINDS = {
    "equal": "",
    "copy": "re-encoded or resized",
    "mirrored": "mirrored",
    "recoloured": "recoloured",
}

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Members:
    """Images that are the same: the first of them, one of each split before the others; how many
    there are, and the label that all have, if they have one.
    """

    shown: list[Group]
    number: int
    label: str | None


def leakage_section(record: Mapping[str, Any], images: Finder) -> list[PageSection]:
    """Equal images and copies of a run's data, from audit.json."""
    found = record.get("duplicates") or {}
    notes = [str(one) for one in record.get("notes") or []]
    if not found and not notes:
        return []
    groups: list[Group] = list(found.get("shown") or [])
    leaks = [_leak(split, leak) for split, leak in (record.get("leaks") or {}).items()]
    lead = ""
    if found:
        occur = count(found.get("groups", 0), "image", "occurs") if groups else "No image occurs"
        lead = (
            f"{occur} more than once: equal files or pixels, and near-duplicates (re-encoded, "
            "resized, mirrored or recoloured). Crops are not found."
        )
    if groups:
        lead += " duplicates.csv lists all."
    told = {"leaks": leaks, "notes": notes, **group_lists(groups, images)}
    return [PageSection("leakage", "Leakage and duplicates", told, lead)]


def _leak(split: str, leak: Mapping[str, Any]) -> tuple[str, bool]:
    """A sentence about a held-out split, and whether it is bad news."""
    number_leaked, n = int(leak.get("pictures", 0)), int(leak.get("n", 0))
    if not number_leaked:
        return f"No {split} image is among the training images.", False
    line = f"{number_leaked} of {n} {split} images are also among the training images"
    top1, without = leak.get("top1"), leak.get("top1_without")
    if top1 is not None and without is not None:
        line += f": {percent(without, 2)} right without them, {percent(top1, 2)} with them"
    return line + ". vitrail data split keeps copies in one split.", True


def group_lists(groups: Sequence[Group], images: Finder) -> dict[str, Any]:
    """What groups.html is told: the first groups as images, all as a list."""
    return {
        "cards": [_group_card(group, images) for group in groups[:SHOWN]],
        "listed": [_members(group) for group in groups[:TABLED]],
        "number": len(groups),
    }


def _group_card(group: Group, images: Finder) -> tuple[list[Frame], str, Members]:
    members = group["members"]
    frames = [_framed(one, images) for one in _apart(members)[:MEMBERS]]
    kinds = dict.fromkeys(KINDS.get(one["kind"], one["kind"]) for one in members[1:])
    words = ", ".join(kind for kind in kinds if kind) or "equal"
    return frames, words, _members(group)


def _framed(one: Mapping[str, Any], images: Finder) -> Frame:
    return framed(images.find(one["split"], one["source"]), one["source"])


def _apart(members: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The members, one of each split first."""
    firsts = {one["split"]: one for one in reversed(members)}
    order = [one for one in members if firsts[one["split"]] is one]
    return order + [one for one in members if firsts[one["split"]] is not one]


def _members(group: Group) -> Members:
    members = group["members"]
    labels = {one["label"] for one in members}
    return Members(
        _apart(members)[:NAMED], len(members), next(iter(labels)) if len(labels) == 1 else None
    )


def labels_section(record: Mapping[str, Mapping[str, Any]], images: Finder) -> list[PageSection]:
    """Possible label errors; record: split -> the JSON object of its suspects."""
    if not record:
        return []
    found = [one for own in record.values() for one in own.get("found", [])]
    found.sort(key=lambda one: one["p_label"] - one["p_suggested"])
    lead = (
        "Images whose label a model that was not trained on them finds least likely (confident "
        "learning). Some are hard images with the right label: start at the top."
    )
    told = {
        "lines": [_of_split(split, own) for split, own in record.items()],
        "cards": [([_framed(one, images)], one) for one in found[:SUSPECTS_SHOWN]],
        "suspects": _suspect_table(found[:TABLED]),
    }
    return [PageSection("labels", "Possible label errors", told, lead)]


def _of_split(split: str, own: Mapping[str, Any]) -> str:
    """Where the probabilities come from and how many labels they doubt."""
    if own.get("why_not"):
        return f"{split}: {own['why_not']}"
    doubted, n, top1 = int(own.get("suspects", 0)), int(own.get("n", 0)), float(own.get("top1", 0))
    return (
        f"{split}: {doubted:,} of {count(n, 'label')}; probabilities from "
        f"{own.get('origin', '')}, which agrees with "
        f"{percent(top1)} of the labels{_strength(own)}."
    )


def _strength(own: Mapping[str, Any]) -> str:
    """How well a list of a weak judge finds wrong labels; "" of a strong one."""
    said = own.get("strength")
    return f"; {said['sentence']}" if isinstance(said, Mapping) else ""


def _suspect_table(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            one["split"],
            name(one["source"]),
            name(one["label"]),
            name(one["suggested"]),
            number(one["p_label"]),
            number(one["p_suggested"]),
        ]
        for one in found
    ]
    columns = ["split", "image", "label", "looks like", "p of label", "p of other"]
    return Table(columns, rows, is_sortable=True)
