"""`vitrail tune DATA`: try settings within a budget of time, choose by validation images.

Repeat the command to continue a killed or interrupted search; finished trials stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.display.study_progress import verdict_lines
from vitrail.cli.settings import layers_of

app = app_of("vitrail tune")
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


@app.default
def tune(
    data: str,
    /,
    *,
    over: list[str] | None = None,
    budget: str = "30m",
    trials: int | None = None,
    config: Path | None = None,
    out: Path = Path("tune"),
    output: Annotated[Output, Parameter(parse=False)],
    settings: Annotated[Any, Parameter(parse=False)],
) -> int:
    """Search for better settings within a time budget, by validation images alone.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    over
        A setting and its range, once or more: optim.lr=1e-4..1e-2, augment.policy=none,randaugment.
        Default: rate, decay of weights and label smoothing, around what train would take.
    budget
        How long it may take, 20m or 2h.
    trials
        How many trials instead of as many as the budget has time for.
    config
        Settings of all trials in a TOML file.
    out
        Folder of searches.
    """
    from vitrail.api.tuning import Asked, tuned

    layers = layers_of(data, config, settings)
    asked = Asked(layers, tuple(over or ()), budget, trials, out, output.command)
    found = tuned(asked, output)
    stopped = found.found.stopped
    if stopped:
        output.result(
            {"folder": found.folder, "trials": len(found.found.rows), "stopped": stopped},
            [f"stopped ({stopped}); repeat the command to continue"],
        )
        return EXIT_CODES.get(stopped, 0)
    lines = verdict_lines(found.verdict, found.tables)
    if found.next_commands:
        lines += ["", f"written  {found.folder}/study.html  best.toml  table.csv"]
        lines += [f"next     {one}" for one in found.next_commands]
    record = {"folder": found.folder, "verdict": found.verdict, "facts": found.facts}
    output.result({**record, "stopped": None}, lines)
    return 0
