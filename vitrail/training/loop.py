"""Training, readable from top to bottom.

`train` plans a new run, `resume` reopens one, and both hand over to `_run`, which steps, evaluates,
saves and stops.
Randomness: the global generator is seeded from (seed, step) at the start of each step, because
dropout reads it; data order and augmentation are keyed by (seed, epoch, index). So a resumed run
needs no generator state (docs/reliability.md).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.config import config_hash, flatten
from vitrail.data.loading.loader import Batch
from vitrail.device import keep_freed_memory, resumed_threads, set_threads
from vitrail.errors import TrainingError
from vitrail.evaluation.run_data import resumed
from vitrail.keyed_random import mix as mix_seed
from vitrail.runs.lock import RunLock
from vitrail.runs.manifest import Damaged, step_name
from vitrail.runs.stored import check_weights
from vitrail.spelling import count
from vitrail.training import run_files
from vitrail.training.clock import Clock, share
from vitrail.training.compiled import compile_faults, compiled
from vitrail.training.determinism import make_deterministic
from vitrail.training.finish import StopReason, check_saveable, finish, lost_best
from vitrail.training.optim.optimizer import set_lr
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.schedule import lr_on
from vitrail.training.plan.plan_run import Layers, Plan, plan_run
from vitrail.training.plan.resumed import is_finished, settings_of
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.reporter import Reporter, RunResult, SilentReporter
from vitrail.training.run_context import RunContext
from vitrail.training.signals import StopRequest, stop_signals
from vitrail.training.state import TrainState, Window, restore, start_state
from vitrail.training.step import training_loader, trial, update
from vitrail.training.storage.checkpoint import (
    Checkpoint,
    check_disk,
    checkpoint_bytes,
    load_latest,
    save_checkpoint,
)
from vitrail.training.storage.checkpoint import sweep as sweep_checkpoints
from vitrail.training.storage.metrics_log import MetricsLog
from vitrail.training.storage.run_dir import RunDir, create_run, ending, open_run
from vitrail.training.tasks.registry import task_of
from vitrail.training.tasks.task import EvalResult
from vitrail.training.tasks.validation import never
from vitrail.training.time_limit import (
    TIMED_STEPS,
    WARMUP_STEPS,
    TimeLimit,
    limit_of,
    validation,
)

CHECKING = 0.15  # share of a time limit for looking at files before training


def train(
    layers: Layers,
    *,
    runs_dir: Path = Path("runs"),
    name: str | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    with_report: bool = True,
    age_secs: float = 0.0,
) -> RunResult:
    """Train a new run in `runs_dir` and evaluate it.

    `layers` are settings from low to high (`config.resolve`). with_report: whether baselines, a
    look back at the data, and the report follow. age_secs: what the command took until here, which
    a time limit counts too.
    Raises VitrailError of every kind: UsageError and DataError before anything is written.
    """
    clock = Clock(age_secs)
    reporter = reporter or SilentReporter()
    planned = plan_run(layers)
    check_saveable(planned)
    limit = planned.config.time_limit_secs or math.inf
    checked = run_files.without_bad_files(planned, CHECKING * limit)
    plan = checked.plan
    run = create_run(runs_dir, name, plan.splits.name)
    with RunLock(run.path), stop_signals() as stop:
        with ending(run):
            run_files.write_start(run, checked, command)
            run_files.refuse_bad_files(run, plan, checked.bad)
            reporter.plan(plan, run.path)
            if checked.unseen:
                reporter.notice(checked.sentence)
            for sentence in plan.changes:
                reporter.notice(f"from {plan.config.start.model}: {sentence}")
            for sentence in plan.notes:
                reporter.notice(sentence)
            live = _start(run, plan, clock, reporter, None)
            return _run(live, stop, with_report)


def resume(
    run_dir: Path,
    *,
    data: str | None = None,
    reporter: Reporter | None = None,
    with_report: bool = True,
    age_secs: float = 0.0,
) -> RunResult:
    """Continue a run from its newest whole checkpoint, bit for bit. data: where its data lies now.

    Raises ModelError VIT-405 (every checkpoint damaged), 406, 407 (no run), 408 (finished), 409 (a
    file cannot be read), 410 (other settings), DataError VIT-322 (the data changed),
    EnvironmentFault VIT-504 (another process trains there).
    """
    clock = Clock(age_secs)
    reporter = reporter or SilentReporter()
    run = open_run(run_dir)
    with RunLock(run.path), stop_signals() as stop:
        record = run.read("run.json")
        if record["status"] == "finished":
            raise is_finished(run)
        checkpoint = load_latest(run.path)
        settings, changes = settings_of(run, checkpoint)
        splits = resumed(run.path, data)  # those that can be decoded, which was seen at the start
        plan = plan_run([("config.toml", settings)], record, splits)
        with ending(run):
            run.write("run.json", {**record, "status": "running", "reason": None})
            reporter.plan(plan, run.path)
            for sentence in (*changes, resumed_threads(int(plan.config.threads))[1]):
                if sentence:
                    reporter.notice(sentence)
            live = _start(run, plan, clock, reporter, checkpoint)
            return _run(live, stop, with_report)


def _run(live: RunContext, stop: StopRequest, with_report: bool) -> RunResult:
    plan, clock = live.plan, live.clock
    state, loader = live.state, live.loader
    log_every = max(1, min(50, round(plan.steps_per_epoch / 4)))
    last = live.last_step
    is_last, stopped = False, None
    live.saved_at = clock.seconds()
    waited = loader.data_wait_secs
    clock.start_steps(waited)
    with closing(loader.batches(state.step, last)) as batches:
        for batch in batches:
            lr, norm = _step(live, batch)
            clock.step()
            is_last = live.is_at_end
            if live.limit is not None and not is_last:
                state.schedule = live.limit.replan(state.schedule, state.step)
            if state.step % log_every == 0 or is_last:
                _log_step(live, lr, norm)
            if live.is_evaluation_due or is_last:
                _evaluate(live)
                if live.has_no_patience:
                    stopped, is_last = "patience", True
            elif _is_save_due(live):
                _save(live)
            if is_last:
                break
            if stop.name:
                break
            clock.start_step()
    if stop.name and not is_last and state.step < last:
        return _interrupted(live, stop.name)
    live.metrics.sync()
    live.metrics.close()
    waited = share(loader.data_wait_secs - waited, clock.step_secs())
    how = StopReason(stopped, waited, with_report, live.limit, live.val, live.best)
    ended = finish(live.run, plan, live.task, state, live.evaluated, clock, how, live.reporter)
    live.reporter.result(ended)
    return ended


def _start(
    run: RunDir, plan: Plan, clock: Clock, reporter: Reporter, checkpoint: Checkpoint | None
) -> RunContext:
    """Everything the first step needs, out of the newest whole checkpoint where there is one."""
    config = plan.config
    device = torch.device(config.device)
    keep_freed_memory()
    set_threads(resumed_threads(int(config.threads))[0])
    make_deterministic(device)
    sweep_checkpoints(run.path)
    weights = None
    if not checkpoint:
        weights, _ = starting_weights(config, plan.model, plan.splits.classes)
    schedule = Schedule.of(plan.total_steps or 1)
    state = start_state(config, plan.model, schedule, device, weights)
    num_parameters = sum(value.numel() for value in state.model.parameters())
    check_disk(run.path, checkpoint_bytes(num_parameters, config.optim.name, ema=bool(state.ema)))
    metrics = MetricsLog(run.metrics)
    damaged = [name for name, _ in checkpoint.damaged] if checkpoint else []
    if checkpoint:
        for warning in checkpoint.warnings():
            reporter.notice(warning)
        restore(state, checkpoint)
        damaged += _without_damaged_best(run, state, reporter)
        clock.add(state.seconds)
        _warn_of_other_bits(checkpoint, reporter)
    saved = checkpoint.state if checkpoint else {}
    torn = metrics.cut_back(saved.get("metrics_offset", 0), saved.get("metrics_sha256", ""))
    if torn:
        reporter.notice(torn)
    val = validation(plan)
    live = RunContext(
        run=run,
        plan=plan,
        clock=clock,
        reporter=reporter,
        device=device,
        state=state,
        metrics=metrics,
        loader=training_loader(plan),
        task=task_of(plan, device),
        forward=compiled(state.model) if config.compile else state.model,
        evaluated=copy.deepcopy(state.model),
        damaged=damaged,
        val=val,
        limit=limit_of(plan, clock, val),
    )
    if live.limit is not None:
        _begin(live, live.limit, weights, is_new=not checkpoint)
    state.model.train()
    return live


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


def _begin(
    live: RunContext, limit: TimeLimit, weights: Mapping[str, Tensor] | None, *, is_new: bool
) -> None:
    """Say what a time limit means; plan the length of a new run, on throwaway weights."""
    plan, state, notice = live.plan, live.state, live.reporter.notice
    limit.evaluated(state.step, 0.0)
    if is_new:
        throwaway = start_state(plan.config, plan.model, Schedule.of(1), live.device, weights)
        number = WARMUP_STEPS + TIMED_STEPS
        with closing(trial(throwaway, live.loader, live.task, plan.config, number)) as steps:
            state.schedule = limit.calibrate(steps)
        fitting = max(1, limit.affordable(0))
        notice(limit.warning(fitting) or f"time limit: about {count(fitting, 'step', 'fits')}")
    whole = plan.splits.val
    if live.val is not None and whole is not None and len(live.val) < len(whole):
        notice(
            f"time limit: validation on a sample of {len(live.val):,} of "
            f"{count(len(whole), 'image')}"
        )


def _step(live: RunContext, batch: Batch) -> tuple[float, float]:
    """Train on one batch; the learning rate and the norm of the gradients."""
    state, config = live.state, live.plan.config
    step = state.step + 1
    torch.manual_seed(mix_seed(config.seed, step))
    parts = live.task.parts(batch, step)
    lr = lr_on(state.schedule, step, config.optim.lr, config.schedule)
    set_lr(state.optimizer, lr)
    with compile_faults() if config.compile else nullcontext():
        of_batch, of_gradients = update(live.forward, state, parts, live.task.loss, config)
    scalars = torch.stack([of_batch, of_gradients, of_batch + of_gradients])
    loss, norm, both = scalars.tolist()  # waits for the device, once
    if not math.isfinite(both):
        raise _diverged(live.run, state, batch, lr, loss, norm)
    _update_window(state.window, loss, len(parts[0]))
    state.step = step
    return lr, norm


def _is_save_due(live: RunContext) -> bool:
    config = live.plan.config
    if config.save_every_steps and live.state.step % config.save_every_steps == 0:
        return True
    return live.clock.seconds() - live.saved_at >= config.save_every_secs


def _save(live: RunContext) -> None:
    state, config = live.state, live.plan.config
    state.seconds = live.saved_at = live.clock.seconds()
    mark = live.metrics.sync()
    record = {
        **state.record(),
        "metrics_offset": mark.offset,
        "metrics_sha256": mark.sha256,
        "settings": flatten(config),
        "config_hash": config_hash(config),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    save_checkpoint(
        live.run.path,
        state.step,
        state.tensors(),
        record,
        keep=config.keep_checkpoints,
        protect={state.best["step"]} if state.best else set(),
        damaged=live.damaged,
    )
    live.run.update(best=state.best, seconds=round(state.seconds, 3))


def _interrupted(live: RunContext, signal: str) -> RunResult:
    """How a run ends that was asked to stop before its last step."""
    if live.state.step:  # also where the wait for a batch was cut short
        _save(live)
    live.run.update(status="stopped", seconds=live.clock.seconds(), best=live.state.best)
    result = RunResult(
        live.run.path,
        live.clock.seconds(),
        live.state.step,
        live.state.best,
        stopped=signal,
        next_commands=[f"vitrail train --resume {live.run.path}"],
    )
    live.reporter.result(result)
    return result


def _update_window(window: Window, loss: float, examples: int) -> None:
    window.loss += loss * examples
    window.examples += examples
    window.steps += 1


def _evaluate(live: RunContext) -> None:
    """Judge the averaged weights, or the plain ones where none are kept, on validation images,
    and write a checkpoint.
    """
    state, started = live.state, live.clock.seconds()
    if live.val is not None:
        if state.ema:
            state.ema.copy_to(live.evaluated)
        else:
            live.evaluated.load_state_dict(state.model.state_dict())
        is_over = live.limit.is_late if live.limit is not None else never
        result = live.task.judge(live.evaluated, live.val, is_over)
        if live.limit is not None:
            live.limit.judged(result.n, live.clock.seconds() - started)
        _note_evaluation(live, result)
    _save(live)
    live.eval_secs = live.clock.seconds() - started
    if live.limit is not None:
        live.limit.evaluated(state.step, live.eval_secs)


def _note_evaluation(live: RunContext, result: EvalResult) -> None:
    state, plan = live.state, live.plan
    record: dict[str, Any] = {
        "step": state.step,
        "epoch": round(state.step / plan.steps_per_epoch, 4),
        **{f"val/{name}": value for name, value in result.metrics.items()},
    }
    live.metrics.write({**record, "perf/eval_images_per_s": round(result.images_per_s, 1)})
    best = state.best
    state.judged = {key: record[key] for key in ("step", "epoch", "val/loss", "val/top1")}
    if not best or (record["val/top1"], -record["val/loss"]) > (
        best["val/top1"],
        -best["val/loss"],
    ):
        state.best = state.judged
        live.best = (state.step, result) if live.limit is not None else None
    state.stale = 0 if record["val/loss"] < state.lowest_loss else state.stale + 1
    state.lowest_loss = min(state.lowest_loss, record["val/loss"])
    live.reporter.evaluation({**record, "is_best": state.best["step"] == state.step})


def _log_step(live: RunContext, lr: float, norm: float) -> None:
    state, plan, clock = live.state, live.plan, live.clock
    window, perf = state.window, clock.lap(state.window, live.loader.data_wait_secs)
    record = {
        "step": state.step,
        "epoch": round(state.step / plan.steps_per_epoch, 4),
        "train/loss": window.loss / window.examples,
        "optim/lr": lr,
        "optim/grad_norm": norm,
        **perf,
    }
    live.metrics.write(record)
    total = state.schedule.total_steps
    live.reporter.step({**record, "total_steps": total, "eta_secs": live.eta_secs})
    state.window = Window()


def _diverged(
    run: RunDir, state: TrainState, batch: Batch, lr: float, loss: float, norm: float
) -> TrainingError:
    """Keeps what is needed to look into it, and says what to try."""
    step = state.step + 1
    run.make("debug")
    run.write(
        "debug/batch.json",
        {
            "step": step,
            "lr": lr,
            "loss": str(loss),
            "grad_norm": str(norm),
            "indices": [int(index) for index in batch.indices],
        },
    )
    run.update(status="failed", best=state.best)
    return TrainingError(
        "VIT-601",
        f"loss became {loss:g} at step {step} (lr {lr:.1e}, grad norm {norm:.2g}). "
        f"The images of that step are listed in {run.path / 'debug' / 'batch.json'}; "
        "the last checkpoint is intact.",
        hint=f"Try --lr {lr / 10:.0e} or --optim.clip 1.0",
    )
