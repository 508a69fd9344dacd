"""`vitrail lr-find DATA`: short trainings at several learning rates, one suggestion and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.output import Output, plain
from vitrail.cli.settings import layers_of
from vitrail.config import DURATIONS, SHORT
from vitrail.errors import UsageError
from vitrail.files import refuse_existing, write_together

if TYPE_CHECKING:
    from vitrail.training.lr_sweep import LrFind

app = app_of("vitrail lr-find")
WIDTH, HEIGHT, MARGIN = 640, 400, 60


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
        Pictures, as for vitrail train.
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
        out, {files[0].name: json.dumps(plain(record)) + "\n", files[1].name: plot(found)}
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


def plot(found: LrFind) -> str:
    """Validation loss over learning rate (logarithmic) as an SVG, the suggestion marked."""
    points = [
        (lr, loss) for lr, loss in zip(found.lrs, found.losses, strict=True) if math.isfinite(loss)
    ]
    lows, highs = (
        (min(loss for _, loss in points), max(loss for _, loss in points)) if points else (0.0, 1.0)
    )
    xs = [math.log10(lr) for lr in found.lrs] or [-5.0, 0.0]
    across = scale(min(xs), max(xs), MARGIN, WIDTH - 20)
    down = scale(lows, highs, HEIGHT - MARGIN, 20)
    path = " ".join(f"{across(math.log10(lr)):.1f},{down(loss):.1f}" for lr, loss in points)
    mark = across(math.log10(found.suggestion))
    ticks = [exponent for exponent in range(-8, 3) if min(xs) <= exponent <= max(xs)]
    marks = [
        f'<text x="{across(tick):.1f}" y="{HEIGHT - 36}" text-anchor="middle">1e{tick}</text>'
        for tick in ticks
    ]
    levels = [
        f'<text x="{MARGIN - 8}" y="{down(loss):.1f}" text-anchor="end">{loss:.2f}</text>'
        for loss in (lows, highs)
    ]
    return svg(
        [
            f'<polyline fill="none" stroke="#0072b2" stroke-width="2" points="{path}"/>',
            f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="20" y2="{HEIGHT - MARGIN}" '
            'stroke="#d55e00"/>',
            f'<text x="{mark:.1f}" y="14" text-anchor="middle">{found.suggestion:.1e}</text>',
            *marks,
            *levels,
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">learning rate</text>',
            '<text x="8" y="14">loss</text>',
        ]
    )


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The linear map that takes low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def svg(parts: Sequence[str]) -> str:
    """A whole SVG document."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join(
        [head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>", ""]
    )
