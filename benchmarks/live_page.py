"""The live page of a run that trains (`vitrail report RUN --watch`), looked at by Chromium.

    python -m benchmarks.live_page [AXE] [--out docs/images]

Trains on the built-in digits until the page has curves, takes four pictures of it (light and dark,
a phone and a desk) and, with AXE (axe.min.js, see benchmarks/accessibility.py), checks each by the
rules of WCAG, level A and AA. Ends with 1 where one is broken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.accessibility import broken
from benchmarks.page_screenshots import OUT, shot, views

NAME = "digits-1"
TRAIN = f"train builtin:digits --model vit_digits --epochs 200 --threads 1 --name {NAME}"
EVALUATIONS = 4  # before the page is looked at: curves have points
WAIT_SECS = 900.0


@contextmanager
def running(words: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in `folder`, ended with the block."""
    command = [sys.executable, "-P", "-m", "vitrail", *words.split()]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for_curves(run: Path) -> None:
    """Until the run was evaluated a few times."""
    until = time.monotonic() + WAIT_SECS
    while time.monotonic() < until:
        log = run / "metrics.jsonl"
        if log.is_file() and log.read_text().count('"val/top1"') >= EVALUATIONS:
            return
        time.sleep(0.5)
    raise TimeoutError(f"{run} was not evaluated {EVALUATIONS} times")


def main() -> int:
    """Train, watch, look."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("axe", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    axe = given.axe.read_text(encoding="utf-8") if given.axe else ""
    total = seen = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with running(TRAIN, folder):
            wait_for_curves(folder / "runs" / NAME)
            with running(f"report runs/{NAME} --watch --json", folder) as server:
                assert server.stdout is not None
                url = json.loads(server.stdout.readline())["url"]
                for how, page in views():
                    with urllib.request.urlopen(url) as answer:  # asked again every 5 s by itself
                        page.set_content(answer.read().decode())
                    shot(page, given.out / f"live-{how}.png")
                    found = broken(page, axe) if axe else []
                    seen, total = seen + 1, total + len(found)
                    print(f"live page, {how}: {len(found)} broken")
                    for one in found:
                        print("  ", json.dumps(one))
    print(f"{total} broken rules in {seen} views")
    return int(total > 0)


if __name__ == "__main__":
    raise SystemExit(main())
