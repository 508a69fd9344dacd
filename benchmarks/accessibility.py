"""Every page that Vitrail writes or serves, checked by axe-core in Chromium (extra `browser`).

    npm pack axe-core && tar xzf axe-core-*.tgz package/axe.min.js
    python -m benchmarks.accessibility package/axe.min.js [--site build/site]

Pages of built-in digits: report, explanations, data check, study, search, the served page with
answers; of the documentation, where `make site` has built it. Each in light and dark, on a phone
and on a desk, with the rules of WCAG 2.0 to 2.2, level A and AA. Ends with 1 where one is broken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from benchmarks.page_screenshots import answer, views, wait_for

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SITE = ("index.html", "first-model.html", "cli.html", "performance.html", "studies/index.html")
MADE = (
    "data get digits images",
    "train images --steps 200 --threads 2 --model.depth 2 --name one",
    "report runs/one",
    "data check images --labels --out data-report",
    "explain runs/one images/test/3/0029.png images/test/7/0162.png --sheet all --out explained",
    "compare images --examples 300 --seeds 1 --models vit_digits,resnet_ti --image-size 8",
    "tune images --steps 20 --trials 3 --threads 2",
)


def vitrail(words: str, folder: Path) -> None:
    """Run a command in `folder`."""
    command = [sys.executable, "-P", "-m", "vitrail", *words.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"vitrail {words}\n{done.stderr}")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the page that serves the run."""
    words = [sys.executable, "-P", "-m", "vitrail", "serve", "runs/one", "--engine", "torch"]
    words += ["--port", "0", "--json"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            wait_for(f"{url}/v2/health/ready")
            yield url
        finally:
            process.terminate()


def broken(page: Page, axe: str) -> list[dict[str, Any]]:
    """The rules that a page breaks, with the first elements of each."""
    page.evaluate(axe)
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES
    )
    return [
        {
            "rule": one["id"],
            "impact": one["impact"],
            "what": one["help"],
            "elements": [node["html"][:160] for node in one["nodes"][:3]],
            "why": one["nodes"][0]["failureSummary"][:300],
        }
        for one in found["violations"]
    ]


def main() -> int:
    """Make the pages, look at each, print what is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("axe", type=Path)
    parser.add_argument("--site", type=Path)
    given = parser.parse_args()
    axe, total, seen = given.axe.read_text(encoding="utf-8"), 0, 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for words in MADE:
            vitrail(words, folder)
        pages = [(str(path.relative_to(folder)), path.as_uri()) for path in html_of(folder)]
        if given.site:
            pages += [(f"docs {name}", (given.site / name).resolve().as_uri()) for name in SITE]
        with served(folder) as url:
            for how, page in views():
                for name, address in [*pages, ("served", url)]:
                    if name == "served":
                        answer(page, address, [str(folder / "images/test/3/0029.png")])
                    else:
                        page.goto(address)
                    found = broken(page, axe)
                    seen, total = seen + 1, total + len(found)
                    print(f"{name}, {how}: {len(found)} broken")
                    for one in found:
                        print("  ", json.dumps(one))
    print(f"{total} broken rules in {seen} views")
    return int(total > 0)


def html_of(folder: Path) -> list[Path]:
    """The pages that commands wrote."""
    return sorted(path for path in folder.rglob("*.html") if "model" not in path.parts)


if __name__ == "__main__":
    raise SystemExit(main())
