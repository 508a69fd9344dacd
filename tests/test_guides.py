"""The guides do what they say: every command, in its order, and the index names every page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.cli_command import run
from tests.shown_commands import commands, photos, serve, small

DOCS = Path(__file__).parents[1] / "docs"
HEAVY = pytest.mark.slow  # what README.md shows as well is run in any case
GUIDES = (
    pytest.param("first-model", marks=HEAVY),
    pytest.param("fine-tune", marks=HEAVY),
    "clean-data",
    pytest.param("compare-models", marks=HEAVY),
    pytest.param("deploy", marks=HEAVY),
    pytest.param("tune", marks=HEAVY),
    "time-and-memory",
    "from-timm-and-huggingface",
)
ELSEWHERE = ("hf:", "paper.masked_patches", "study head", "--short-side", "--resume", "--dry-run")


@pytest.mark.parametrize("name", GUIDES)
def test_commands_of_a_guide_run_in_their_order(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Downloads are left out, and what tests of its own run."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    if name != "first-model":
        photos(tmp_path / "photos")
    for line in commands(page):
        if any(word in line for word in ELSEWHERE):
            continue
        if line.startswith("vitrail serve "):
            Image.fromarray(np.full((17, 20, 3), 210, np.uint8)).save(tmp_path / "new.jpg")
            classes = ("cat", "dog") if name != "first-model" else "0123456789"
            serve(tmp_path / line.split()[2], tmp_path, classes)
            continue
        needs = re.search(r"(?<=--from |eacher )runs/photos-1|(?<!--)runs/photos-1", line)
        if needs and not (tmp_path / "runs" / "photos-1").exists():
            assert run(*small("vitrail train photos/")).code == 0
        done = run(*small(line))
        assert done.code == 0, f"{line}\n{done.err}"


def test_the_chapter_is_the_same_in_both_languages() -> None:
    """Headings, figures, commands, names and places; words differ."""
    shared = r"^#+(?= )|(?<=\]\()(?!how-vit)[^)]+|^    .*$|`[^`\n]+`"
    ours, theirs = (
        re.findall(shared, (DOCS / name).read_text(encoding="utf-8"), re.M)
        for name in ("how-vit-works.md", "how-vit-works.zh-CN.md")
    )
    assert len(ours) > 25
    assert sorted(theirs) == sorted(ours)


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w.-]+\.md)", index))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}
