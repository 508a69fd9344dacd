"""From a user's settings to a complete plan: nothing left "auto", every choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.config import TrainConfig, build, flatten, resolve
from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.data.sources.examples import Examples
from vitrail.data.sources.open_data import Splits, open_as
from vitrail.device import MOST_THREADS, memory_bytes, num_cores, pick_device, pick_precision
from vitrail.errors import DataError, EnvironmentFault, UsageError
from vitrail.models.names import ModelConfig, config_from_numbers, resolve_model
from vitrail.recipes.registry import recipe
from vitrail.runs import documents
from vitrail.training.optim import batch_statistics
from vitrail.training.optim.schedule import check_schedule
from vitrail.training.plan import auto
from vitrail.training.plan.auto_start import pictures_of, recipe_name, settle, take_over
from vitrail.training.plan.compatibility import check_compatible, check_teacher
from vitrail.training.plan.facts import Facts, measure
from vitrail.training.plan.starting_model import (
    Start,
    architecture,
    at_size,
    in_channels,
    open_start,
    starting_weights,
)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Layers = Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """A run before its first step.

    choices: (setting, value, why) for all that was "auto". changes: what --from adapts, a sentence
    each. origin: the library that its weights come from, "" for vitrail.
    """

    config: TrainConfig
    sources: dict[str, str]
    choices: tuple[tuple[str, Any, str], ...]
    splits: Splits
    facts: Facts
    model: ModelConfig
    preprocess: Preprocess
    changes: tuple[str, ...] = ()
    origin: str = ""
    before: Examples | str = ""  # what the model of --from was trained on, or why nobody can tell

    @property
    def steps_per_epoch(self) -> float:
        """Steps that one pass over the training pictures takes."""
        assert isinstance(self.config.batch_size, int)
        return len(self.splits.train) / self.config.batch_size

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing of it before the first step."""
        return batch_statistics.sentences(self.config, self.model)

    @property
    def eval_every(self) -> int:
        """Steps between evaluations."""
        return max(1, round(float(self.config.eval_every_epochs) * self.steps_per_epoch))

    @property
    def total_steps(self) -> int | None:
        """Length of the run; None where a time limit decides."""
        config = self.config
        if config.steps is not None:
            return config.steps
        if config.examples is not None:
            return max(1, config.examples // int(config.batch_size))
        if config.epochs is not None:
            return max(1, round(config.epochs * self.steps_per_epoch))
        return None


def plan_run(
    layers: Layers, recorded: Mapping[str, Any] | None = None, splits: Splits | None = None
) -> Plan:
    """Resolve `layers` against the data and the machine.

    Layers go from low to high: --config, VITRAIL_*, command line. recorded: run.json of the run
    that is resumed, which then says what the model of --from brought; splits: its images.
    Raises UsageError and DataError before any work is done, ModelError for --from and --teacher.
    """
    asked, _ = resolve(layers)
    splits = splits or _open(asked)
    facts = measure(splits.train)
    start = open_start(asked.start) if asked.start.model and recorded is None else None
    name, why = recipe_name(asked, facts, start)
    settings = recipe(name, pictures_of(facts, start))
    config, sources = resolve([(f"recipe {name}", flatten(settings)), *layers])
    chosen = auto.Chosen(config, sources, facts)
    chosen.set("recipe", name, why)
    if start is not None:
        take_over(chosen, start)
    auto.fill(chosen, multi_label=splits.multi_label)
    settle(chosen, start)
    config = build(chosen.values, chosen.sources)
    if config.objective == "classify":
        _check_splits(splits)
    if config.distill.teacher:
        config = check_teacher(config, splits.classes)
    if recorded is not None and config.start.model:
        model, preprocess, origin = _recorded(recorded)
    else:
        model = _model(config, splits, start)
        preprocess = preprocess_of(config, facts, start)
        origin = start.origin if start is not None else ""
    choices = tuple(chosen.reasons)
    plan = Plan(config, chosen.sources, choices, splits, facts, model, preprocess, origin=origin)
    _check(plan)
    if recorded is None:  # a run goes on with the cores that there are
        _check_threads(config)
    if start is None:
        return plan
    _, changes = starting_weights(config, model, splits.classes, start)
    changes = (*start.notes, *changes)
    return replace(plan, changes=changes, before=start.examples)


def _open(asked: TrainConfig) -> Splits:
    if not asked.data.path:
        raise UsageError(
            "VIT-201",
            "DATA is missing: what to train on.",
            hint="For instance: vitrail train builtin:digits",
        )
    return open_as(asked.data, asked.seed, min_classes=1 if _learns_no_labels(asked) else 2)


def _learns_no_labels(asked: TrainConfig) -> bool:
    return asked.objective == "masked_patches" or asked.recipe == "paper.masked_patches"


def _model(config: TrainConfig, splits: Splits, start: Start | None) -> ModelConfig:
    """The architecture of a run; without a head where no labels are learnt."""
    classes = len(splits.classes) if config.objective == "classify" else 0
    size, channels = _pair(config.data.image_size), int(config.data.channels)
    if start is not None:
        return architecture(start, size, channels, classes, config.model.overrides)
    return resolve_model(
        config.model.name,
        num_classes=classes,
        image_size=size,
        channels=channels,
        overrides=config.model.overrides,
    )


def _recorded(run: Mapping[str, Any]) -> tuple[ModelConfig, Preprocess, str]:
    """Architecture, preprocessing and origin as run.json has them."""
    _, family, numbers = documents.built(run, Path("run.json"))
    model = config_from_numbers(family, numbers)
    start = run.get("from") or {}
    return model, Preprocess.from_json(run["preprocess"]), str(start.get("origin", ""))


def preprocess_of(config: TrainConfig, facts: Facts, start: Start | None = None) -> Preprocess:
    """The evaluation preprocessing of a run."""
    data = config.data
    size, channels = _pair(data.image_size), int(data.channels)
    means, stds = _statistics(config, facts, start)
    interpolation = data.interpolation
    if data.resize == "source":
        assert start is not None
        kept = at_size(start.preprocess, size, channels)
        changes: dict[str, Any] = {"mean": means, "std": stds}
        if interpolation != "source":
            changes |= {"interpolation": interpolation, "resizer": "pillow", "antialias": True}
            changes["keep_floats"] = False
        return Preprocess(**(kept.model_dump() | changes))
    squash = data.resize == "squash"
    if interpolation == "source":
        assert start is not None
        kind = start.preprocess.crop_interpolation
    else:
        kind = interpolation
    return Preprocess(
        height=size[0],
        width=size[1],
        resize=size if squash else short_side(min(size), data.crop_fraction),
        crop="none" if squash else "center",
        interpolation=kind,
        mean=means,
        std=stds,
    )


def _statistics(
    config: TrainConfig, facts: Facts, start: Start | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel."""
    channels, kind = int(config.data.channels), config.data.normalize
    if kind == "source" and start is not None:
        means, stds = start.preprocess.mean, start.preprocess.std
    elif kind == "dataset":
        means, stds = facts.mean, facts.std
    elif kind == "imagenet" and channels == 3:
        means, stds = IMAGENET
    else:
        means, stds = (0.5,), (0.5,)
    return in_channels(means, channels), in_channels(stds, channels)


def _pair(size: tuple[int, int] | str) -> tuple[int, int]:
    assert not isinstance(size, str)
    return size


def _check_splits(splits: Splits) -> None:
    if len(splits.classes) < 2:
        raise DataError(
            "VIT-304",
            f"{splits.name} has one class ({', '.join(splits.classes)}); a classifier needs two.",
            hint="Add a folder with pictures of something else beside it.",
        )


def _check(plan: Plan) -> None:
    """Settings that only make sense together with the data. Raises UsageError."""
    config, n = plan.config, len(plan.splits.train)
    batch = int(config.batch_size)
    if batch > n:
        raise UsageError(
            "VIT-219",
            f"batch size {batch} is larger than the {n} training pictures.",
            hint="Use --batch-size auto, or a number up to that.",
        )
    if batch % config.optim.accumulate:
        raise UsageError(
            "VIT-219",
            f"batch size {batch} cannot be split into {config.optim.accumulate} equal parts "
            "(optim.accumulate).",
            hint="Choose a divisor of the batch size.",
        )
    if plan.splits.multi_label and config.loss.name == "softmax":
        raise UsageError(
            "VIT-220",
            "loss softmax: the pictures have several labels each, expected sigmoid or bce.",
            hint="Use --loss.name sigmoid",
        )
    check_compatible(config, plan.model, plan.splits)
    _check_memory(plan)
    check_schedule(config.schedule, plan.total_steps)
    device = pick_device(config.device)
    pick_precision(config.precision, device)


def _check_threads(config: TrainConfig) -> None:
    """Raise UsageError VIT-219 for more threads than can run."""
    if isinstance(config.threads, int) and config.threads > MOST_THREADS * num_cores():
        raise UsageError(
            "VIT-219",
            f"threads {config.threads}: this machine has {num_cores()} cores.",
            hint="Leave --threads out.",
        )


def _check_memory(plan: Plan) -> None:
    """Refuse a batch that will not fit. Raises EnvironmentFault VIT-503."""
    batch, available = int(plan.config.batch_size), memory_bytes()
    if pick_device(plan.config.device).type != "cpu":
        return
    accumulate = plan.config.optim.accumulate
    is_checkpointed = plan.config.checkpoint_activations or plan.config.freeze == "body"
    need = auto.training_bytes(plan.model, batch // accumulate, is_checkpointed=is_checkpointed)
    if need > available:
        fits = auto.largest_batch(plan.model, available, is_checkpointed=is_checkpointed)
        parts = f" in {accumulate} parts" if accumulate > 1 else ""
        raise EnvironmentFault(
            "VIT-503",
            f"batch {batch}{parts} needs about {need / 1e9:.1f} GB, {available / 1e9:.1f} GB free. "
            f"Largest that fits at a time: {fits}.",
            hint=_less_memory(batch, fits),
        )


def _less_memory(batch: int, fits: int) -> str:
    """What to do where `batch` pictures at a time are too many and `fits` are not."""
    if not fits:
        return "Use a smaller model (--model) or a smaller --image-size."
    parts = next(n for n in range(2, batch + 1) if batch % n == 0 and batch // n <= fits)
    return (
        f"Use --optim.accumulate {parts}: the same batch in {parts} parts, one after the other. "
        f"Or --batch-size {min(fits, batch)}, a smaller model or a smaller --image-size."
    )
