"""The weights that a run begins with where it starts from a model (`--from`): the model's, adapted
where the run has another size (`checkpoints/adapt/adapt_model.py`). The head is new unless rows are
kept by class name.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vitrail.checkpoints.adapt.adapt_model import adapt, target_config
from vitrail.config import TrainConfig
from vitrail.errors import UsageError
from vitrail.models.names import ModelConfig
from vitrail.training.plan.starting_model import Start, open_start

HEADS = ("head", "head_dist")  # first parts of their parameters' names


def starting_weights(
    config: TrainConfig, target: ModelConfig, classes: Sequence[str], start: Start | None = None
) -> tuple[dict[str, Tensor] | None, tuple[str, ...]]:
    """The weights that a run of `target` on `classes` starts with, and a sentence for each change;
    None without --from.

    start: the model where it is open; else it is opened, and let go: nothing holds it while a run
    trains. Raises what `open_start` raises, UsageError VIT-247 where rows are to be kept by name
    and no name is the same, ModelError VIT-450 to VIT-454.
    """
    if not config.start.model:
        return None, ()
    start = start or open_start(config.start)
    by_name = config.start.head == "by_name"
    if by_name and not set(start.classes) & set(classes):
        raise UsageError(
            "VIT-247",
            f"--start.head by_name: {start.path} knows none of the classes {_some(classes)}; it "
            f"knows {_some(start.classes) or 'no names'}.",
            hint="Leave it out: the head then starts anew.",
        )
    source, state = start.config, start.state
    if not by_name:  # the old head is none of ours, whatever its size
        source = target_config(source, num_classes=0)
        state = {name: value for name, value in state.items() if name.split(".")[0] not in HEADS}
    adapted, changes = adapt(
        state,
        source,
        target,
        resample=start.resample,
        classes=start.classes if by_name else (),
        target_classes=classes if target.num_classes else (),
        seed=config.seed,
    )
    return adapted, (*start.said, *changes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if names[5:] else "")
