"""A step whose loss or gradients were not finite: kept, and done again under watch.

`keep_step` writes into `debug/` which images the step had and, on a CPU, the state before it: there
an update is not made where loss or norm is not finite. On a GPU, which is not asked before the
update, the state is computed again from the newest checkpoint; steps are pure functions of it.
`replay` does the step as one process would, and names the first layer with an output that is not
finite, the parameters with such gradients and the images with such a loss of their own. Several
processes without --exact round in another order, so that a step may be finite in one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.config import TrainConfig
from vitrail.data.loading.loader import Batch
from vitrail.device import resumed_threads, set_threads
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.evaluation.run_data import resumed
from vitrail.notebook import Shown
from vitrail.runs import documents
from vitrail.spelling import count, printable
from vitrail.training.determinism import make_deterministic
from vitrail.training.optim.optimizer import clip_gradients, set_lr
from vitrail.training.optim.schedule import StepSchedule, lr_on
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.plan.resumed import model_of, settings_of
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.ranks.ranks import ALONE
from vitrail.training.ranks.share import Part, Share, share_of
from vitrail.training.ranks.spread import spread_of
from vitrail.training.run_context import RunContext
from vitrail.training.state import TrainState, restore, start_state
from vitrail.training.step import training_loader, update
from vitrail.training.storage.checkpoint import Checkpoint, load_latest, save_checkpoint
from vitrail.training.storage.run_dir import RunDir, open_run
from vitrail.training.tasks.precision import autocast
from vitrail.training.tasks.registry import task_of
from vitrail.training.tasks.task import Task

FOLDER, NAME = "debug", "debug/batch.json"
MOST_NAMES = 5  # of layers and images on a line


@dataclass(frozen=True)
class Replay(Shown):
    """A step done again. began: the step of the state that it was reached from; loss, grad_norm:
    as text, now and in the run; layer: the first module with an output that is not finite, "" where
    there is none; parameters: whose gradients are not; images: whose own losses are not.
    """

    step: int
    began: int
    loss: str
    grad_norm: str
    run_loss: str
    run_grad_norm: str
    layer: str = ""
    parameters: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    @property
    def is_finite(self) -> bool:
        """Whether the step has gone well this time."""
        return math.isfinite(float(self.loss) + float(self.grad_norm))

    def to_json(self) -> dict[str, Any]:
        """The object of `vitrail doctor --replay --json`."""
        return {**asdict(self), "finite": self.is_finite}

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        again = count(self.step - self.began, "step")
        figures = f"loss {self.loss}, gradient norm {self.grad_norm}"
        run = f"in the run {self.run_loss} and {self.run_grad_norm}"
        found = [(f"step {self.step}", f"{figures} ({run}); {again} from the kept state")]
        if self.is_finite:
            why = "sums of several processes, or another machine, round so"
            found.append(("finite this time", why))
        for what, names in (
            ("first output that is not finite", (self.layer,) if self.layer else ()),
            ("gradients that are not finite", self.parameters),
            ("images whose own loss is not finite", self.images),
        ):
            if names:
                rest = f" and {len(names) - MOST_NAMES} more" * (len(names) > MOST_NAMES)
                found.append((what, ", ".join(map(printable, names[:MOST_NAMES])) + rest))
        return found


def keep_step(live: RunContext, record: dict[str, Any]) -> None:
    """Keep the step that `live` has just done, all processes together. record: what is known of it.

    A disk that is full keeps less and is said.
    """
    tensors, state = None, live.state
    if live.device.type == "cpu":
        with live.ranks.contact():
            tensors = state.whole_tensors(is_kept=live.ranks.is_first)
    if not live.ranks.is_first:
        return
    live.run.make(FOLDER)
    live.run.write(NAME, record)
    if tensors is None:
        return
    try:
        before = {**state.record(), "step": state.step - 1}
        save_checkpoint(live.run.path / FOLDER, state.step - 1, tensors, before)
    except EnvironmentFault as error:
        live.reporter.notice(str(error))


def replay(run_dir: Path, *, data: str | None = None) -> Replay:
    """Do the kept step of a run again. data: where its data lies now.

    Raises ModelError VIT-401 where the run kept none, and what `resume` raises for its settings,
    data and checkpoints.
    """
    run = open_run(run_dir)
    kept = _kept(run)
    latest = load_latest(run.path)
    settings, _ = settings_of(run, latest)
    splits = resumed(run.path, data)
    recorded, _ = model_of(run, latest)
    recorded = recorded or run.read("run.json")
    plan = plan_run([("config.toml", settings)], recorded, splits, is_new=False)
    found = [one for one in (latest, load_latest(run.path / FOLDER)) if one is not None]
    before = [one for one in found if one.step < kept["step"]]
    return _done_again(plan, max(before, key=lambda one: one.step, default=None), kept)


def _kept(run: RunDir) -> dict[str, Any]:
    if not run.folder.lies(NAME):
        raise ModelError(
            "VIT-401",
            f"{run.path} has kept no step: there is no {NAME}.",
            hint="A run keeps the step whose loss or gradients are not finite (VIT-601).",
        )
    kept = run.read(NAME)
    step, indices = kept.get("step"), kept.get("indices")
    is_whole = isinstance(indices, list) and all(isinstance(one, int) for one in indices)
    if not isinstance(step, int) or step < 1 or not is_whole:
        raise documents.unreadable(run.path / NAME, "expected a step and its images")
    return kept


def _done_again(plan: Plan, start: Checkpoint | None, kept: dict[str, Any]) -> Replay:
    config, device = plan.config, torch.device(plan.config.device)
    set_threads(resumed_threads(int(config.threads))[0])
    make_deterministic(device)
    state = _state_of(plan, device, start)
    began, share = state.step, share_of(config)
    task, loader = task_of(plan, device), training_loader(plan, share=share)
    spread = spread_of(state.model, state.model, ALONE, share.count, is_exact=config.exact)
    with closing(loader.batches(began, kept["step"])) as batches:
        for step, batch in enumerate(batches, began + 1):
            set_lr(state.optimizer, lr_on(state.schedule, step, config.optim.lr, config.schedule))
            parts = share.parts(task, batch, step, config.seed)
            if step == kept["step"]:
                indices = rows_of(share, batch)
                _check_images(plan, indices, kept)
                return _watched(state, list(parts), task, plan, indices, began, kept)
            update(spread, state, parts, task.loss, config)
            state.step = step
    raise AssertionError("the kept step is behind the state")


def _state_of(plan: Plan, device: torch.device, start: Checkpoint | None) -> TrainState:
    weights = None
    if start is None:
        weights, _ = starting_weights(plan.config, plan.model, plan.splits.classes)
    schedule = StepSchedule.of(plan.total_steps or 1)
    state = start_state(plan.config, plan.model, schedule, device, weights)
    if start is not None:
        restore(state, start)
    state.model.train()
    return state


def rows_of(share: Share, batch: Batch) -> list[int]:
    """The image in each row of a step, of a batch that a loader made of all of them."""
    pieces = [batch] if share.slots is None else share.slots.split(batch)
    return [int(index) for piece in pieces for index in piece.indices[piece.own]]


def _check_images(plan: Plan, indices: Sequence[int], kept: dict[str, Any]) -> None:
    """Raises ModelError VIT-409 where the file names other images than those of this step."""
    if not set(kept["indices"]) >= set(indices):
        raise documents.unreadable(
            Path(NAME), f"step {kept['step']} of {plan.splits.name} has other images"
        )


def _watched(
    state: TrainState,
    parts: Sequence[Part],
    task: Task,
    plan: Plan,
    indices: Sequence[int],
    began: int,
    kept: dict[str, Any],
) -> Replay:
    network, config = state.model, plan.config
    state.optimizer.zero_grad()
    losses: list[float] = []
    with first_not_finite(network) as layer:
        for part in parts:
            loss = _loss(network, task, config, part) / len(parts)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
    norm = float(clip_gradients(network.parameters(), 0.0))
    named = [(name, value.grad) for name, value in network.named_parameters()]
    wrong = [name for name, grad in named if grad is not None and not _is_finite(grad)]
    rows = len(indices) // len(parts)
    images = [
        plan.splits.train.source_id(indices[number * rows + row])
        for number, part in enumerate(parts)
        if not math.isfinite(losses[number])
        for row in _rows_not_finite(network, task, config, part)
    ]
    return Replay(
        kept["step"],
        began,
        str(sum(losses)),
        str(norm),
        str(kept.get("loss", "")),
        str(kept.get("grad_norm", "")),
        layer[0] if layer else "",
        tuple(wrong),
        tuple(images),
    )


def _loss(network: nn.Module, task: Task, config: TrainConfig, part: Part) -> Tensor:
    torch.manual_seed(part.key)

    def forward(*inputs: Tensor) -> Any:
        with autocast(config, inputs[0].device):
            return network(*inputs)

    return task.loss(forward, part.inputs)


def _rows_not_finite(
    network: nn.Module, task: Task, config: TrainConfig, part: Part
) -> Iterator[int]:
    """The rows of a part that have no finite loss alone."""
    for row in range(len(part.inputs[0])):
        one = Part(tuple(tensor[row : row + 1] for tensor in part.inputs), part.key)
        with torch.no_grad():
            if not _is_finite(_loss(network, task, config, one)):
                yield row


def _is_finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


@contextmanager
def first_not_finite(network: nn.Module) -> Iterator[list[str]]:
    """Gives a list that gets the name of the first module whose output is not finite."""
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not _is_finite(output):
                found.append(name or "the network")

        return hook

    handles = [one.register_forward_hook(look(name)) for name, one in network.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
