"""A small run that was stopped, its files damaged in one place, and what --resume makes of it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.training.running import TINY, StopAt, records, weights
from vitrail.errors import VitrailError
from vitrail.training import loop
from vitrail.training.reporter import SilentReporter

# The best evaluation is at step 6, the run is stopped after step 12 of 14.
SETTINGS = {**TINY, "steps": 14, "ema": 0.9, "save_every_steps": 4}


class Listening(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


@dataclass(frozen=True)
class Fault:
    """One file of a run, damaged: a bit flipped, the end cut off, or the file gone."""

    file: str
    kind: str
    place: float  # share of the file

    def __str__(self) -> str:
        return f"{self.kind} {self.file} at {self.place:.3f}"

    def apply(self, run: Path) -> None:
        path = run / self.file
        data = bytearray(path.read_bytes())
        at = min(len(data) - 1, int(self.place * len(data)))
        if self.kind == "gone":
            path.unlink()
        elif self.kind == "cut":
            path.write_bytes(data[:at])
        else:
            data[at] ^= 1 << int(self.place * 8e6) % 8
            path.write_bytes(data)


@dataclass(frozen=True)
class Outcome:
    """How --resume ended. refused: codes of the refusals on the way to the end."""

    finished: bool
    same: bool
    said: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def is_silent(self) -> bool:
        """Finished with other bits, and nothing was said."""
        return self.finished and not self.same and not self.said and not self.refused


def stopped_run(folder: Path, name: str = "run", **changes: object) -> Path:
    """A run stopped after step 12."""
    settings = {**SETTINGS, **changes}
    loop.train(
        [("test", settings)], runs_dir=folder, name=name, reporter=StopAt(12), with_report=False
    )
    return folder / name


def ended(run: Path) -> list[str]:
    """Continue the run to its end; what was said."""
    reporter = Listening()
    loop.resume(run, reporter=reporter, with_report=False)
    return reporter.said


def faults(run: Path, count: int, seed: int, files: Sequence[str] = ()) -> list[Fault]:
    """One of each kind for each file that a run is continued from, or those of `files`, then random
    ones.
    """
    chance = random.Random(seed)
    files = list(files)
    if not files:
        found = [path.relative_to(run).as_posix() for path in sorted(run.glob("checkpoints/*/*"))]
        files = [*found, "config.toml", "metrics.jsonl"]
    pairs = [(file, kind) for kind in ("flip", "cut", "gone") for file in files]
    chance.shuffle(pairs)
    drawn = (pairs * (count // len(pairs) + 1))[:count]
    return [Fault(file, kind, chance.random()) for file, kind in drawn]


def outcome(whole: Path, golden: Path, fault: Fault, place: Path) -> Outcome:
    """What becomes of a copy of `whole` with that fault, compared with the run that ended well.

    Where --resume refuses, the way out that it names is taken: config.toml is removed.
    """
    run = place / "run"
    shutil.copytree(whole, run)
    fault.apply(run)
    said: list[str] = []
    refused: list[str] = []
    for _ in range(2):
        try:
            said += ended(run)
        except VitrailError as error:
            refused.append(f"{error.code} {error.exit_code}")
            (run / "config.toml").unlink(missing_ok=True)
        else:
            break
    if any(code[-1] not in "2345" for code in refused):
        raise ValueError(f"{fault}: {refused}")
    record = run / "run.json"
    finished = record.is_file() and b'"status": "finished"' in record.read_bytes()
    same = finished and weights(run) == weights(golden) and records(run) == records(golden)
    shutil.rmtree(run)
    return Outcome(finished, same, tuple(said), tuple(refused))


Judge = Callable[[Fault], Outcome]
