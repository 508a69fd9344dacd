"""Everything that the first step of a run needs: the state that it starts from or goes on with,
what it reads, what it writes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import closing

import torch
from torch import Tensor

from vitrail.device import keep_freed_memory, resumed_threads, set_threads
from vitrail.runs.manifest import Damaged, step_name
from vitrail.runs.stored import check_weights
from vitrail.spelling import count
from vitrail.training.compiled import compiled
from vitrail.training.control.clock import Clock
from vitrail.training.control.time_limit import (
    TIMED_STEPS,
    WARMUP_STEPS,
    TimeLimit,
    limit_of,
    validation,
)
from vitrail.training.determinism import make_deterministic
from vitrail.training.network import create_network
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.shares import mesh_of
from vitrail.training.plan.plan_run import Plan
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.ranks.pace import Pace
from vitrail.training.ranks.ranks import Ranks
from vitrail.training.ranks.saver import Saver
from vitrail.training.ranks.share import share_of
from vitrail.training.ranks.spread import spread_of
from vitrail.training.reporter import Reporter
from vitrail.training.run_context import RunContext
from vitrail.training.shipped_model import lost_best
from vitrail.training.state import TrainState, restore, start_state
from vitrail.training.step import training_loader, trial
from vitrail.training.storage.checkpoint import (
    Checkpoint,
    check_disk,
    checkpoint_bytes,
)
from vitrail.training.storage.checkpoint import sweep as sweep_checkpoints
from vitrail.training.storage.metrics_log import MetricsLog
from vitrail.training.storage.run_dir import RunDir
from vitrail.training.storage.step_profile import StepProfile
from vitrail.training.tasks.registry import task_of


def start_run(
    run: RunDir,
    plan: Plan,
    clock: Clock,
    reporter: Reporter,
    checkpoint: Checkpoint | None,
    ranks: Ranks,
) -> RunContext:
    """Everything the first step needs, out of the newest whole checkpoint where there is one."""
    config, device = plan.config, torch.device(plan.config.device)
    keep_freed_memory()
    set_threads(resumed_threads(int(config.threads))[0])
    make_deterministic(device)
    if ranks.is_first:
        sweep_checkpoints(run.path)
    weights = None
    if not checkpoint:
        weights, _ = starting_weights(config, plan.model, plan.splits.classes)
    state = _new_state(run, plan, device, weights, ranks)
    damaged = _restored(run, state, checkpoint, clock, reporter) if checkpoint else []
    metrics = _metrics_of(run, checkpoint, reporter, ranks)
    val = validation(plan)
    mine = share_of(config, ranks)
    if state.is_sharded:
        evaluated = create_network(config, plan.model).to(device)
    else:
        evaluated = copy.deepcopy(state.model)
    forward = compiled(state.model) if config.compile else state.model
    live = RunContext(
        run=run,
        plan=plan,
        clock=clock,
        reporter=reporter,
        device=device,
        state=state,
        metrics=metrics,
        loader=training_loader(plan, share=mine),
        task=task_of(plan, device, ranks),
        ranks=ranks,
        share=mine,
        spread=spread_of(state.model, forward, ranks, mine.count, is_exact=config.exact),
        evaluated=evaluated,
        profile=StepProfile(run, 0, ranks.rank, reporter.notice),
        saver=Saver(run, ranks, metrics, reporter.notice, config.keep_checkpoints, damaged),
        val=val,
        limit=limit_of(plan, clock, val),
        pace=None if ranks.is_alone else _pace_of(run, ranks),
    )
    if live.limit is not None:
        _plan_time(live, live.limit, weights, is_new=not checkpoint)
    state.model.train()
    return live


def _new_state(
    run: RunDir,
    plan: Plan,
    device: torch.device,
    weights: Mapping[str, Tensor] | None,
    ranks: Ranks,
) -> TrainState:
    """The state before the first step. Raises EnvironmentFault where a checkpoint has no room."""
    config, schedule = plan.config, Schedule.of(plan.total_steps or 1)
    mesh = mesh_of(ranks.world, device.type) if ranks.is_sharded else None
    state = start_state(config, plan.model, schedule, device, weights, mesh)
    num_parameters = sum(value.numel() for value in state.model.parameters())
    check_disk(run.path, checkpoint_bytes(num_parameters, config.optim.name, ema=bool(state.ema)))
    return state


def _restored(
    run: RunDir, state: TrainState, checkpoint: Checkpoint, clock: Clock, reporter: Reporter
) -> list[str]:
    """Put the state where the checkpoint was; the names of damaged checkpoints."""
    for warning in checkpoint.warnings():
        reporter.notice(warning)
    restore(state, checkpoint)
    damaged = [name for name, _ in checkpoint.damaged]
    damaged += _without_damaged_best(run, state, reporter)
    clock.add(state.seconds)
    _warn_of_other_bits(checkpoint, reporter)
    return damaged


def _metrics_of(
    run: RunDir, checkpoint: Checkpoint | None, reporter: Reporter, ranks: Ranks
) -> MetricsLog:
    """The figures of the run, cut back to what the checkpoint knew of."""
    metrics = MetricsLog(run.metrics)
    saved = checkpoint.state if checkpoint else {}
    if ranks.is_first:
        torn = metrics.cut_back(saved.get("metrics_offset", 0), saved.get("metrics_sha256", ""))
        if torn:
            reporter.notice(torn)
    return metrics


def _pace_of(run: RunDir, ranks: Ranks) -> Pace:
    """What gathers the times of several processes."""
    return Pace(ranks, MetricsLog(run.path / "ranks.jsonl") if ranks.is_first else None)


def _without_damaged_best(run: RunDir, state: TrainState, reporter: Reporter) -> list[str]:
    """Let go of a best evaluation whose weights are damaged: the best is then looked for among the
    newest evaluation and those to come. The name of the damaged checkpoint, where there is one.
    """
    if not state.best or state.best["step"] == state.step:
        return []
    name = step_name(state.best["step"])
    try:
        check_weights(run.path, state.best["step"], state.weights_file)
    except Damaged as error:
        reporter.notice(lost_best(state, str(error)))
        state.best = state.judged
        return [name]
    return []


def _warn_of_other_bits(checkpoint: Checkpoint, reporter: Reporter) -> None:
    """Say so where the resumed run cannot be promised the same bits."""
    here = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    for name, value in here.items():
        if checkpoint.state.get(name) != value:
            reporter.notice(
                f"started with {name} {checkpoint.state.get(name)}, continued with {value}: sums "
                "are rounded in another order, so the last bits may differ"
            )


def _plan_time(
    live: RunContext, limit: TimeLimit, weights: Mapping[str, Tensor] | None, *, is_new: bool
) -> None:
    """Say what a time limit means; plan the length of a new run, on throwaway weights."""
    plan, state, notice = live.plan, live.state, live.reporter.notice
    limit.evaluated(state.step, 0.0)
    if is_new:
        throwaway = start_state(plan.config, plan.model, Schedule.of(1), live.device, weights)
        number = WARMUP_STEPS + TIMED_STEPS
        timed = trial(throwaway, live.loader, live.task, plan.config, number, live.share)
        with closing(timed) as steps:
            state.schedule = limit.calibrate(steps)
        state.schedule = Schedule.of(int(live.ranks.tell(state.schedule.total_steps)))
        fitting = max(1, limit.affordable(0))
        notice(limit.warning(fitting) or f"time limit: about {count(fitting, 'step', 'fits')}")
    whole = plan.splits.val
    if live.val is not None and whole is not None and len(live.val) < len(whole):
        notice(
            f"time limit: validation on a sample of {len(live.val):,} of "
            f"{count(len(whole), 'image')}"
        )
