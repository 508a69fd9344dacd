"""From a user's settings to a complete plan: nothing left "auto", every choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrail.config import TrainConfig, build, flatten, resolve
from vitrail.data.preprocess import Preprocess, short_side
from vitrail.data.sources import Splits, open_data
from vitrail.device import memory_bytes, num_cores, pick_device, pick_precision
from vitrail.errors import DataError, EnvironmentFault, UsageError
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.recipes.catalogue import recipe
from vitrail.training import choose
from vitrail.training.facts import Facts, measure
from vitrail.training.schedule import check_schedule

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Layers = Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """A run before its first step. choices: (setting, value, why) for all that was "auto"."""

    config: TrainConfig
    sources: dict[str, str]
    choices: tuple[tuple[str, Any, str], ...]
    splits: Splits
    facts: Facts
    model: ModelConfig
    preprocess: Preprocess

    @property
    def steps_per_epoch(self) -> float:
        """Steps that one pass over the training pictures takes."""
        assert isinstance(self.config.batch_size, int)
        return len(self.splits.train) / self.config.batch_size

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


def plan_run(layers: Layers) -> Plan:
    """Resolve `layers` against the data and the machine.

    Layers go from low to high: --config, VITRAIL_*, command line.
    Raises UsageError and DataError before any work is done.
    """
    asked, _ = resolve(layers)
    if not asked.data.path:
        raise UsageError(
            "VIT-201",
            "DATA is missing: what to train on.",
            hint="For instance: vitrail train builtin:digits",
        )
    splits = open_data(
        asked.data.path,
        val_fraction=asked.data.val_fraction,
        test_fraction=asked.data.test_fraction,
        seed=asked.seed,
    )
    _check_splits(splits)
    facts = measure(splits.train)
    name, why = choose.recipe_name(asked, facts)
    config, sources = resolve([(f"recipe {name}", flatten(recipe(name))), *layers])
    chosen = choose.Chosen(config, sources, facts)
    chosen.set("recipe", name, why)
    choose.fill(chosen, multi_label=splits.multi_label)
    config = build(chosen.values, chosen.sources)
    model = resolve_model(
        config.model.name,
        num_classes=len(splits.classes),
        image_size=_pair(config.data.image_size),
        channels=int(config.data.channels),
        overrides=config.model.overrides,
    )
    plan = Plan(
        config,
        chosen.sources,
        tuple(chosen.reasons),
        splits,
        facts,
        model,
        preprocess_of(config, facts),
    )
    _check(plan)
    return plan


def preprocess_of(config: TrainConfig, facts: Facts) -> Preprocess:
    """The evaluation preprocessing of a run."""
    data = config.data
    height, width = _pair(data.image_size)
    channels = int(data.channels)
    means, stds = (0.5,) * channels, (0.5,) * channels
    if data.normalize == "imagenet" and channels == 3:
        means, stds = IMAGENET
    elif data.normalize == "dataset":
        means, stds = facts.mean, facts.std
        if len(means) != channels:
            means, stds = (float(np.mean(means)),) * channels, (float(np.mean(stds)),) * channels
    squash = data.resize == "squash"
    return Preprocess(
        height=height,
        width=width,
        resize=(height, width) if squash else short_side(min(height, width), data.crop_fraction),
        crop="none" if squash else "center",
        interpolation=data.interpolation,
        mean=means,
        std=stds,
    )


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
    if config.freeze == "body":
        raise UsageError(
            "VIT-226",
            "--freeze body: the body would keep its random values, since no --from was given.",
            hint="Leave --freeze out.",
        )
    _check_memory(plan)
    check_schedule(config.schedule, plan.total_steps)
    device = pick_device(config.device)
    pick_precision(config.precision, device)
    if isinstance(config.threads, int) and config.threads > 4 * num_cores():
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
    need = choose.training_bytes(
        plan.model,
        batch // plan.config.optim.accumulate,
        is_checkpointed=plan.config.checkpoint_activations,
    )
    if need > available:
        fits = choose.largest_batch(plan.model, available)
        raise EnvironmentFault(
            "VIT-503",
            f"batch {batch} needs about {need / 1e9:.1f} GB, {available / 1e9:.1f} GB free. "
            f"Largest that fits: {fits}.",
            hint=f"Use --batch-size {max(1, fits)}, or a smaller model or image size.",
        )
