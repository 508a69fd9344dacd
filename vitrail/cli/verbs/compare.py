"""`vitrail compare DATA`: compare architectures on your dataset, with learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.api.options import Machines
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.study_runner import execute, numbers

app = app_of("vitrail compare")


@app.default
def compare(
    data: str,
    /,
    *,
    models: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    budget: str | None = None,
    examples: int | None = None,
    seeds: int = 3,
    sizes: str | None = None,
    image_size: int | None = None,
    machines: Annotated[Machines | None, Parameter(name="*")] = None,
    out: Path = Path("compare"),
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Compare architectures on your dataset: learning curves and a recommendation.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    models
        Architectures with commas between, vit_s16,bit_r50x1,r26_vit_s32. Default: a small ViT, a
        small residual network, a small BiT-ResNet and a small hybrid that fit the images.
    from_
        Models whose weights to start from, with commas between; compared with those from scratch.
    budget
        How long it may take, 20m or 2h; the amount of training follows from it. Default: 20m.
    examples
        The amount of training instead of a budget: images that a run of the first model sees.
    seeds
        How many runs of every model and size.
    sizes
        Numbers of training images, 500,1000,2000. Default: 1/8, 1/4, 1/2 and all.
    image_size
        Pixels of a side. Default: the images' own up to 64, else 64.
    out
        Folder of comparisons.
    dry_run
        Say how many runs there are and how long they take, and stop.
    """
    from vitrail.api.study_setup import Length, comparison

    question = comparison(
        data,
        Length(budget, examples, seeds),
        machines or Machines(),
        output.command,
        models=[*filter(None, (models or "").split(","))],
        starts=[*filter(None, (from_ or "").split(","))],
        sizes=None if sizes is None else numbers("--sizes", sizes, int),
        image_size=image_size,
    )
    return execute(question, out, dry_run=dry_run, output=output)
