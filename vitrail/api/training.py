"""`vitrail.train("photos/", model="vit_s16", epochs=20)`: the names are those of the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from vitrail.api.options import TrainOptions, call_text, layer_of, shows_options
from vitrail.cli.display.in_python import reporter_of
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
    settings: Mapping[str, Any] | None = None,
    **options: Unpack[TrainOptions],
) -> RunResult:
    """Train a classifier on `data` into a new directory of `runs_dir`.

    data: as for `vitrail train`: a folder DATA/CLASS/IMAGE, a CSV file, "builtin:digits" ...
    progress: print the plan, a line for each evaluation and the result, and show how far it is;
    False is silent. reporter: hears all of it instead. options: the command's options with
    underscores (model, recipe, epochs, time_limit, batch_size, lr, image_size, seed ...; --from is
    from_). settings: any dotted setting, {"optim.weight_decay": 0.1}. The process is left as it
    was: threads, torch's generators, deterministic mode.

    Raises UsageError VIT-211 for an unknown option, VIT-212 and VIT-213 for values; DataError for
    data that cannot be used, before anything is written; TrainingError VIT-601 where it diverges.
    """
    layer = layer_of(data, options, settings)
    given: dict[str, Any] = {"runs_dir": runs_dir, "name": name, **options, "settings": settings}
    with unchanged_process():
        return loop.train(
            [("arguments", layer)],
            runs_dir=Path(runs_dir),
            name=name,
            reporter=reporter or reporter_of(progress=progress),
            command=call_text("train", data, given),
        )


def resume(
    run_dir: str | Path,
    *,
    data: str | Path | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
) -> RunResult:
    """Continue a run bit for bit from its newest whole checkpoint.

    data: where its data lies now, if it was moved. progress, reporter, and how the process is left:
    as by `train`.

    Raises ModelError VIT-405 to VIT-410 (no run, finished, damaged, other settings), DataError
    VIT-322 where the data changed, EnvironmentFault VIT-504 where another process trains there.
    """
    place = None if data is None else str(data)
    with unchanged_process():
        return loop.resume(
            Path(run_dir), data=place, reporter=reporter or reporter_of(progress=progress)
        )
