"""What the site of the documentation needs beside mkdocs: links to files outside docs/.

A page links to `../CONTRIBUTING.md` or to a result as one does in a repository. On the site such a
link leads to the repository; one that leads to nothing stops the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)(#[^)\s]*)?(?=\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page with links out of docs/ made links to the repository."""
    folder = ROOT / "docs" / Path(page.file.src_uri).parent

    def replaced(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve()
        if path.is_relative_to(ROOT / "docs"):
            return match[0]
        if not path.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {match[1]}: no such file")
        return f"{config['extra']['repository']}/blob/main/{path.relative_to(ROOT)}{match[2] or ''}"

    return LINK.sub(replaced, markdown)
