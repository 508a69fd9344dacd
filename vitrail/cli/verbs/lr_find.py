"""`vitrail lr-find DATA`: short trainings at several learning rates, one suggestion and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.settings import layers_of

app = app_of("vitrail lr-find")


@app.default
def lr_find(
    data: str,
    /,
    *,
    config: Path | None = None,
    out: Path = Path("lr-find"),
    output: Annotated[Output, Parameter(parse=False)],
    settings: Annotated[Any, Parameter(parse=False)],
) -> int:
    """Suggest a learning rate: compare short trainings at several rates on validation images.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    config
        Settings in a TOML file.
    out
        Folder for lr_find.json and lr_find.svg; must not hold them yet.
    """
    from vitrail.api.learning_rate import files_in, find_rate, refuse_without_effect, to_json
    from vitrail.cli.display.console import ConsoleReporter

    refuse_without_effect(settings)
    found = find_rate(layers_of(data, config, settings), out, ConsoleReporter(output))
    files = files_in(out)
    lines = [
        f"suggestion  --lr {found.suggestion:.1e}",
        found.sentence,
        f"plot  {files[1]}",
        f"next  vitrail train {data} --lr {found.suggestion:.1e}",
    ]
    output.result({**to_json(found), "files": files}, lines)
    return 0
