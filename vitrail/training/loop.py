"""Training, readable from top to bottom.

`train` plans a new run, `resume` reopens one, and both hand over to `_run`, which steps, evaluates,
saves and stops.
Randomness: the global generator is seeded from (seed, step) at the start of each step, because
dropout reads it; data order and augmentation are keyed by (seed, epoch, index). So a resumed run
needs no generator state (docs/reliability.md).
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.config import config_hash, flatten
from vitrail.data.loading.loader import Batch
from vitrail.device import keep_freed_memory, resumed_threads, set_threads
from vitrail.errors import EnvironmentFault, TrainingError
from vitrail.evaluation.run_data import resumed
from vitrail.runs.lock import RunLock
from vitrail.runs.manifest import Damaged, step_name
from vitrail.runs.stored import check_weights
from vitrail.spelling import count
from vitrail.training import run_files
from vitrail.training.clock import Clock, share
from vitrail.training.compiled import compile_faults, compiled
from vitrail.training.determinism import make_deterministic
from vitrail.training.finish import StopReason, check_saveable, finish, lost_best
from vitrail.training.network import create_network
from vitrail.training.optim.optimizer import set_lr
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.schedule import lr_on
from vitrail.training.optim.shares import mesh_of
from vitrail.training.plan.plan_run import Layers, Plan, plan_run
from vitrail.training.plan.resumed import is_finished, model_of, settings_of
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.ranks.launch import note_run
from vitrail.training.ranks.pace import Pace
from vitrail.training.ranks.ranks import ALONE, TOLD, Ranks, check_device
from vitrail.training.ranks.share import check_shards, share_of
from vitrail.training.ranks.spread import spread_of
from vitrail.training.ranks.verdict import Ahead, Verdict
from vitrail.training.replay import keep_step
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
    with_test: bool = True,
    age_secs: float = 0.0,
    ranks: Ranks = ALONE,
) -> RunResult:
    """Train a new run in `runs_dir` and evaluate it.

    `layers` are settings from low to high (`config.resolve`). with_report: whether baselines, a
    look back at the data, and the report follow; with_test: whether test images are judged.
    age_secs: what the command took until here, which a time limit counts too. ranks: the processes
    that train it, which have joined; the first one plans and writes.
    Raises VitrailError of every kind: UsageError and DataError before anything is written.
    """
    clock = Clock(age_secs)
    if not ranks.is_first:
        return follow(clock, ranks, with_report=with_report, with_test=with_test)
    reporter = reporter or SilentReporter()
    planned = plan_run(layers, world=ranks.world)
    check_saveable(planned)
    check_device(planned.config.device, ranks)
    share_of(planned.config, ranks)
    check_shards(planned.config, ranks)
    limit = planned.config.time_limit_secs or math.inf
    checked = run_files.without_bad_files(planned, CHECKING * limit)
    plan = checked.plan
    run = create_run(runs_dir, name, plan.splits.name)
    with RunLock(run.path), stop_signals() as stop:
        with ending(run):
            run_files.write_start(run, checked, command)
            run_files.refuse_bad_files(run, plan, checked.bad)
            reporter.plan(plan, run.path)
            for sentence in checked.left_out(str(run.path / run_files.BAD_FILES)):
                reporter.notice(f"data: {sentence}")
            if checked.unseen:
                reporter.notice(checked.sentence)
            for sentence in plan.changes:
                reporter.notice(f"from {plan.config.start.model}: {sentence}")
            for sentence in plan.notes:
                reporter.notice(sentence)
            _tell_run(run, ranks, step=None, data=None)
            live = _start(run, plan, clock, reporter, None, ranks)
            return _run(live, stop, with_report, with_test)


def resume(
    run_dir: Path,
    *,
    data: str | None = None,
    reporter: Reporter | None = None,
    with_report: bool = True,
    with_test: bool = True,
    age_secs: float = 0.0,
    ranks: Ranks = ALONE,
) -> RunResult:
    """Continue a run from its newest whole checkpoint, bit for bit. data: where its data lies now;
    ranks: as for `train`, any number that can share the parts of the run's steps.

    Raises ModelError VIT-405 (every checkpoint damaged), 406, 407 (no run), 408 (finished), 409 (a
    file cannot be read), 410 (other settings), DataError VIT-322 (the data changed), UsageError
    VIT-256 (so many processes cannot share its parts), EnvironmentFault VIT-504 (another process
    trains there).
    """
    clock = Clock(age_secs)
    if not ranks.is_first:
        return follow(clock, ranks, with_report=with_report, with_test=with_test)
    reporter = reporter or SilentReporter()
    run = open_run(run_dir)
    with RunLock(run.path), stop_signals() as stop:
        record = run.read("run.json")
        if record["status"] == "finished":
            raise is_finished(run)
        checkpoint = load_latest(run.path)
        settings, changes = settings_of(run, checkpoint)
        splits = resumed(run.path, data)  # those that can be decoded, which was seen at the start
        recorded, mended = model_of(run, checkpoint)
        layers = [("config.toml", settings)]
        plan = plan_run(layers, recorded, splits, is_new=False)
        share_of(plan.config, ranks)
        check_shards(plan.config, ranks)
        check_device(plan.config.device, ranks)
        with ending(run):
            record |= run_files.built_record(plan)
            run.write("run.json", {**record, "status": "running", "reason": None})
            reporter.plan(plan, run.path)
            for sentence in (*changes, *mended, resumed_threads(int(plan.config.threads))[1]):
                if sentence:
                    reporter.notice(sentence)
            step = checkpoint.step if checkpoint else None
            _tell_run(run, ranks, step=step, data=data)
            live = _start(run, plan, clock, reporter, checkpoint, ranks)
            return _run(live, stop, with_report, with_test)


def follow(clock: Clock, ranks: Ranks, *, with_report: bool, with_test: bool) -> RunResult:
    """Train what the first process has planned and written, without writing or saying anything.

    Raises EnvironmentFault VIT-513 where its run directory is not that of this machine.
    """
    with stop_signals() as stop:
        told = ranks.tell()
        run = RunDir(Path(told["run"]))
        if not run.folder.lies("run.json"):
            raise _not_shared(ranks, run, "there is no such run directory")
        checkpoint = load_latest(run.path) if told["step"] is not None else None
        if checkpoint and checkpoint.step != told["step"]:
            found = f"its newest checkpoint is {step_name(checkpoint.step)}"
            raise _not_shared(ranks, run, found)
        settings, _ = settings_of(run, checkpoint)
        splits = resumed(run.path, told["data"])
        recorded, _ = model_of(run, checkpoint)
        recorded = recorded or run.read("run.json")  # which the first process wrote
        plan = plan_run([("config.toml", settings)], recorded, splits, is_new=False)
        live = _start(run, plan, clock, SilentReporter(), checkpoint, ranks)
        return _run(live, stop, with_report, with_test)


def _tell_run(run: RunDir, ranks: Ranks, *, step: int | None, data: str | None) -> None:
    """Tell the other processes what to train, and who started them which run to go on with."""
    path = str(run.path.absolute())
    if not ranks.is_alone:
        note_run(path)
    ranks.tell({"run": path, "step": step, "data": data})


def _not_shared(ranks: Ranks, run: RunDir, found: str) -> EnvironmentFault:
    return EnvironmentFault(
        "VIT-513",
        f"process {ranks.rank} of {ranks.world} does not see what the first one wrote in "
        f"{run.path}: {found}.",
        hint="All processes need the same folder of runs (--out), as on a network file system.",
    )


def _run(live: RunContext, stop: StopRequest, with_report: bool, with_test: bool) -> RunResult:
    plan, clock, ranks = live.plan, live.clock, live.ranks
    state, loader = live.state, live.loader
    log_every = max(1, min(50, round(plan.steps_per_epoch / 4)))
    last = int(ranks.tell(live.last_step))
    verdict, stopped = Verdict(), None
    live.saved_at = clock.seconds()
    waited = loader.data_wait_secs
    clock.start_steps(waited)
    if live.pace is not None:
        live.pace.waited = waited
    with closing(loader.batches(state.step, last)) as batches:
        ahead = Ahead(batches, ranks)
        verdict = ahead.begin(stop.name)
        for batch in ahead:
            lr, loss, norm = _step(live, batch)
            clock.step()
            verdict = ahead.agree(_decided(live, loss, norm, stop))
            _take(live, verdict, batch, lr)
            if state.step % log_every == 0 or verdict.is_last:
                _log_step(live, lr, verdict.norm)
            if verdict.is_evaluation_due or verdict.is_last:
                _evaluate(live)
                if live.has_no_patience:
                    stopped, verdict = "patience", replace(verdict, is_last=True)
            elif verdict.is_save_due:
                _save(live)
            if verdict.is_last or verdict.stop or (ranks.is_alone and stop.name):
                break
            verdict.go_on()
            clock.start_step()
    name = stop.name if ranks.is_alone else verdict.stop
    if name and not verdict.is_last and state.step < last:
        return _interrupted(live, name)
    if ranks.is_first:
        live.metrics.sync()
        live.metrics.close()
    waited = share(loader.data_wait_secs - waited, clock.step_secs())
    after = (with_report, with_test)
    how = StopReason(stopped, waited, *after, live.limit, live.val, live.best, ranks)
    ended = finish(live.run, plan, live.task, state, live.evaluated, clock, how, live.reporter)
    live.reporter.result(ended)
    return ended


def _decided(live: RunContext, loss: float, norm: float, stop: StopRequest) -> Verdict:
    """What this process says of the step that it has done; the first one decides."""
    state, mean = live.state, live.spread.mean_loss(loss)
    is_last = live.is_at_end
    if live.limit is not None and not is_last:
        state.schedule = live.limit.replan(state.schedule, state.step)
    total, due = state.schedule.total_steps, live.is_evaluation_due
    return Verdict(mean, norm, is_last, due, live.is_save_due, total, stop.name)


def _take(live: RunContext, verdict: Verdict, batch: Batch, lr: float) -> None:
    """Go on with what was agreed. Raises TrainingError VIT-601."""
    state, ranks = live.state, live.ranks
    if not ranks.is_alone:
        live.clock.also()
    if not math.isfinite(verdict.loss + verdict.norm):
        raise _diverged(live, batch, lr, verdict.loss, verdict.norm)
    _update_window(state.window, verdict.loss, live.share.batch_size)
    if not ranks.is_first and verdict.total_steps != state.schedule.total_steps:
        state.schedule = state.schedule.replan(state.step, verdict.total_steps)


def _start(
    run: RunDir,
    plan: Plan,
    clock: Clock,
    reporter: Reporter,
    checkpoint: Checkpoint | None,
    ranks: Ranks,
) -> RunContext:
    """Everything the first step needs, out of the newest whole checkpoint where there is one."""
    config = plan.config
    device = torch.device(config.device)
    keep_freed_memory()
    set_threads(resumed_threads(int(config.threads))[0])
    make_deterministic(device)
    if ranks.is_first:
        sweep_checkpoints(run.path)
    weights = None
    if not checkpoint:
        weights, _ = starting_weights(config, plan.model, plan.splits.classes)
    schedule = Schedule.of(plan.total_steps or 1)
    mesh = mesh_of(ranks.world, device.type) if ranks.is_sharded else None
    state = start_state(config, plan.model, schedule, device, weights, mesh)
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
    if ranks.is_first:
        torn = metrics.cut_back(saved.get("metrics_offset", 0), saved.get("metrics_sha256", ""))
        if torn:
            reporter.notice(torn)
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
        damaged=damaged,
        val=val,
        limit=limit_of(plan, clock, val),
        pace=None if ranks.is_alone else pace_of(run, ranks),
    )
    if live.limit is not None:
        _begin(live, live.limit, weights, is_new=not checkpoint)
    state.model.train()
    return live


def pace_of(run: RunDir, ranks: Ranks) -> Pace:
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


def _begin(
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


def _step(live: RunContext, batch: Batch) -> tuple[float, float, float]:
    """Train on one batch, or on this process's share of it: the learning rate, the loss and the
    norm of the gradients.
    """
    state, config = live.state, live.plan.config
    step = state.step + 1
    parts = live.share.parts(live.task, batch, step, config.seed)
    lr = lr_on(state.schedule, step, config.optim.lr, config.schedule)
    set_lr(state.optimizer, lr)
    with compile_faults() if config.compile else nullcontext(), live.ranks.contact():
        loss_of = live.pace.timed(live.task.loss) if live.pace else live.task.loss
        of_parts, of_gradients = update(live.spread, state, parts, loss_of, config)
    loss, norm = torch.stack([of_parts, of_gradients]).tolist()  # waits for the device, once
    state.step = step
    return lr, loss, norm


def _save(live: RunContext) -> None:
    state, config = live.state, live.plan.config
    state.seconds = live.saved_at = live.clock.seconds()
    with live.ranks.contact():
        tensors = state.whole_tensors(is_kept=live.ranks.is_first)
    if not live.ranks.is_first:
        return
    mark = live.metrics.sync()
    record = {
        **state.record(),
        "metrics_offset": mark.offset,
        "metrics_sha256": mark.sha256,
        "settings": flatten(config),
        "config_hash": config_hash(config),
        "built": run_files.built_record(live.plan),
        "classes": list(live.plan.splits.classes),
        "multi_label": live.plan.splits.multi_label,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    save_checkpoint(
        live.run.path,
        state.step,
        tensors,
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
    if live.ranks.is_first:
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
    live.ranks.wait()  # a process that ends early has the others ended
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
        if state.is_sharded:
            with live.ranks.contact():
                live.evaluated.load_state_dict(state.shipped())
        elif state.ema:
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
    if live.ranks.is_first:
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
    waited, steps = live.loader.data_wait_secs, clock.steps
    window, perf = state.window, clock.lap(state.window, waited)
    if live.pace is not None:
        figures, slow = live.pace.lap(state.step, steps, waited, perf["perf/step_ms"])
        perf |= figures
        if slow:
            live.reporter.notice(slow)
    record = {
        "step": state.step,
        "epoch": round(state.step / plan.steps_per_epoch, 4),
        "train/loss": window.loss / window.examples,
        "optim/lr": lr,
        "optim/grad_norm": norm,
        **perf,
    }
    if live.ranks.is_first:
        live.metrics.write(record)
    total = state.schedule.total_steps
    live.reporter.step({**record, "total_steps": total, "eta_secs": live.eta_secs})
    state.window = Window()


def _diverged(live: RunContext, batch: Batch, lr: float, loss: float, norm: float) -> TrainingError:
    """Keeps what is needed to look into it, and says what to try."""
    run, step = live.run, live.state.step
    mine = json.dumps([int(index) for index in batch.indices]).encode()
    indices = [index for rows in live.ranks.collect(mine) for index in json.loads(rows)]
    record = {"step": step, "lr": lr, "loss": str(loss), "grad_norm": str(norm)}
    keep_step(live, {**record, "indices": indices})
    if live.ranks.is_first:
        run.update(status="failed", best=live.state.best)
    error = TrainingError(
        "VIT-601",
        f"loss became {loss:g} at step {step} (lr {lr:.1e}, grad norm {norm:.2g}). "
        f"The step is kept in {run.path / 'debug'}; the last checkpoint is intact.",
        hint=f"Try --lr {lr / 10:.0e} or --optim.clip 1.0\n  Which layer and which images: "
        f"vitrail doctor --replay {run.path}",
    )
    if not live.ranks.is_first:
        error.add_note(TOLD)
    return error
