"""data_report.html: what a look at the data found, as one page in the frame of the run report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitrail.report.findings import group_lists, labels_section
from vitrail.report.frame import PageSection, Table, TableCell, name, number, page
from vitrail.report.run_images import Finder, NoImages
from vitrail.spelling import count

MAX_ROWS = 500


def data_page(data: str, report: Mapping[str, Any], images: Finder | None = None) -> str:
    """The page about `report`, the JSON object of data.check's DataReport, of the data at `data`;
    "label_suspects" may stand beside its entries. Without `pictures` there are none on it.

    Entries that are missing are left out.
    """
    images = images or NoImages("")
    problems = [str(one) for one in report.get("problems", [])]
    found = {"problems": problems, "notes": report.get("notes", [])}
    sections = [PageSection("findings", "Findings", found), images_section(report)]
    if report.get("per_class"):
        sections.append(classes_section(report["per_class"]))
    if report.get("bad_files"):
        sections.append(bad_section(report["bad_files"]))
    sections += groups_sections(report.get("groups") or [], images)
    if "label_suspects" in report:
        sections += labels_section({"all": report["label_suspects"]}, images)
    told = {"data": data, "verdict": verdict(problems), "how": report.get("how", "")}
    return page(f"{data} - vitrail data report", PageSection("data_head", "", told), sections)


def verdict(problems: Sequence[str]) -> str:
    """The headline."""
    if not problems:
        return "No problems found"
    return "1 problem found" if len(problems) == 1 else f"{len(problems)} problems found"


def images_section(report: Mapping[str, Any]) -> PageSection:
    """A card: counts, sizes, colour."""
    splits, sizes = report.get("splits") or {}, report.get("sizes") or {}
    counts = ", ".join(f"{part} {n:,}" for part, n in splits.items())
    median = f"{sizes.get('height_median', '?')} x {sizes.get('width_median', '?')} px"
    spans = ", ".join(
        f"{side} {sizes[f'{side}_min']} to {sizes[f'{side}_max']}"
        for side in ("height", "width")
        if f"{side}_min" in sizes
    )
    odd = [(report.get(f"num_{kind}", 0), kind) for kind in ("tiny", "huge", "gray")]
    card = [
        ("Images", f"{sum(splits.values()):,}", counts),
        ("Classes", str(len(report.get("classes", []))), f"{report.get('imbalance', 1)} to 1"),
        ("Median size", median if sizes else "", spans),
        ("Unusual", ", ".join(f"{n} {kind}" for n, kind in odd), ""),
        ("Mean", _numbers(report.get("mean", [])), "per channel, of values from 0 to 1"),
        ("Standard deviation", _numbers(report.get("std", [])), ""),
    ]
    return PageSection("pictures", "Images", {"card": card}, template="facts")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def classes_section(per_class: Mapping[str, Mapping[str, int]]) -> PageSection:
    """A row a class, the largest first."""
    splits = list(dict.fromkeys(split for counts in per_class.values() for split in counts))
    totals = {key: sum(counts.values()) for key, counts in per_class.items()}
    most = max(totals.values(), default=0) or 1
    chosen = sorted(totals, key=lambda key: -totals[key])
    if len(chosen) > MAX_ROWS:
        chosen = chosen[: MAX_ROWS // 2] + chosen[-MAX_ROWS // 2 :]
    rows = [
        [
            name(key),
            *(number(int(per_class[key].get(split, 0))) for split in splits),
            number(totals[key], bar=totals[key] / most),
        ]
        for key in chosen
    ]
    lead = f"{count(len(per_class), 'class')}"
    if len(chosen) < len(per_class):
        lead += f"; the {MAX_ROWS // 2} largest and the {MAX_ROWS // 2} smallest are shown"
    table = Table(["class", *splits, "together"], rows, is_sortable=True)
    return PageSection("classes", "Classes", {"rows": table}, f"{lead}.", "table")


def bad_section(bad: Sequence[Sequence[str]]) -> PageSection:
    """Files that cannot be used, with the reason."""
    rows: list[list[TableCell | str]] = [
        [TableCell(source, "code"), reason] for source, reason in bad[:MAX_ROWS]
    ]
    more = f" The first {MAX_ROWS} are shown; bad_files.csv has all." if len(bad) > MAX_ROWS else ""
    say = f"{count(len(bad), 'file')} cannot be used.{more} Remove or fix them, or train without: "
    return PageSection("bad", "Bad files", {"say": say, "rows": Table(["file", "reason"], rows)})


def groups_sections(groups: Sequence[Mapping[str, Any]], images: Finder) -> list[PageSection]:
    """Equal images and copies: across splits, with different labels, and the others."""
    left = list(groups)
    found = []
    for key, title, lead, is_one in GROUPS:
        own = [one for one in left if is_one(one)]
        left = [one for one in left if not is_one(one)]
        if own:
            found.append(PageSection(key, title, group_lists(own, images), lead, "groups"))
    return found


def _spans(group: Mapping[str, Any]) -> bool:
    return len({one["split"] for one in group["members"]}) > 1


def _contradicts(group: Mapping[str, Any]) -> bool:
    return len({one["label"] for one in group["members"]}) > 1


GROUPS: tuple[tuple[str, str, str, Callable[[Mapping[str, Any]], bool]], ...] = (
    (
        "leakage",
        "Leakage",
        "The same images in several splits: their figures flatter the model. "
        "vitrail data split keeps copies in one split.",
        _spans,
    ),
    (
        "conflicts",
        "Conflicting labels",
        "The same images with different labels: one is wrong.",
        _contradicts,
    ),
    ("duplicates", "Duplicates", "The same images within a split.", lambda _: True),
)
