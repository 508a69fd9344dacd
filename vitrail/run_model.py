"""The model of a run that is not finished: the weights of its best evaluation so far.

A run that was interrupted, or still goes on, has no model/ yet. Once it has been evaluated its
checkpoints hold the weights that were judged best: averaged ones where the run keeps them. They are
read through their manifest (`runs/stored.py`), with architecture, preprocessing and class names as
the checkpoint has them, whatever became of run.json and data.json. What only training needs is
taken off: adapters are added to the layers that they change (`training/lora.py`), the predictor of
masked patches goes (`training/tasks/masked_patches.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError, VitrailError
from vitrail.folder import Folder
from vitrail.model_folder.bundle import Shapes, check_shapes
from vitrail.model_folder.model_record import refused
from vitrail.models.names import ModelConfig, config_from_numbers
from vitrail.runs import documents
from vitrail.runs.lock import holder_of
from vitrail.runs.stored import BestWeights, best_weights
from vitrail.spelling import count

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RunModel:
    """An ordinary model: name, architecture, preprocessing, class names and tensors, in memory.
    said: what was used, and what was passed over.
    """

    name: str
    config: ModelConfig
    preprocess: Preprocess
    classes: tuple[str, ...]
    multi_label: bool
    origin: str
    tensors: dict[str, Tensor]
    figures: Mapping[str, Any]
    data: str
    said: tuple[str, ...]


def is_run(path: Path) -> bool:
    """Whether `path` is a run directory."""
    return Folder(path).has("run.json")


def read_run_model(path: Path, shapes_of: Callable[[ModelConfig], Shapes]) -> RunModel:
    """The model of the best evaluation of the run at `path`.

    Raises ModelError VIT-405 (its checkpoints are damaged), VIT-409 (a file cannot be read),
    VIT-432 (it was never evaluated), VIT-434, VIT-439.
    """
    best = best_weights(path)
    if best is None:
        raise ModelError(
            "VIT-432",
            f"{path} is a run without a model: it is not finished and was not evaluated once.",
            hint=f"Continue it: vitrail train --resume {path}",
        )
    folder = Folder(path)
    record = documents.read(folder, "run.json") | dict(best.built)
    data = documents.read(folder, "data.json") | dict(best.data)
    name, family, numbers = documents.built(record, path / "run.json")
    try:
        config = config_from_numbers(family, numbers)
        preprocess = Preprocess.from_json(record["preprocess"])
    except VitrailError as error:
        raise refused(path / "run.json", error.message) from error
    classes = tuple(data.get("classes", ())) if config.num_classes else ()
    if len(classes) != config.num_classes:
        why = f"{count(len(classes), 'class')} for {count(config.num_classes, 'output')}"
        raise refused(path / "data.json", why)
    tensors = shipped(best.tensors, best.settings)
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    check_shapes(found, shapes_of(config), path / "checkpoints")
    start = record.get("from") or {}
    return RunModel(
        name=name,
        config=config,
        preprocess=preprocess,
        classes=classes,
        multi_label=bool(data.get("multi_label", False)),
        origin=str(start.get("origin", "")),
        tensors={key: value.float() for key, value in tensors.items()},
        figures=best.figures,
        data=str(data.get("name", "")),
        said=(*best.said, _used(path, best)),
    )


def _used(path: Path, best: BestWeights) -> str:
    figures = best.figures
    what = "averaged weights" if best.file == "ema" else "weights"
    state = "still trains" if holder_of(path) else "is not finished"
    return (
        f"{path} {state}: {what} of its best evaluation so far, step {figures['step']} (val/top1 "
        f"{figures.get('val/top1', float('nan')):.4f}); to go on: vitrail train --resume {path}"
    )


def shipped(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The ordinary model among the tensors that a run trains."""
    encoder = "encoder."
    if any(key.startswith(encoder) for key in tensors):
        return {
            key.removeprefix(encoder): value
            for key, value in tensors.items()
            if key.startswith(encoder)
        }
    scale = float(settings.get("lora.alpha", 0.0)) / max(1, int(settings.get("lora.rank", 0)))
    merged = {key: value for key, value in tensors.items() if ".lora_" not in key}
    for key, low in tensors.items():
        if key.endswith(".lora_a"):
            layer = key.removesuffix(".lora_a")
            weight, high = tensors[f"{layer}.weight"], tensors[f"{layer}.lora_b"]
            merged[f"{layer}.weight"] = with_adapter(weight, low, high, scale)
    return merged


def with_adapter(weight: Tensor, low: Tensor, high: Tensor, scale: float) -> Tensor:
    """The weight (out, in) of the dense layer that gives the same outputs as one with an adapter:
    low (rank, in), high (out, rank).
    """
    product = high.double() @ low.double()
    return (weight.double() + scale * product).to(weight.dtype)
