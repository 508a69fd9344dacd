"""The trackers that there are, by their names on the command line."""

from __future__ import annotations

from importlib.util import find_spec

from vitrail.errors import UsageError, lacking, nearest
from vitrail.trackers.mlflow_store import MLflowStore
from vitrail.trackers.tensorboard_files import TensorBoardFiles
from vitrail.trackers.tracker import Tracker
from vitrail.trackers.wandb_offline import WandbOffline

TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoardFiles,
    "mlflow": MLflowStore,
    "wandb": WandbOffline,
}


def trackers_of(names: str) -> list[Tracker]:
    """The trackers of "tensorboard,mlflow"; none of "". Raises UsageError VIT-202 for a name that
    is none, EnvironmentFault VIT-520 where its package is not installed.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in TRACKERS:
            raise UsageError(
                "VIT-202",
                f"--track {name}: unknown tracker. {nearest(name, list(TRACKERS))}",
                hint=f"There are {', '.join(TRACKERS)}.",
            )
    for name in asked:
        if find_spec(name) is None:
            raise lacking(f"--track {name}", name, name)
    return [TRACKERS[name]() for name in dict.fromkeys(asked)]
