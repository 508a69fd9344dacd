"""A learning rate for these images and this model, from short trainings at several rates.

Each rate trains the same throwaway weights on the same batches with the whole schedule (warm-up
and decay) in a few steps, and is judged on validation images. The rate of the settings is one of
them. Another one is suggested only where it is clearly better: by a paired 95 % interval of the
images' losses that leaves out 0, for two seeds. Else the rate of the settings stays, and that is
said.

The sweep of Smith (arXiv 1506.01186), one training whose rate grows until the loss blows up, was
here before: on the digits its suggestion came to 0.82 where the recipe's rate comes to 0.94
(docs/decisions.md).
"""

from __future__ import annotations

import copy
import math
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.data.sources.open_data import Source, subset
from vitrail.device import keep_freed_memory, set_threads
from vitrail.errors import TrainingError
from vitrail.evaluation.metrics.intervals import Z95
from vitrail.figures.plot import Figure, Series, alt_text, plot
from vitrail.keyed_random import permutation
from vitrail.notebook import show, svg, table
from vitrail.spelling import count
from vitrail.training.optim.optimizer import set_lr
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.schedule import lr_on
from vitrail.training.plan.plan_run import Layers, Plan, plan_run
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.ranks.share import share_of
from vitrail.training.ranks.spread import Alone
from vitrail.training.reporter import Reporter
from vitrail.training.run_files import readable
from vitrail.training.state import TrainState, start_state
from vitrail.training.step import training_loader, update
from vitrail.training.tasks.registry import task_of
from vitrail.training.tasks.task import Task

NUM_STEPS = 100
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the rate of the settings
FURTHER, MOST_FURTHER = 4.0, 3  # where the best is the first or the last of them
JUDGED = 1000  # validation images
FALLEN = 0.99  # of the loss before the first step


@dataclass(frozen=True)
class LrFind:
    """Rates in ascending order, the validation loss after a short training at each (nats, NaN where
    it diverged), the rate to use, that of the settings, and a sentence about them.
    """

    lrs: list[float]
    losses: list[float]
    suggestion: float
    default: float
    sentence: str

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people: the suggestion, then the loss at each rate."""
        judged = zip(self.lrs, self.losses, strict=True)
        return [
            ("suggestion", f"{self.suggestion:.1e}"),
            ("", self.sentence),
            *((f"loss at {lr:.1e}", f"{loss:.4f}") for lr, loss in judged),
        ]

    def figure(self) -> Figure:
        """Validation loss over learning rate (logarithmic), the suggestion marked."""
        points = Series("validation loss", self.lrs, self.losses)
        title = f"Validation loss of short trainings; {self.suggestion:.1e} is suggested"
        mark = (f"{self.suggestion:.1e}", self.suggestion)
        return Figure("lr_find", title, "learning rate", "loss", [points], log_x=True, mark=mark)

    def show(self) -> None:
        """Show suggestion, losses and plot in the notebook; elsewhere print the figures."""
        show(self, self.rows())

    def _repr_html_(self) -> str:
        drawn = self.figure()
        return table(self.rows(), title="LrFind") + svg(plot(drawn).file(), alt_text(drawn))


@dataclass
class Trials:
    """Short trainings of a run's settings; losses: of each rate and seed, one an image where the
    task tells them, else their mean.
    """

    plan: Plan
    task: Task
    judged: Source
    num_steps: int
    reporter: Reporter
    losses: dict[tuple[float, int], NDArray[np.float64]] = field(default_factory=dict)

    def mean(self, lr: float, seed: int) -> float:
        """The mean loss after a short training; infinite where it diverged."""
        return float(self.of(lr, seed).mean())

    def of(self, lr: float, seed: int) -> NDArray[np.float64]:
        """The losses after a short training at the peak rate `lr`."""
        if (lr, seed) not in self.losses:
            self.losses[lr, seed] = self._train(lr, seed)
            record = {"step": len(self.losses), "epoch": 0.0, "optim/lr": lr}
            self.reporter.step({**record, "train/loss": self.mean(lr, seed)})
        return self.losses[lr, seed]

    def is_clearly_better(self, lr: float, other: float, seed: int) -> bool:
        """Whether the losses at `lr` are lower than at `other`, image by image."""
        gaps = self.of(other, seed) - self.of(lr, seed)
        if not np.isfinite(gaps).all():
            return self.mean(lr, seed) < self.mean(other, seed)
        if len(gaps) < 2:
            return bool(self.mean(lr, seed) < FALLEN * self.mean(other, seed))
        return bool(gaps.mean() > Z95 * gaps.std(ddof=1) / math.sqrt(len(gaps)))

    def untrained(self, seed: int) -> float:
        """The mean loss before the first step."""
        return float(self._judge(self._state(seed)).mean())

    def _state(self, seed: int) -> TrainState:
        plan = self.plan
        config = plan.config.model_copy(update={"seed": seed})
        weights, _ = starting_weights(config, plan.model, plan.splits.classes)
        device = torch.device(config.device)
        return start_state(config, plan.model, Schedule.of(self.num_steps), device, weights)

    def _train(self, lr: float, seed: int) -> NDArray[np.float64]:
        config, state = self.plan.config, self._state(seed)
        state.model.train()
        loader, share = training_loader(self.plan, seed), share_of(self.plan.config)
        with closing(loader.batches(0, self.num_steps)) as batches:
            for step, batch in enumerate(batches, 1):
                set_lr(state.optimizer, lr_on(state.schedule, step, lr, config.schedule))
                parts = share.parts(self.task, batch, step, seed)
                loss, norm = update(Alone(state.model), state, parts, self.task.loss, config)
                if not bool(torch.isfinite(loss + norm)):
                    return np.array([math.inf])
                state.step = step
        return self._judge(state)

    def _judge(self, state: TrainState) -> NDArray[np.float64]:
        network = copy.deepcopy(state.model)
        if state.ema and state.step:
            state.ema.copy_to(network)
        found = self.task.judge(network, self.judged)
        if found.evaluation is None:
            return np.array([found.metrics["loss"]])
        return found.evaluation.losses


def lr_find(layers: Layers, reporter: Reporter, *, num_steps: int = NUM_STEPS) -> LrFind:
    """Compare learning rates for the run that `layers` describe.

    Raises what `plan_run` raises, DataError VIT-301 for images that cannot be decoded, and
    TrainingError VIT-602 where the loss never falls.
    """
    checked = readable(plan_run(layers))
    plan = checked.plan
    for sentence in (*plan.splits.notes, *checked.found.left_out()):
        reporter.notice(f"data: {sentence}")
    keep_freed_memory()
    set_threads(plan.config.threads)
    task = task_of(plan, torch.device(plan.config.device))
    steps = min(num_steps, plan.total_steps or num_steps)
    trials = Trials(plan, task, _judged(plan), steps, reporter)
    seed, default = plan.config.seed, plan.config.optim.lr
    rates = _rates(trials, default, seed)
    means = [trials.mean(lr, seed) for lr in rates]
    if not min(means) < FALLEN * trials.untrained(seed):
        raise TrainingError(
            "VIT-602",
            f"no learning rate from {rates[0]:g} to {rates[-1]:g} made the loss fall in "
            f"{count(steps, 'step')}.",
            hint="Look at the images and labels (vitrail data show DATA), or use a larger batch.",
        )
    best = rates[means.index(min(means))]
    is_better = best != default and all(
        trials.is_clearly_better(best, default, one) for one in (seed, seed + 1)
    )
    suggestion = best if is_better else default
    losses = [mean if math.isfinite(mean) else math.nan for mean in means]
    sentence = _sentence(trials, best, default, is_better=is_better)
    return LrFind(rates, losses, suggestion, default, sentence)


def _rates(trials: Trials, default: float, seed: int) -> list[float]:
    """Rates around the default one, and further where the best has no neighbour on one side."""
    rates = sorted(default * factor for factor in FACTORS)
    for _ in range(MOST_FURTHER):
        best = min(rates, key=lambda lr: trials.mean(lr, seed))
        if best == rates[0]:
            rates.insert(0, best / FURTHER)
        elif best == rates[-1]:
            rates.append(best * FURTHER)
        else:
            break
    return rates


def _judged(plan: Plan) -> Source:
    """A keyed sample of the validation images, or of the training ones where there are none."""
    source = plan.splits.val if plan.splits.val is not None else plan.splits.train
    order = permutation(plan.config.seed, 2, len(source))
    return subset(source, order[:JUDGED])


def _sentence(trials: Trials, best: float, default: float, *, is_better: bool) -> str:
    seed, n = trials.plan.config.seed, len(trials.judged)
    which = "validation" if trials.plan.splits.val is not None else "training"
    how = f"after {count(trials.num_steps, 'step')}, on {n:,} {which} images"
    if not is_better:
        return f"no rate is clearly better than {default:.1e}, that of the settings, {how}: keep it"
    return (
        f"{best:.1e} is clearly better than {default:.1e}, that of the settings: loss "
        f"{trials.mean(best, seed):.3f} instead of {trials.mean(default, seed):.3f} {how}"
    )
