"""data_report.html from the record of a check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.report.checked_page import Checked
from tests.report.made_run import HOSTILE
from vitrail.data.check.check_data import check
from vitrail.data.sources.open_data import open_data
from vitrail.report.data_page import data_page
from vitrail.report.frame import shown
from vitrail.report.run_images import Pixels


def group(
    names: list[str], splits: list[str] | None = None, labels: list[str] | None = None
) -> dict[str, Any]:
    """A group of equal images as data.check's JSON has it."""
    keys = zip(names, splits or ["train"] * len(names), labels or ["x"] * len(names), strict=False)
    members = [
        {"split": split, "index": 0, "source": source, "label": label, "kind": "copy"}
        for source, split, label in keys
    ]
    return {"members": members, "is_exact": False}


class Red:
    """A red image for every name."""

    def find(self, split: str, source: str) -> Pixels | None:
        return np.full((31, 17, 3), (255, 0, 0), np.uint8)


def test_copies_are_shown_with_their_images() -> None:
    found = [group(["a", "b"], splits=["train", "test"]), group(["c", "d", "e", "f"])]
    page = data_page("photos", {"problems": ["x"], "groups": found}, Red())
    Checked(page)
    assert page.count("<img") == 2 + 3
    assert page.index('id="leakage"') < page.index('id="duplicates"')
    assert 'id="conflicts"' not in page


def test_a_real_check(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        folder = tmp_path / ("cat" if i % 2 else "dog & <b>")
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (41, 37, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "cat" / "1.png").write_bytes(b"nothing")
    report = check(open_data(tmp_path)).to_json()
    page = data_page(str(tmp_path), report)
    words = " ".join(Checked(page).words)
    assert "dog & <b>" in words
    assert "cat/1.png" in words
    assert report["problems"]
    for problem in report["problems"]:
        assert shown(problem) in words


def test_hostile_names_and_every_kind_of_finding() -> None:
    name = HOSTILE[0]
    report = {
        "problems": [f"bad {name}"],
        "notes": [name],
        "how": name,
        "classes": [name],
        "splits": {"train": 3, "val": 1},
        "per_class": {key: {"train": 2, "val": 1} for key in HOSTILE},
        "bad_files": [(one, one) for one in HOSTILE] * 200,
        "groups": [
            group(HOSTILE[:2], splits=["train", "val"]),
            group(HOSTILE[2:], labels=HOSTILE),
            group(HOSTILE[1:]),
            group(["a", "b"]),
        ],
        "label_suspects": {
            "n": 3,
            "suspects": 1,
            "top1": 0.9,
            "origin": HOSTILE[1],
            "why_not": "",
            "found": [
                dict(
                    split="train",
                    source=HOSTILE[0],
                    label=HOSTILE[2],
                    suggested=HOSTILE[3],
                    p_label=0.1,
                    p_suggested=0.9,
                )
            ],
        },
        "mean": [0.5],
        "std": [0.25],
        "imbalance": 2.0,
    }
    page = data_page(name, report)
    checked = Checked(page)
    assert page.count("<script>") == 1
    words = " ".join(checked.words)
    assert "1 problem found" in words
    assert "The first 500 are shown" in words
    assert "Conflicting labels" in words
    assert page.count("image not available") == 2 + 3 + 3 + 2 + 1
    for one in HOSTILE:
        assert shown(one) in words


def test_nothing_wrong() -> None:
    page = data_page("photos", {"problems": [], "splits": {"train": 7}, "classes": ["a", "b"]})
    assert "No problems found" in page
    assert "Every image can be used." in page
    Checked(page)
