"""The pictures of the served page in docs/images, by Chromium (extra `browser`).

python -m benchmarks.page_screenshots MODEL IMAGE...
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "images"
SIZES = {360: 900, 1280: 900}
COLOURS = 64  # of the files: they stay below 120 kB


def views() -> Iterator[tuple[str, Page]]:
    """(how it is shown, an empty page) in Chromium: light and dark, a phone and a desk."""
    with sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme in ("light", "dark"):
            for width, height in SIZES.items():
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="light" if scheme == "light" else "dark",
                    bypass_csp=True,  # a check is a script of another origin
                )
                yield f"{width}-{scheme}", page
                page.close()
        browser.close()


def answer(page: Page, url: str, images: list[str]) -> None:
    """The served page with answers, the first of them explained."""
    page.goto(url)
    page.set_input_files("#pick", images)
    page.locator(".explain").nth(len(images) - 1).wait_for()
    page.locator(".explain").first.click()
    page.locator(".explain[aria-pressed=true]").wait_for()


def shoot(url: str, images: list[str], out: Path) -> None:
    """Four pictures of the served page."""
    for how, page in views():
        answer(page, url, images)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        shot(page, out / f"page-{how}.png")


def shot(page: Page, place: Path) -> None:
    """What is seen of a page, as a small PNG."""
    page.screenshot(path=place)
    found = Image.open(place).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    found.save(place, optimize=True)


def main() -> None:
    """Serve the model by torch, which can explain, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("images", nargs="+")
    given = parser.parse_args()
    words = [sys.executable, "-m", "vitrail", "serve", given.model, "--engine", "torch"]
    words += ["--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            wait_for(f"{url}/v2/health/ready")
            OUT.mkdir(exist_ok=True)
            shoot(url, given.images, OUT)
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    """Until it answers 200."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


if __name__ == "__main__":
    main()
