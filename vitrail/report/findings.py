"""What was found in the data, with pictures: equal pictures and copies, and doubtful labels.

The findings are the JSON objects of `data/check/duplicates.py` and `label_suspects.py`; the report
of a run and that of the data both show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.report.frame import TableCell, details, name, number, section, table, text
from vitrail.report.mistakes import frames_of
from vitrail.report.run_images import Finder
from vitrail.report.verdict import percent

SHOWN, TABLED = 12, 200  # groups as pictures, and as lines
MEMBERS = 3  # pictures of a group that are shown
SUSPECTS_SHOWN = 18
KINDS = {"equal": "", "copy": "saved again or resized", "mirrored": "mirrored",
         "recoloured": "in other colours"}  # fmt: skip

Group = Mapping[str, Any]


def leakage_section(record: Mapping[str, Any], pictures: Finder) -> list[str]:
    """Equal pictures and copies of a run's data, from audit.json."""
    found = record.get("duplicates") or {}
    notes = [str(one) for one in record.get("notes") or []]
    if not found and not notes:
        return []
    groups: list[Group] = list(found.get("shown") or [])
    lines = [_leak(split, leak) for split, leak in (record.get("leaks") or {}).items()]
    items = "".join(f"<li{'' if bad else fine()}>{text(line)}</li>" for line, bad in lines)
    parts = [f'<ul class="findings">{items}</ul>' if items else ""]
    parts += group_lists(groups, pictures)
    told = "".join(f"<li>{text(one)}</li>" for one in notes)
    parts.append(f'<ul class="notes">{told}</ul>' if notes else "")
    lead = ""
    if found:
        count = f"{found.get('groups', 0)} pictures occur" if groups else "No picture occurs"
        lead = (
            f"{count} more than once: equal files or pixels, and pictures that were saved again, "
            "resized, mirrored or recoloured. Crops are not found."
        )
    if groups:
        lead += " duplicates.csv lists all."
    return [section("leakage", "Leakage and duplicates", *parts, lead=text(lead))]


def fine() -> str:
    """The class of a finding that is none."""
    return ' class="fine"'


def _leak(split: str, leak: Mapping[str, Any]) -> tuple[str, bool]:
    """A sentence about a held-out split, and whether it is bad news."""
    number_leaked, n = int(leak.get("pictures", 0)), int(leak.get("n", 0))
    if not number_leaked:
        return f"No {split} picture is among the training pictures.", False
    line = f"{number_leaked} of {n} {split} pictures are also among the training pictures"
    top1, without = leak.get("top1"), leak.get("top1_without")
    if top1 is not None and without is not None:
        line += f": {percent(without, 2)} right without them, {percent(top1, 2)} with them"
    return line + ". Keep each with its copies in one split.", True


def group_lists(groups: Sequence[Group], pictures: Finder) -> list[str]:
    """The first groups as pictures, all as a table."""
    if not groups:
        return []
    cards = "".join(_group_card(group, pictures) for group in groups[:SHOWN])
    rows: list[list[TableCell | str]] = [
        [_members(group), number(len(group["members"]))] for group in groups[:TABLED]
    ]
    more = f" ({TABLED} of {len(groups)})" if len(groups) > TABLED else ""
    listed = details(f"As a list{more}", table(["pictures", "number"], rows))
    return [f'<ul class="pictures groups">{cards}</ul>', listed]


def _group_card(group: Group, pictures: Finder) -> str:
    members = group["members"]
    shown = _apart(members)[:MEMBERS]
    frames = frames_of(
        [(pictures.find(one["split"], one["source"]), one["source"]) for one in shown]
    )
    kinds = dict.fromkeys(KINDS.get(one["kind"], one["kind"]) for one in members[1:])
    words = ", ".join(kind for kind in kinds if kind) or "equal"
    return f'<li>{frames}<div class="said"><i>{text(words)}</i>{_members(group)}</div></li>'


def _apart(members: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The members, one of each split first."""
    firsts = {one["split"]: one for one in reversed(members)}
    order = [one for one in members if firsts[one["split"]] is one]
    return order + [one for one in members if firsts[one["split"]] is not one]


def _members(group: Group) -> str:
    members = group["members"]
    labels = {one["label"] for one in members}
    lines = []
    for one in _apart(members)[:20]:
        label = f" <b>{name(one['label'])}</b>" if len(labels) > 1 else ""
        lines.append(f"<small>{text(one['split'])}: {name(one['source'])}{label}</small>")
    more = f"<small>... {len(members)} in all</small>" if len(members) > 20 else ""
    same = f"<small>all {name(next(iter(labels)))}</small>" if len(labels) == 1 else ""
    return "".join(lines) + more + same


def labels_section(record: Mapping[str, Mapping[str, Any]], pictures: Finder) -> list[str]:
    """Doubtful labels; record: split -> the JSON object of its suspects."""
    if not record:
        return []
    found = [one for own in record.values() for one in own.get("found", [])]
    found.sort(key=lambda one: one["p_label"] - one["p_suggested"])
    lines = [text(_of_split(split, own)) for split, own in record.items()]
    notes = "".join(f"<li>{line}</li>" for line in lines)
    parts = [f'<ul class="notes">{notes}</ul>']
    if found:
        cards = "".join(_suspect_card(one, pictures) for one in found[:SUSPECTS_SHOWN])
        parts.append(f'<ul class="pictures">{cards}</ul>')
        parts.append(details("As a list", _suspect_table(found[:TABLED])))
    lead = (
        "Pictures whose label a model that has not learnt from them doubts most (confident "
        "learning). Some are hard pictures with the right label: look from the top."
    )
    return [section("labels", "Doubtful labels", *parts, lead=text(lead))]


def _of_split(split: str, own: Mapping[str, Any]) -> str:
    """Where the probabilities come from and how many labels they doubt."""
    if own.get("why_not"):
        return f"{split}: {own['why_not']}"
    count, n, top1 = int(own.get("suspects", 0)), int(own.get("n", 0)), float(own.get("top1", 0))
    return (
        f"{split}: {count} of {n} labels; judged by {own.get('origin', '')}, which agrees with "
        f"{percent(top1)} of the labels."
    )


def _suspect_card(one: Mapping[str, Any], pictures: Finder) -> str:
    frame = frames_of([(pictures.find(one["split"], one["source"]), one["source"])])
    return (
        f'<li>{frame}<div class="said"><i>labelled</i> <b>{name(one["label"])}</b> '
        f'{one["p_label"]:.2f}<br><i>looks like</i> <b class="wrong">{name(one["suggested"])}</b> '
        f"{one['p_suggested']:.2f}<small>{text(one['split'])}: {name(one['source'])}</small>"
        "</div></li>"
    )


def _suspect_table(found: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[TableCell | str]] = [
        [text(one["split"]), name(one["source"]), name(one["label"]), name(one["suggested"]),
         number(one["p_label"]), number(one["p_suggested"])]
        for one in found
    ]  # fmt: skip
    columns = ["split", "picture", "label", "looks like", "p of label", "p of other"]
    return table(columns, rows, sortable=True)
