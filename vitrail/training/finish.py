"""The end of a run: the best weights become a classifier.

It is judged on every held-out split, beside baselines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitrail.classifier import Classifier, Meta, record_for
from vitrail.errors import DataError, ModelError
from vitrail.evaluation.audit import Limits, audit
from vitrail.evaluation.inside import Inside
from vitrail.evaluation.record import Evaluation
from vitrail.evaluation.report import write_report
from vitrail.models.create import Model
from vitrail.runs.manifest import Damaged, step_name
from vitrail.runs.stored import read_weights
from vitrail.training.advice import advice
from vitrail.training.metrics_log import last_records
from vitrail.training.network import merged, shipped
from vitrail.training.plan import Plan
from vitrail.training.reporter import Reporter, RunResult
from vitrail.training.run_dir import RunDir, reason_of
from vitrail.training.run_files import start_record
from vitrail.training.state import TrainState
from vitrail.training.task import Task
from vitrail.training.time_limit import Clock

AUDIT_SHARE = 0.05  # of the run's time for looking at its data again


@dataclass(frozen=True)
class Ending:
    """How a run came to its last step. stopped: why before it was planned, or None. waited: share
    of the time spent waiting for pictures. with_report: whether baselines, audit and report follow.
    """

    stopped: str | None = None
    waited: float = 0.0
    with_report: bool = True


def finish(
    run: RunDir,
    plan: Plan,
    task: Task,
    state: TrainState,
    network: nn.Module,
    clock: Clock,
    ending: Ending,
    reporter: Reporter,
) -> RunResult:
    """Write model/, eval/ and the report; returns what the run came to."""
    network.load_state_dict(best_weights(run.path, state, reporter))
    network = merged(network)
    results, evaluations = _judge(run, plan, task, network)
    judged = next((split for split in ("test", "val") if split in results), None)
    longest = 60.0 if plan.config.time_limit_secs is None else 10.0
    simple: dict[str, float] = {}
    if judged and ending.with_report:
        simple = task.baselines(getattr(plan.splits, judged), longest)
    top1 = results[judged]["top1"] if judged else None
    if ending.with_report:
        waited = ending.waited
        for sentence in advice(plan, task.num_outputs, top1, simple, _last_loss(run), waited):
            reporter.notice(sentence)
    classifier = _save_model(run, plan, shipped(network), results)
    seconds = clock.seconds()
    figures = {"seconds": round(seconds, 3), "best": state.best, "baselines": simple}
    run.update(**figures, stopped=ending.stopped, results=metrics_of(results))
    if ending.with_report:
        _audit(run, plan, evaluations, reporter)
        _report(run, classifier, longest / 2, reporter)
    run.update(status="finished")  # last of all: until here --resume would end what is missing
    return RunResult(
        run.path,
        seconds,
        state.step,
        state.best,
        results.get("val"),
        results.get("test"),
        simple,
        ending.stopped,
        next_commands=next_commands(run.path, plan),
    )


def _report(run: RunDir, classifier: Classifier, max_secs: float, reporter: Reporter) -> None:
    try:
        write_report(run.path, inside=inside_of(classifier, max_secs))
    except Exception as error:  # a run is not lost for want of a page, whatever failed
        reporter.notice(
            f"the report could not be written: {reason_of(error)}; try again: "
            f"vitrail report {run.path}"
        )


def _audit(run: RunDir, plan: Plan, evaluations: dict[str, Evaluation], reporter: Reporter) -> None:
    """Look for leakage and doubtful labels; audit.json and its tables. Says what was found."""
    config = plan.config
    if config.objective != "classify":
        return
    share = AUDIT_SHARE * float(run.read("run.json")["seconds"])
    longest = min(max(20.0, share), 300.0) if config.time_limit_secs is None else 10.0
    limits = Limits(longest, int(config.data.workers), config.data.max_pixels)
    try:
        found = audit(plan.splits, evaluations, limits)
        run.write("audit.json", found.to_json())
        found.write_tables(run.path)
    except Exception as error:  # a run is not lost for want of a second look at its data
        reporter.notice(f"the data could not be looked at again: {reason_of(error)}")
        return
    for sentence in found.sentences():
        reporter.notice(sentence)


def _judge(
    run: RunDir, plan: Plan, task: Task, network: nn.Module
) -> tuple[dict[str, dict[str, Any]], dict[str, Evaluation]]:
    """The record of each held-out split; eval/SPLIT/ and the evaluation itself where the network
    classifies.
    """
    results, evaluations = {}, {}
    for split in task.splits:
        source = getattr(plan.splits, split)
        if source is None:
            continue
        result = task.judge(network, source)
        if result.evaluation is not None:
            result.evaluation.write(run.path / "eval" / split)
            evaluations[split] = result.evaluation
        results[split] = result.record
    return results, evaluations


def _save_model(
    run: RunDir, plan: Plan, model: nn.Module, results: dict[str, dict[str, Any]]
) -> Classifier:
    """Write model/: a classifier, or an encoder without a head."""
    classes, meta = described(plan, results)
    classifier = Classifier(model.cpu().eval(), plan.preprocess, classes, meta=meta)
    classifier.save(run.model, replace=True)  # a killed process may have left one
    return classifier


def described(plan: Plan, results: dict[str, dict[str, Any]]) -> tuple[tuple[str, ...], Meta]:
    """The classes of the model that `plan` makes, none for an encoder, and what is said of it."""
    is_classifier = plan.config.objective == "classify"
    meta = Meta(
        name=plan.config.model.name,
        trained_on=trained_on(plan),
        metrics=metrics_of(results) if is_classifier else {},
        scores="sigmoid" if is_classifier and plan.splits.multi_label else "softmax",
        origin=plan.origin,
    )
    return plan.splits.classes if is_classifier else (), meta


def check_saveable(plan: Plan) -> None:
    """Raise DataError VIT-325 where the model that `plan` makes could not be saved."""
    classes, meta = described(plan, {})
    try:
        record_for(plan.model, plan.preprocess, classes, meta, name=Path("model.json"))
    except ModelError as error:
        raise DataError(
            "VIT-325",
            f"a model trained on {plan.splits.name} could not be saved: {error.message}",
            hint="Rename what the message names; nothing was trained.",
        ) from error


def inside_of(classifier: Classifier, max_secs: float = 30.0) -> Inside | None:
    """What explains a run's mistakes in its report; None for a model that is not one of ours."""
    if not isinstance(classifier.model, Model):
        return None
    scores = classifier.meta.scores
    return Inside(classifier.model, classifier.preprocess, classifier.classes, scores=scores,
                  max_secs=max_secs)  # fmt: skip


def _last_loss(run: RunDir) -> float:
    """train/loss of the last training record."""
    losses = [record.get("train/loss") for record in last_records(run.folder)]
    return next((float(loss) for loss in reversed(losses) if loss is not None), 0.0)


def best_weights(run_dir: Path, state: TrainState, reporter: Reporter) -> dict[str, torch.Tensor]:
    """The weights of the best evaluation, from its checkpoint, verified; the last ones where none
    was, or where that checkpoint is damaged, which is said.
    """
    if state.best and state.best["step"] != state.step:
        try:
            return read_weights(run_dir, state.best["step"], state.weights_file)
        except Damaged as error:
            reporter.notice(lost_best(state, str(error)))
            state.best = state.judged
    return state.tensors()[state.weights_file]


def lost_best(state: TrainState, why: str) -> str:
    """What is said where the weights of the best evaluation cannot be used."""
    best, last = state.best, state.judged
    instead = (
        f"step {last['step']} (val/top1 {last['val/top1']:.4f}) takes its place"
        if last
        else "the evaluations to come are compared anew"
    )
    return (
        f"VIT-405: checkpoint {step_name(best['step'])}, the best so far (val/top1 "
        f"{best['val/top1']:.4f}), is damaged ({why}); {instead}."
    )


def trained_on(plan: Plan) -> dict[str, Any]:
    """What model.json says of the training data."""
    splits = plan.splits
    return {
        "data": splits.name,
        "pictures": len(splits.train),
        "split": splits.how,
        "recipe": plan.config.recipe,
        "seed": plan.config.seed,
        **start_record(plan),
    }


def metrics_of(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of each split that fit in a line."""
    keys = ("n", "top1", "top1_interval", "top5", "nll", "ece", "f1_macro")
    return {
        split: {key: values[key] for key in keys if key in values}
        for split, values in results.items()
    }


def next_commands(run_dir: Path, plan: Plan) -> list[str]:
    """What to do with a finished run."""
    if plan.config.objective == "masked_patches":
        return [f"vitrail report {run_dir}", f"vitrail train DATA --from {run_dir}"]
    return [
        f"vitrail report {run_dir}",
        f"vitrail eval {run_dir}",
        f"vitrail predict {run_dir} IMAGE",
    ]
