"""`make demo`: train, judge and explain a classifier of digits, as a user would type it."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vitrail.cli.main import main


def demo(extra: Sequence[str] = ()) -> int:
    """Run the tour; the exit code of the first command that fails, or 0.

    extra: options of `vitrail train` beside those of the tour.
    """
    run = Path("runs") / _new_name(Path("runs"))
    images = Path(tempfile.mkdtemp(prefix="vitrail-digits-")) / "digits"
    commands = [
        shlex.join(["vitrail", "train", "builtin:digits", "--name", run.name, *extra]),
        f"vitrail eval {run} --split test",
        f"vitrail data get digits {images}",
        "vitrail predict {run} {some} --top 3",
        "vitrail explain {run} {some} --method relevance --out {run}/explain",
        f"vitrail report {run}",
    ]
    for command in commands:
        if "{some}" in command:
            some = " ".join(str(path) for path in sorted(images.glob("test/*/*.png"))[::60][:3])
            command = command.format(run=run, some=some)
        sys.stdout.write(f"\n$ {command}\n")
        sys.stdout.flush()
        code = main(shlex.split(command)[1:])
        if code:
            return code
    sys.stdout.write(
        f"\nreport  {run}/report.html\n"
        f"        {run}/explain                why three images got their answers\n"
        "next    vitrail train PHOTOS/            your own folder PHOTOS/CLASS/IMAGE.jpg\n"
        "        vitrail data check PHOTOS/       what is wrong with it, before training\n"
    )
    return 0


def _new_name(runs: Path) -> str:
    number = 1
    while (runs / f"demo-{number}").exists():
        number += 1
    return f"demo-{number}"


if __name__ == "__main__":
    raise SystemExit(demo())
