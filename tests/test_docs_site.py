"""The site of the documentation: every page in it, no broken link, nothing from another origin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.docs_site import on_page_markdown

ROOT = Path(__file__).parents[1]
CONFIG = {"extra": {"repository": "https://host/project"}}


def test_the_site_is_built(tmp_path: Path) -> None:
    """Strictly: a link or an anchor that leads nowhere, or a page that nothing lists, fails."""
    pytest.importorskip("mkdocs")
    words = [sys.executable, "-P", "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 40
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"?(https?:[^\" >]+)",
            page.read_text(encoding="utf-8"),
        )
        assert loaded == [], page
    index = (tmp_path / "site" / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "label smoothing" in index


def at(source: str, text: str) -> str:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=source))
    return on_page_markdown(text, page=page, config=CONFIG)


def test_links_out_of_the_documentation_lead_to_the_repository() -> None:
    assert at("a.md", "[x](../CONTRIBUTING.md#tests)") == (
        "[x](https://host/project/blob/main/CONTRIBUTING.md#tests)"
    )
    assert at("deploy/docker.md", "[x](../serve.md) [y](b.md)") == "[x](../serve.md) [y](b.md)"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        at("a.md", "[x](../nowhere.md)")
