"""The pictures of pages in docs/images, from runs on the built-in digits (extra `browser`).

python -m benchmarks.readme_pictures [--keep FOLDER]

The report, the explanations, and the comparison of models with its learning curves; each light and
dark, on a desk (1280 px) and on a phone (360 px).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.accessibility import vitrail
from benchmarks.page_screenshots import OUT, shot, views

COMMANDS = (
    "data get digits digits",
    "train digits --model auto-vit --epochs 40 --name vit",
    "report runs/vit",
    "explain runs/vit digits/test/3/0029.png digits/test/7/0162.png --sheet all --out explained",
    "compare digits --budget 6m --models vit_digits,resnet_ti --image-size 8",
)
PAGES = {  # name: (file, what is scrolled to)
    "report": ("runs/vit/report.html", ""),
    "curves": ("runs/vit/report.html", "#curves"),
    "explain": ("explained/explain.html", ""),
    "compare": ("compare/digits/study.html", ""),
    "learning-curves": ("compare/digits/study.html", "#figures"),
}


def take(folder: Path, out: Path) -> None:
    """Four pictures of each page that there is."""
    for how, page in views():
        for name, (file, part) in PAGES.items():
            page.goto((folder / file).as_uri())
            if part:
                page.locator(part).evaluate("one => one.scrollIntoView({behavior: 'instant'})")
            shot(page, out / f"{name}-{how}.png")


def main() -> None:
    """Train, draw, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, help="a folder for the runs, which may hold them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.keep or Path(made)
        folder.mkdir(exist_ok=True)
        for words in COMMANDS if not (folder / "compare").exists() else ():
            vitrail(words, folder)
        take(folder, OUT)


if __name__ == "__main__":
    main()
