"""`--from MODEL`: what a new run takes over from a model.

Its architecture, adapted where the data or the user ask for another size
(`checkpoints/adapt/adapt_model.py`); its preprocessing, size apart; its weights. The head is new
unless rows are kept by class name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitrail.checkpoints.adapt.adapt_model import FREE_FIELDS, adapt, target_config
from vitrail.checkpoints.mapping.fact import elsewhere
from vitrail.config import StartConfig, TrainConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import Examples
from vitrail.errors import UsageError
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.training.plan.pinned_model import load_pinned

# Fields of the architecture that belong to other settings, and those without a tensor.
BY_DATA = {"image_size": "--image-size", "channels": "--data.channels", "num_classes": "DATA"}
REGULARISERS = ("dropout", "drop_path", "drop_path_schedule")
HEADS = ("head", "head_dist")  # first parts of their parameters' names
FREE = frozenset(FREE_FIELDS - set(BY_DATA))
Size = tuple[int, int]


@dataclass(frozen=True)
class Start:
    """A model to start from. origin: the library whose checkpoint it was, "" for vitrail; resample:
    its rule for position embeddings.
    """

    path: str
    sha256: str
    name: str
    config: ModelConfig
    preprocess: Preprocess
    classes: tuple[str, ...]
    origin: str
    resample: str
    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()  # what was said in reading it
    said: tuple[str, ...] = ()  # what its file does not say, a line each
    examples: Examples | str = ""  # what it was trained on, or why nobody can tell

    @property
    def multiple(self) -> Size:
        """What an image size of this model is a multiple of, (height, width) px."""
        if not isinstance(self.config, ViTConfig):
            return (1, 1)
        (height, width), (h, w) = self.config.seen_size, self.config.grid
        return max(1, height // h), max(1, width // w)


def open_start(config: StartConfig) -> Start:
    """The model that `config` names.

    Raises what `vitrail.load` raises, and ModelError VIT-404 where it is another one than before.
    """
    found, architecture_, sha256 = load_pinned(config.model, config.sha256, "start.model", config)
    return Start(
        path=config.model,
        sha256=sha256,
        name=found.meta.name,
        config=architecture_,
        preprocess=found.preprocess,
        classes=tuple(found.classes),
        origin=found.meta.origin,
        resample=found.meta.resample,
        state=found.model.state_dict(),
        notes=found.meta.notes,
        said=tuple(f"{fact.word} {fact.text()}" for fact in elsewhere(found.meta.facts)),
        examples=found.examples,
    )


def architecture(
    start: Start, size: Size, channels: int, num_classes: int, overrides: Mapping[str, Any]
) -> ModelConfig:
    """The start's architecture for a task. overrides: `--model.FIELD`, all of them in FREE.

    Dropout and stochastic depth are those of `overrides`, else off: how a model was regularised
    says nothing of the next task. Raises UsageError VIT-211, VIT-214, VIT-222.
    """
    target = target_config(
        start.config, num_classes=num_classes, image_size=size, channels=channels
    )
    fields = type(target).model_fields
    plain = {key: fields[key].default for key in REGULARISERS if key in fields}
    return type(target).model_validate(target.model_dump() | plain | dict(overrides))


def refuse_new_layers(overrides: Mapping[str, Any], start: Start) -> None:
    """Refuse layers that the start lacks where they would not be trained.

    overrides: `--model.FIELD` of a run whose body stays as it is. Raises UsageError VIT-254.
    """
    for key in set(overrides) & {"representation_size", "distillation_token"}:
        if str(overrides[key]).lower() != str(start.config.model_dump()[key]).lower():
            raise UsageError(
                "VIT-254",
                f"--model.{key} {overrides[key]}: a new layer would keep its random values, since "
                "the body is not trained (--freeze body or --lora-rank).",
                hint=f"Leave --model.{key} out, or train the whole model.",
            )


def refuse_architecture(name: str, overrides: Mapping[str, Any], start: Start) -> None:
    """Refuse another architecture than the start's. Raises UsageError VIT-245.

    name: `--model` where the user gave one, else "".
    """
    if name not in ("", start.name):
        raise UsageError(
            "VIT-245",
            f"--model {name}: the architecture is that of {start.path}, {start.name}.",
            hint="Leave --model out, or leave --from out to start from random values.",
        )
    for key in overrides:
        if key in BY_DATA:
            raise UsageError(
                "VIT-245",
                f"--model.{key}: with --from it follows from {BY_DATA[key]}.",
                hint=f"Use {BY_DATA[key]}.",
            )
        if key not in FREE:
            raise UsageError(
                "VIT-245",
                f"--model.{key}: the architecture is that of {start.path}; with --from only "
                f"{', '.join(sorted(FREE))} can be others.",
                hint="Leave it out, or leave --from out to start from random values.",
            )


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


def at_size(preprocess: Preprocess, size: Size, channels: int) -> Preprocess:
    """`preprocess` for another image size and number of channels: the same rule, in proportion."""
    height, width = size
    resize: int | Size
    if preprocess.crop == "none":
        resize = size
    elif isinstance(preprocess.resize, int):
        share = preprocess.resize / min(preprocess.height, preprocess.width)
        resize = math.floor(min(size) * share + 1e-6)
    else:
        rows, cols = preprocess.resize
        resize = (
            math.floor(height * rows / preprocess.height + 1e-6),
            math.floor(width * cols / preprocess.width + 1e-6),
        )
    values = preprocess.model_dump() | {"height": height, "width": width, "resize": resize}
    for key in ("mean", "std"):
        values[key] = in_channels(values[key], channels)
    return Preprocess(**values)


def in_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Statistics of colours for gray pictures, their mean, and the other way round."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
