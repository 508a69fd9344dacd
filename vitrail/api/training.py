"""`vitrail.train("photos/", model="vit_s16", epochs=20)`: the names are those of the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from vitrail.api.options import (
    TrainOptions,
    call_text,
    check_profile,
    layer_of,
    shows_options,
)
from vitrail.cli.display.in_python import reporter_of
from vitrail.trackers.registry import trackers_of
from vitrail.trackers.tracker import tracked
from vitrail.training import loop
from vitrail.training.determinism import unchanged_process
from vitrail.training.reporter import Reporter, RunResult


@shows_options
def train(
    data: str | Path,
    *,
    runs_dir: str | Path = "runs",
    name: str | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    profile: int = 0,
    track: str = "",
    settings: Mapping[str, Any] | None = None,
    **options: Unpack[TrainOptions],
) -> RunResult:
    """Train a classifier on `data` into a new directory of `runs_dir`.

    data: as for `vitrail train`: a folder DATA/CLASS/IMAGE, a CSV file, "builtin:digits" ...
    progress: print the plan, a line for each evaluation and the result, and show how far it is;
    False is silent. reporter: hears all of it instead. profile: so many steps are recorded by
    torch's profiler, in profile/ of the run. track: tensorboard, mlflow, wandb (names with commas),
    which get the figures too, on this machine. options: the command's options with
    underscores (model, recipe, epochs, time_limit, batch_size, lr, image_size, seed ...; --from is
    from_). settings: any dotted setting, {"optim.weight_decay": 0.1}. The process is left as it
    was: threads, torch's generators, deterministic mode.

    Raises UsageError VIT-211 for an unknown option, VIT-212 and VIT-213 for values, VIT-202 for
    profile and track; DataError for data that cannot be used, before anything is written;
    EnvironmentFault VIT-520 for a tracker that is not installed; TrainingError VIT-601 where it
    diverges.
    """
    layer = layer_of(data, options, settings)
    check_profile(profile)
    shown = tracked(reporter or reporter_of(progress=progress), trackers_of(track))
    given: dict[str, Any] = {"runs_dir": runs_dir, "name": name, **options, "settings": settings}
    given |= {"profile": profile or None, "track": track or None}
    with unchanged_process():
        return loop.train(
            [("arguments", layer)],
            runs_dir=Path(runs_dir),
            name=name,
            reporter=shown,
            command=call_text("train", data, given),
            profile=profile,
        )


def resume(
    run_dir: str | Path,
    *,
    data: str | Path | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    profile: int = 0,
    track: str = "",
) -> RunResult:
    """Continue a run bit for bit from its newest whole checkpoint.

    data: where its data lies now, if it was moved. progress, reporter, profile, track, and how the
    process is left: as by `train`.

    Raises ModelError VIT-405 to VIT-410 (no run, finished, damaged, other settings), DataError
    VIT-322 where the data changed, EnvironmentFault VIT-504 where another process trains there.
    """
    place = None if data is None else str(data)
    check_profile(profile)
    shown = tracked(reporter or reporter_of(progress=progress), trackers_of(track))
    with unchanged_process():
        return loop.resume(Path(run_dir), data=place, reporter=shown, profile=profile)
