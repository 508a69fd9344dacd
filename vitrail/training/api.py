"""`vitrail.train("photos/", model="vit_s16", epochs=20)`: the names are those of the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.training import loop
from vitrail.training.determinism import unchanged_process
from vitrail.training.reporter import Reporter, RunResult


def train(
    data: str | Path,
    *,
    runs_dir: str | Path = "runs",
    name: str | None = None,
    reporter: Reporter | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> RunResult:
    """Train a classifier on `data` into a new directory of `runs_dir`.

    options: the command's options with underscores (model, recipe, epochs, time_limit, batch_size,
    lr, image_size, seed, ...; --from is from_). settings: any dotted setting,
    {"optim.weight_decay": 0.1}.
    An unknown one raises UsageError VIT-211. The process is left as it was: threads, torch's
    generators, deterministic mode.
    """
    given: dict[str, Any] = {"runs_dir": runs_dir, "name": name, **options, "settings": settings}
    named = {
        name.rstrip("_"): str(value) if isinstance(value, Path) else value
        for name, value in options.items()
    }
    layer = {"data.path": str(data), **named, **(settings or {})}
    with unchanged_process():
        return loop.train(
            [("arguments", layer)],
            runs_dir=Path(runs_dir),
            name=name,
            reporter=reporter,
            command=call_text(data, given),
        )


def call_text(data: str | Path, given: Mapping[str, Any]) -> str:
    """The call that repeats a run: `vitrail.train('photos', epochs=20)`."""
    plain = {key: str(one) if isinstance(one, Path) else one for key, one in given.items()}
    plain = {key: one for key, one in plain.items() if (key, one) != ("runs_dir", "runs")}
    words = [f"{key}={one!r}" for key, one in plain.items() if one is not None]
    return f"vitrail.train({', '.join([repr(str(data)), *words])})"


def resume(
    run_dir: str | Path, *, data: str | Path | None = None, reporter: Reporter | None = None
) -> RunResult:
    """Continue a run bit for bit from its newest whole checkpoint. data: where its data lies now,
    if it was moved. The process is left as it was, as by `train`.
    """
    place = None if data is None else str(data)
    with unchanged_process():
        return loop.resume(Path(run_dir), data=place, reporter=reporter)
