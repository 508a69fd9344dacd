"""Training, readable from top to bottom.

`train` plans a new run, `resume` reopens one, and both hand over to `_run`, which steps, evaluates,
saves and stops.
Randomness: the global generator is seeded from (seed, step) at the start of each step, because
dropout reads it; data order and augmentation are keyed by (seed, epoch, index). So a resumed run
needs no generator state (docs/reliability.md).
"""

from __future__ import annotations

import math
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from vitrail.data.loading.loader import Batch
from vitrail.device import resumed_threads
from vitrail.errors import EnvironmentFault
from vitrail.evaluation.run_data import resumed
from vitrail.runs.lock import RunLock
from vitrail.runs.manifest import step_name
from vitrail.training import run_files
from vitrail.training.compiled import compile_faults
from vitrail.training.control.clock import Clock, share
from vitrail.training.control.signals import StopRequest, stop_signals
from vitrail.training.finish import StopReason, finish
from vitrail.training.milestones import diverged, evaluate, log_step, save, update_window
from vitrail.training.optim.optimizer import set_lr
from vitrail.training.optim.schedule import lr_on
from vitrail.training.plan.plan_run import Layers, plan_run
from vitrail.training.plan.resumed import is_finished, model_of, settings_of
from vitrail.training.ranks.launch import note_run
from vitrail.training.ranks.ranks import ALONE, Ranks, check_device
from vitrail.training.ranks.share import check_shards, share_of
from vitrail.training.ranks.verdict import Ahead, Verdict
from vitrail.training.reporter import Reporter, RunResult, SilentReporter
from vitrail.training.run_context import RunContext
from vitrail.training.shipped_model import check_saveable
from vitrail.training.start_run import start_run
from vitrail.training.step import update
from vitrail.training.storage.checkpoint import load_latest
from vitrail.training.storage.run_dir import RunDir, create_run, ending, open_run

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
    profile: int = 0,
) -> RunResult:
    """Train a new run in `runs_dir` and evaluate it.

    `layers` are settings from low to high (`config.resolve`). with_report: whether baselines, a
    look back at the data, and the report follow; with_test: whether test images are judged.
    age_secs: what the command took until here, which a time limit counts too. ranks: the processes
    that train it, which have joined; the first one plans and writes. profile: so many steps are
    recorded by torch's profiler.
    Raises VitrailError of every kind: UsageError and DataError before anything is written.
    """
    clock = Clock(age_secs)
    if not ranks.is_first:
        return follow(clock, ranks, with_report=with_report, with_test=with_test, profile=profile)
    reporter = reporter or SilentReporter()
    planned = plan_run(layers, world=ranks.world)
    check_saveable(planned)
    check_device(planned.config.device, ranks)
    share_of(planned.config, ranks)
    check_shards(planned.config, ranks)
    limit = planned.config.time_limit_secs or math.inf
    checked = run_files.checked_plan(planned, CHECKING * limit)
    plan = checked.plan
    run = create_run(runs_dir, name, plan.splits.name)
    with RunLock(run.path), stop_signals() as stop:
        with ending(run):
            run_files.write_start(run, checked, command)
            run_files.refuse_bad_files(run, plan, checked.bad)
            reporter.plan(plan, run.path)
            for sentence in checked.found.left_out(str(run.path / run_files.BAD_FILES)):
                reporter.notice(f"data: {sentence}")
            if checked.found.unseen:
                reporter.notice(checked.sentence)
            for sentence in plan.changes:
                reporter.notice(f"from {plan.config.start.model}: {sentence}")
            for sentence in plan.notes:
                reporter.notice(sentence)
            _tell_run(run, ranks, step=None, data=None)
            live = start_run(run, plan, clock, reporter, None, ranks)
            live.profile.steps = profile
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
    profile: int = 0,
) -> RunResult:
    """Continue a run from its newest whole checkpoint, bit for bit. data: where its data lies now;
    ranks: as for `train`, any number that can share the parts of the run's steps; profile: as for
    `train`.

    Raises ModelError VIT-405 (every checkpoint damaged), 406, 407 (no run), 408 (finished), 409 (a
    file cannot be read), 410 (other settings), DataError VIT-322 (the data changed), UsageError
    VIT-256 (so many processes cannot share its parts), EnvironmentFault VIT-504 (another process
    trains there).
    """
    clock = Clock(age_secs)
    if not ranks.is_first:
        return follow(clock, ranks, with_report=with_report, with_test=with_test, profile=profile)
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
            live = start_run(run, plan, clock, reporter, checkpoint, ranks)
            live.profile.steps = profile
            return _run(live, stop, with_report, with_test)


def follow(
    clock: Clock, ranks: Ranks, *, with_report: bool, with_test: bool, profile: int = 0
) -> RunResult:
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
        live = start_run(run, plan, clock, SilentReporter(), checkpoint, ranks)
        live.profile.steps = profile
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
    with live.saver, live.profile, closing(loader.batches(state.step, last)) as batches:
        ahead = Ahead(batches, ranks)
        verdict = ahead.begin(stop.name)
        live.profile.begin(state.step + 1)
        for batch in live.profile.named("wait for images", iter(ahead)):
            with live.profile.part("step"):
                lr, loss, norm = _step(live, batch)
            clock.step()
            with live.profile.part("agree"):
                verdict = ahead.agree(_decided(live, loss, norm, stop))
            _take(live, verdict, batch, lr)
            if state.step % log_every == 0 or verdict.is_last:
                log_step(live, lr, verdict.norm)
            if verdict.is_evaluation_due or verdict.is_last:
                evaluate(live)
                if live.has_no_patience:
                    stopped, verdict = "patience", replace(verdict, is_last=True)
            elif verdict.is_save_due:
                save(live)
            if verdict.is_last or verdict.stop or (ranks.is_alone and stop.name):
                break
            verdict.go_on(live.saver.settle)
            live.profile.begin(state.step + 1)
            clock.start_step()
    name = stop.name if ranks.is_alone else verdict.stop
    if name and not verdict.is_last and state.step < last:
        return _interrupted(live, name)
    live.saver.wait()
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
    due, total, saver = live.is_evaluation_due, state.schedule.total_steps, live.saver
    return Verdict(
        loss=mean,
        norm=norm,
        is_last=is_last,
        is_evaluation_due=due,
        is_save_due=live.is_save_due,
        total_steps=total,
        stop=stop.name,
        lost=saver.fault,
        is_written=saver.is_written,
    )


def _take(live: RunContext, verdict: Verdict, batch: Batch, lr: float) -> None:
    """Go on with what was agreed. Raises TrainingError VIT-601, and why a checkpoint could not be
    written: EnvironmentFault VIT-506, VIT-508.
    """
    state, ranks = live.state, live.ranks
    if not ranks.is_alone:
        live.clock.also()
    if not math.isfinite(verdict.loss + verdict.norm):
        error = diverged(live, batch, lr, verdict.loss, verdict.norm)
        live.saver.settle()
        raise error
    if verdict.lost is not None:
        raise verdict.lost
    live.saver.go_on(is_all_written=verdict.is_written)
    update_window(state.window, verdict.loss, live.share.batch_size)
    if not ranks.is_first and verdict.total_steps != state.schedule.total_steps:
        state.schedule = state.schedule.replan(state.step, verdict.total_steps)


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


def _interrupted(live: RunContext, signal: str) -> RunResult:
    """How a run ends that was asked to stop before its last step."""
    if live.state.step:  # also where the wait for a batch was cut short
        save(live)
    live.saver.wait()
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
