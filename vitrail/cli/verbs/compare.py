"""`vitrail compare DATA`: compare architectures on your dataset, with learning curves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.study_runner import (
    Machines,
    asked_of,
    check_counts,
    engines_of,
    execute,
    numbers,
)

if TYPE_CHECKING:
    from vitrail.studies.experiments.compare_models import PretrainedModel
    from vitrail.studies.setup import Setup

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
    machines: Machines | None = None,
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
        small BiT-ResNet and a small hybrid that fit the images.
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
    from dataclasses import replace

    from vitrail.studies.experiments.compare_models import STUDY

    machines = machines or Machines()
    check_counts(examples, seeds, image_size, machines)
    setup = setup_of(data, models, from_, sizes, image_size, seeds, machines)
    asked = asked_of(budget, examples, machines, setup, output)
    name = re.sub(r"[^\w.-]+", "-", setup.name).strip("-.") or "data"
    asked = replace(asked, folder=name)
    return execute(
        STUDY,
        setup,
        asked,
        engines_of(machines, asked, setup),
        out,
        dry_run=dry_run,
        output=output,
        shown="val/top1",
    )


def setup_of(
    data: str,
    models: str | None,
    starts: str | None,
    sizes: str | None,
    image_size: int | None,
    seeds: int,
    machines: Machines,
) -> Setup:
    """What the cells follow from. Raises UsageError VIT-221 for an unknown model."""
    from dataclasses import replace

    from vitrail.device import pick_device
    from vitrail.studies.experiments.compare_models import FRACTIONS
    from vitrail.studies.setup import open_setup, share_sizes

    choices: dict[str, object] = {
        "models": tuple(filter(None, (models or "").split(","))),
        "starts": tuple(map(opened, filter(None, (starts or "").split(",")))),
    }
    if image_size is not None:
        choices["image_size"] = image_size
    setup = open_setup(
        data,
        examples=0,
        seeds=tuple(range(seeds)),
        device=str(pick_device(machines.device)),
        threads=machines.threads,
        accumulate=machines.accumulate,
        choices=choices,
    )
    found = share_sizes(setup.num_train, setup.num_classes, FRACTIONS)
    if sizes is not None:
        found = tuple(sorted(set(numbers("--sizes", sizes, int))))
    return replace(setup, sizes=found)


def opened(path: str) -> PretrainedModel:
    """Weights to start from. Raises ModelError where they cannot be read."""
    from vitrail.models.cost import macs
    from vitrail.studies.experiments.compare_models import PretrainedModel
    from vitrail.training.plan.pinned_model import load_pinned

    _, config, sha256 = load_pinned(path, "", "--from")
    return PretrainedModel(Path(path).name or path, path, sha256, macs(config))
