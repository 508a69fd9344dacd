"""data_report.html from the record of a check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.evaluation.checked_page import Checked
from tests.evaluation.made_run import HOSTILE
from vitrail.data.check import check
from vitrail.data.sources import open_data
from vitrail.evaluation.data_page import data_page
from vitrail.evaluation.page import shown


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
        "duplicates": [HOSTILE],
        "leakage": [HOSTILE],
        "conflicts": [HOSTILE],
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
    for one in HOSTILE:
        assert shown(one) in words


def test_nothing_wrong() -> None:
    page = data_page("photos", {"problems": [], "splits": {"train": 7}, "classes": ["a", "b"]})
    assert "No problems found" in page
    assert "Every picture can be used." in page
    Checked(page)
