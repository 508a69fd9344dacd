"""`vitrail lr-find DATA`: short trainings at several learning rates, one suggestion and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, plain
from vitrail.cli.settings import layers_of
from vitrail.config import DURATIONS, SHORT
from vitrail.errors import UsageError
from vitrail.figures.plot import Figure, Series, plot
from vitrail.files import refuse_existing, write_together

if TYPE_CHECKING:
    from vitrail.training.lr_sweep import LrFind

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
    files = [out / "lr_find.json", out / "lr_find.svg"]
    refuse_existing(*files, hint="Choose another folder: --out")
    refuse_without_effect(settings)
    from vitrail.training.lr_sweep import lr_find as search
    from vitrail.training.reporter import SilentReporter

    found = search(layers_of(data, config, settings), reporter=SilentReporter())
    record = {
        "suggestion": found.suggestion,
        "default": found.default,
        "lrs": list(found.lrs),
        "losses": list(found.losses),
        "sentence": found.sentence,
    }
    write_together(
        out, {files[0].name: json.dumps(plain(record)) + "\n", files[1].name: drawn(found)}
    )
    lines = [
        f"suggestion  --lr {found.suggestion:.1e}",
        found.sentence,
        f"plot  {files[1]}",
        f"next  vitrail train {data} --lr {found.suggestion:.1e}",
    ]
    output.result({**record, "files": files}, lines)
    return 0


def refuse_without_effect(settings: Mapping[str, str]) -> None:
    """Raise UsageError VIT-203 for a rate or a duration: the trainings have their own."""
    for key in settings:
        if SHORT.get(key, key) in ("optim.lr", *DURATIONS):
            raise UsageError(
                "VIT-203",
                f"--{key.replace('_', '-')} has no effect on lr-find, which compares rates.",
                hint="Leave it out.",
            )


def drawn(found: LrFind) -> str:
    """Validation loss over learning rate (logarithmic) as an SVG file, the suggestion marked."""
    points = Series("validation loss", found.lrs, found.losses)
    title = f"Validation loss of short trainings; {found.suggestion:.1e} is suggested"
    mark = (f"{found.suggestion:.1e}", found.suggestion)
    figure = Figure("lr_find", title, "learning rate", "loss", [points], log_x=True, mark=mark)
    return plot(figure).file()
