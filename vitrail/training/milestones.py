"""What a run writes on its way: figures of training, evaluations, checkpoints, and the step that
failed.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from vitrail.config import config_hash, flatten
from vitrail.data.loading.loader import Batch
from vitrail.errors import TrainingError
from vitrail.training import run_files
from vitrail.training.control.clock import Window
from vitrail.training.ranks.ranks import TOLD
from vitrail.training.replay import keep_step
from vitrail.training.run_context import RunContext
from vitrail.training.tasks.task import EvalResult
from vitrail.training.tasks.validation import never


def log_step(live: RunContext, lr: float, norm: float) -> None:
    """Write and tell the averages since the last record. norm: of the gradients of this step."""
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


def evaluate(live: RunContext) -> None:
    """Judge the averaged weights, or the plain ones where none are kept, on validation images,
    and begin to write a checkpoint.
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
    save(live)
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


def save(live: RunContext) -> None:
    """Begin to write a checkpoint; every process takes part. A run with a time limit waits for it,
    because it plans with what that takes.
    """
    state = live.state
    state.seconds = live.saved_at = live.clock.seconds()
    with live.profile.part("copy of a checkpoint"):
        live.saver.save(state, _state_record(live) if live.ranks.is_first else {})
    if live.limit is not None:
        live.saver.wait()


def _state_record(live: RunContext) -> dict[str, Any]:
    """What state.json of a checkpoint says."""
    config, mark = live.plan.config, live.metrics.mark()
    return {
        **live.state.record(),
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


def update_window(window: Window, loss: float, examples: int) -> None:
    """Add a step to the sums of the next record."""
    window.loss += loss * examples
    window.examples += examples
    window.steps += 1


def diverged(live: RunContext, batch: Batch, lr: float, loss: float, norm: float) -> TrainingError:
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
