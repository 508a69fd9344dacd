"""The end of a run: the best weights become a classifier.

It is judged on every held-out split, beside baselines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from vitrail.classifier import Classifier
from vitrail.data.sources.open_data import Source, subset
from vitrail.errors import VitrailError
from vitrail.evaluation.eval_set import judged_as
from vitrail.evaluation.labels.audit import Limits, audit
from vitrail.evaluation.record import Evaluation
from vitrail.evaluation.run_data import record_of
from vitrail.report.run_report import write_report
from vitrail.spelling import count
from vitrail.training import rival
from vitrail.training.advice import Evidence, advice
from vitrail.training.control.clock import Clock
from vitrail.training.control.time_limit import TimeLimit
from vitrail.training.network import export_model, merge_adapters
from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.ranks import ALONE, Ranks
from vitrail.training.reporter import Reporter, RunResult
from vitrail.training.shipped_model import best_weights, inside_of, metrics_of, save_model
from vitrail.training.state import TrainState
from vitrail.training.storage.metrics_log import last_records
from vitrail.training.storage.run_dir import RunDir, reason_of
from vitrail.training.tasks.task import EvalResult, Task

AUDIT_SHARE = 0.05  # of the run's time for looking at its data again
# Of what a time limit leaves for them: baselines, then the audit; explanations get the rest.
BASELINES_SHARE, EXTRAS_SHARE = 0.5, 0.75
EXPLAIN_SECS = 1.5  # of one core, at the least


@dataclass(frozen=True)
class StopReason:
    """How a run came to its last step. stopped: why before it was planned, or None. waited: share
    of the time spent waiting for images. with_report: whether baselines, audit and report follow;
    with_test: whether test images are judged.
    val: the validation images that were judged on the way; best: the step and the result of
    their best evaluation, where it was kept.
    """

    stopped: str | None = None
    waited: float = 0.0
    with_report: bool = True
    with_test: bool = True
    limit: TimeLimit | None = None
    val: Source | None = None
    best: tuple[int, EvalResult] | None = None
    ranks: Ranks = ALONE


def finish(
    run: RunDir,
    plan: Plan,
    task: Task,
    state: TrainState,
    network: nn.Module,
    clock: Clock,
    ending: StopReason,
    reporter: Reporter,
) -> RunResult:
    """Write model/, eval/ and the report; returns what the run came to. Several processes judge
    together; the first one does the rest.
    """
    last = Last(run, plan, task, state, clock, ending, reporter)
    network.load_state_dict(best_weights(run.path, state, reporter))
    network = merge_adapters(network)
    judged = _judge(last, network)
    results = {split: one.record for split, one in judged.items()}
    if not ending.ranks.is_first:
        return RunResult(run.path, clock.seconds(), state.step, state.best, stopped=ending.stopped)
    classifier = save_model(run, plan, export_model(network), results)
    simple = _baselines(last, judged) if ending.with_report else {}
    if ending.with_report:
        _advise(last, judged, simple)
        simple |= _rival(last, judged)
    figures = {"seconds": round(clock.seconds(), 3), "best": state.best, "baselines": simple}
    run.update(**figures, stopped=ending.stopped, results=metrics_of(results))
    if ending.with_report:
        _audit(last, judged)
        _report(last, classifier)
    if ending.limit is not None:
        decided = {"schedule": state.schedule.to_json(), "left_out": ending.limit.left_out}
        run.update(seconds=round(clock.seconds(), 3), time_limit=decided)
    run.update(status="finished")  # last of all: until here --resume would end what is missing
    return RunResult(
        run.path,
        clock.seconds(),
        state.step,
        state.best,
        results.get("val"),
        results.get("test"),
        simple,
        ending.stopped,
        next_commands=next_commands(run.path, plan),
    )


@dataclass(frozen=True)
class Last:
    """A run after its last step, and the time that is left for the rest."""

    run: RunDir
    plan: Plan
    task: Task
    state: TrainState
    clock: Clock
    ending: StopReason
    reporter: Reporter

    @property
    def limit(self) -> TimeLimit | None:
        """The time limit; None without one."""
        return self.ending.limit

    def secs(self, usual: float, share: float = 1.0) -> float:
        """Seconds for a part of the rest: the usual ones, or a share of what a limit leaves."""
        return usual if self.limit is None else max(0.0, share * self.limit.left_secs())

    @property
    def slowness(self) -> float:
        """How many times as long things take as on an idle machine, where that matters."""
        return 1.0 if self.limit is None else self.clock.slowness(self.limit.threads)

    def leave_out(self, sentence: str) -> None:
        """Say what there was no time for, and keep it for run.json."""
        self.reporter.notice(sentence)
        if self.limit is not None:
            self.limit.left_out.append(sentence)


def _baselines(last: Last, judged: Mapping[str, EvalResult]) -> dict[str, float]:
    """What no learning achieves on the split that the claim is made of."""
    split = next((split for split in ("test", "val") if split in judged), None)
    if split is None:
        return {}
    source = getattr(last.plan.splits, split)
    secs = last.secs(60.0, BASELINES_SHARE)
    found = last.task.baselines(source, secs, last.slowness)
    if last.limit is not None and set(found) == {"majority class"} and source.labels.ndim == 1:
        last.leave_out(
            "nearest-neighbour baseline left out (time limit); a longer --time-limit includes it"
        )
    return found


def _rival(last: Last, judged: Mapping[str, EvalResult]) -> dict[str, float]:
    """What a small residual network reaches, on the same split as the other baselines."""
    split = next((split for split in ("test", "val") if split in judged), None)
    if split is None or not rival.is_wanted(last.plan):
        return {}
    if last.limit is not None:
        last.leave_out(
            f"{rival.NAME} baseline left out (time limit); to see it: --model {rival.MODEL}"
        )
        return {}
    try:
        source = getattr(last.plan.splits, split)
        found = rival.small_residual(last.plan, last.state.step, source)
    except VitrailError as error:  # a run is not lost for want of a baseline
        last.reporter.notice(f"{rival.NAME} baseline: {error.message}")
        return {}
    if found is None:
        return {}
    name, top1 = found
    low_high = judged[split].record.get("top1_interval", (0.0, 1.0))
    if top1 > float(low_high[1]):
        last.reporter.notice(
            f"a {rival.NAME} reaches {top1:.3f} for no more multiply-adds: --model {rival.MODEL}; "
            "a ViT pays with pre-trained weights (--from) or far more images"
        )
    return {name: top1}


def _advise(last: Last, judged: Mapping[str, EvalResult], simple: Mapping[str, float]) -> None:
    """What the run's owner should know without asking."""
    split = next((split for split in ("test", "val") if split in judged), None)
    record = judged[split].record if split is not None else {}
    found = Evidence(
        last.state.step,
        last.task.num_outputs,
        record.get("top1"),
        tuple(record.get("top1_interval", ())),
        simple,
        _last_loss(last.run),
        last.ending.waited,
    )
    if last.limit is not None and (sentence := last.limit.warning(last.state.step)):
        last.reporter.notice(sentence)
    for sentence in advice(last.plan, found):
        last.reporter.notice(sentence)


def _report(last: Last, classifier: Classifier) -> None:
    explaining = 60.0 if last.limit is None else last.secs(0.0)
    if explaining < EXPLAIN_SECS * last.slowness:
        explaining = 0.0
        last.leave_out(
            "explanations left out of the report (time limit); to add them: "
            f"vitrail report {last.run.path}"
        )
    inside = inside_of(classifier, explaining / 2) if explaining else None
    try:
        write_report(last.run.path, inside=inside)
    except Exception as error:  # a run is not lost for want of a page, whatever failed
        last.reporter.notice(
            f"the report could not be written: {reason_of(error)}; try again: "
            f"vitrail report {last.run.path}"
        )


def _audit(last: Last, judged: Mapping[str, EvalResult]) -> None:
    """Look for leakage and doubtful labels; audit.json and its tables. Says what was found."""
    plan, config = last.plan, last.plan.config
    if config.objective != "classify":
        return
    share = AUDIT_SHARE * float(last.run.read("run.json")["seconds"])
    evaluations = {split: one.evaluation for split, one in judged.items() if one.evaluation}
    limits = Limits(
        last.secs(min(max(20.0, share), 300.0), EXTRAS_SHARE),
        int(config.data.workers),
        config.data.max_pixels,
        last.slowness,
        config.data.path,
    )
    try:
        found = audit(plan.splits, evaluations, limits)
        last.run.write("audit.json", found.to_json())
        found.write_tables(last.run.path)
    except Exception as error:  # a run is not lost for want of a second look at its data
        last.reporter.notice(f"the data could not be read again: {reason_of(error)}")
        return
    for sentence in found.sentences():
        last.reporter.notice(sentence)
    if last.limit is not None:
        last.limit.left_out.extend(found.skipped())


def _judge(last: Last, network: nn.Module) -> dict[str, EvalResult]:
    """Each held-out split judged; eval/SPLIT/ where the network classifies."""
    found: dict[str, EvalResult] = {}
    for split in last.task.splits:
        source = getattr(last.plan.splits, split)
        if source is None or (split == "test" and not last.ending.with_test):
            continue
        found[split] = result = _judge_split(last, network, split, source)
        if result.evaluation is not None:
            told = _with_seen(last, result.evaluation, split, source)
            told.write(last.run.path / "eval" / split)
    return found


def _with_seen(last: Last, found: Evaluation, split: str, source: Source) -> Evaluation:
    """The evaluation with how many of its images were trained on, also by the model of --from; says
    so where some were.
    """
    places = {source.source_id(index): index for index in range(len(source))}
    judged = subset(source, np.array([places[name] for name in found.ids], np.int64))
    record = record_of(last.run.path)
    told = judged_as(judged, last.plan.splits.name, split, "recorded", record, len(source))
    without = told.without_seen(found)
    if without is not None:
        last.reporter.notice(f"{split}: {'; '.join(told.sentences())}")
    return replace(found, judged=told.to_json() | ({"without": without} if without else {}))


def _judge_split(last: Last, network: nn.Module, split: str, source: Source) -> EvalResult:
    """A split judged, or under a time limit as many of its images as there is time for."""
    ending, limit = last.ending, last.limit
    if limit is None:
        return last.task.judge(network, source)
    if split == "val":
        is_known = ending.best is not None and ending.best[0] == last.state.best.get("step")
        if ending.best is not None and is_known and not last.plan.config.lora.rank:
            return ending.best[1]
        val = source if ending.val is None else ending.val
        return last.task.judge(network, val, limit.is_late)
    order, is_over = limit.until(source, last.plan.config.seed)
    result = in_order(last.task.judge(network, order, is_over), source)
    if result.n < len(source):
        last.leave_out(
            f"{split} accuracy is that of a random sample of {result.n:,} of "
            f"{count(len(source), 'image')} (time limit); to evaluate all: vitrail eval "
            f"{last.run.path} --split {split}"
        )
    return result


def in_order(judged: EvalResult, source: Source) -> EvalResult:
    """`judged` with its images in the order of `source`."""
    found = judged.evaluation
    if found is None:
        return judged
    places = {source.source_id(index): index for index in range(len(source))}
    order = np.argsort([places[name] for name in found.ids], kind="stable")
    rows = replace(
        found,
        probabilities=found.probabilities[order],
        labels=found.labels[order],
        losses=found.losses[order],
        ids=tuple(found.ids[i] for i in order),
    )
    return replace(judged, evaluation=rows)


def _last_loss(run: RunDir) -> float:
    """train/loss of the last training record."""
    losses = [record.get("train/loss") for record in last_records(run.folder)]
    return next((float(loss) for loss in reversed(losses) if loss is not None), 0.0)


def next_commands(run_dir: Path, plan: Plan) -> list[str]:
    """What to do with a finished run."""
    if plan.config.objective == "masked_patches":
        return [f"vitrail report {run_dir}", f"vitrail train DATA --from {run_dir}"]
    return [
        f"vitrail report {run_dir}",
        f"vitrail eval {run_dir}",
        f"vitrail predict {run_dir} IMAGE",
    ]
