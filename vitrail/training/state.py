"""Everything needed to continue a run bit for bit.

Weights, optimiser, averaged weights, step and the sums of the logging window. Data order,
augmentation, dropout and learning rate are functions of the step and are not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.config import TrainConfig
from vitrail.errors import ModelError
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.runs.documents import StateForm, reason_of
from vitrail.training.control.clock import Window
from vitrail.training.network import create_network
from vitrail.training.optim.ema import Ema
from vitrail.training.optim.optimizer import (
    Optimizer,
    create_optimizer,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
)
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.schedule_free import Averages, ScheduleFree
from vitrail.training.optim.shares import like, shard, whole_files
from vitrail.training.storage.checkpoint import Checkpoint


@dataclass
class TrainState:
    """A run between two steps. step: steps done. best: step and metrics of the best evaluation;
    judged: those of the newest one.
    """

    model: nn.Module
    optimizer: Optimizer
    ema: Ema | Averages | None
    schedule: Schedule
    step: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, Any] = field(default_factory=dict)  # the evaluation of this very step
    stale: int = 0  # evaluations since val/loss was lowest
    lowest_loss: float = float("inf")
    seconds: float = 0.0  # of training before this process
    window: Window = field(default_factory=Window)
    is_sharded: bool = False  # this process keeps a share of each tensor (`optim/shares.py`)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint stores, by file."""
        files = {
            "model": dict(self.model.state_dict()),
            "optim": optimizer_tensors(self.optimizer, self.model),
        }
        return files | ({"ema": self.ema.tensors()} if self.ema else {})

    def whole_tensors(self, *, is_kept: bool = True) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint stores, whole; all processes of a run in shares ask for it at the same
        time, and those that do not write it (`is_kept`) get nothing.
        """
        files = self.tensors()
        return whole_files(files, lambda *_: is_kept) if self.is_sharded else files

    def copied(self, is_kept: Callable[[str, str], bool]) -> dict[str, dict[str, Tensor]]:
        """Copies on the host of what a checkpoint stores, of the files and names that are kept; all
        processes of a run in shares ask for them at the same time.
        """
        return whole_files(self.tensors(), is_kept)

    def shipped(self) -> dict[str, Tensor]:
        """The weights that are evaluated and shipped, whole, on every process."""
        files = {self.weights_file: self.tensors()[self.weights_file]}
        found = whole_files(files, lambda *_: True) if self.is_sharded else files
        return found[self.weights_file]

    def record(self) -> dict[str, Any]:
        """What state.json says of it."""
        return {
            "step": self.step,
            "best": self.best,
            "judged": self.judged if self.judged.get("step") == self.step else {},
            "stale": self.stale,
            "lowest_loss": self.lowest_loss if self.lowest_loss < float("inf") else None,
            "seconds": self.seconds,
            "schedule": self.schedule.to_json(),
            "window": vars(self.window).copy(),
        }

    @property
    def weights_file(self) -> str:
        """Which file of a checkpoint holds the weights that are evaluated and shipped."""
        return "ema" if self.ema else "model"


def start_state(
    config: TrainConfig,
    model: ModelConfig,
    schedule: Schedule,
    device: torch.device,
    weights: Mapping[str, Tensor] | None = None,
    mesh: Any = None,
) -> TrainState:
    """The state before the first step. weights: those to start from, else random values; mesh: the
    processes that keep it in shares.
    """
    network = create_network(config, model, weights).to(device)
    if mesh is not None:
        shard(network, mesh)
    groups = parameter_groups(network, config.optim)
    is_gated = isinstance(model, ViTConfig) and model.mlp == "swiglu"
    optimizer = create_optimizer(groups, config.optim, device, is_gated=is_gated)
    average: Ema | Averages | None = Ema(network, config.ema) if config.ema else None
    if isinstance(optimizer, ScheduleFree):
        average = Averages(network, optimizer)
    return TrainState(network, optimizer, average, schedule, is_sharded=mesh is not None)


def restore(state: TrainState, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into a fresh state. Raises ModelError VIT-406 where it does not fit."""
    try:
        saved = StateForm.model_validate(checkpoint.state)
    except ValueError as error:
        raise _unfit(checkpoint, "state.json", reason_of(error)) from error
    for name, expected in state.tensors().items():
        _check_tensors(checkpoint, name, expected)
    tensors = _in_shares(state, checkpoint.tensors) if state.is_sharded else checkpoint.tensors
    state.model.load_state_dict(tensors["model"])
    restore_optimizer(state.optimizer, state.model, tensors["optim"])
    if state.ema:
        state.ema.restore(tensors["ema"])
    state.step, state.stale, state.seconds = saved.step, saved.stale, saved.seconds
    state.best = dict(checkpoint.state["best"])
    state.judged = dict(checkpoint.state.get("judged", {}))
    state.lowest_loss = float("inf") if saved.lowest_loss is None else saved.lowest_loss
    state.schedule = Schedule.from_json(saved.schedule)
    state.window = Window(**saved.window.model_dump())


def _in_shares(
    state: TrainState, files: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """The whole tensors of a checkpoint, each in the shares of the weight that it belongs to."""
    models = state.model.state_dict()
    return {
        file: {
            name: like(value, models[name.partition("/")[2] if file == "optim" else name])
            for name, value in tensors.items()
        }
        for file, tensors in files.items()
    }


def _check_tensors(checkpoint: Checkpoint, name: str, expected: Mapping[str, Tensor]) -> None:
    """Raise VIT-406 unless a file of the checkpoint has the tensors of this run's state."""
    found = checkpoint.tensors.get(name)
    if found is None:
        raise _unfit(checkpoint, f"{name}.safetensors", "it is missing")
    if name == "optim" and not expected:  # its tensors come with the first step
        return
    for key in sorted(expected.keys() | found.keys()):
        shapes = [tuple(one[key].shape) if key in one else "none" for one in (expected, found)]
        if shapes[0] != shapes[1]:
            raise _unfit(
                checkpoint, f"{name}.safetensors", f"{key}: expected {shapes[0]}, got {shapes[1]}"
            )


def _unfit(checkpoint: Checkpoint, name: str, why: str) -> ModelError:
    return ModelError(
        "VIT-406",
        f"{checkpoint.path / name} does not fit this run: {why}.",
        hint="Resume with the version the run was started with (run.json says which).",
    )
