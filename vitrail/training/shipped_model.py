"""The model that a run leaves: its best weights, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitrail.classifier import Classifier
from vitrail.errors import DataError, ModelError
from vitrail.evaluation.run_data import record_of
from vitrail.model_folder.description import Description, Meta
from vitrail.models.create import Model
from vitrail.report.explanations import ModelExplanations
from vitrail.runs.manifest import Damaged, step_name
from vitrail.runs.stored import read_weights
from vitrail.training.plan.plan_run import Plan
from vitrail.training.reporter import Reporter
from vitrail.training.run_files import start_record
from vitrail.training.state import TrainState
from vitrail.training.storage.run_dir import RunDir


def save_model(
    run: RunDir, plan: Plan, model: nn.Module, results: dict[str, dict[str, Any]]
) -> Classifier:
    """Write model/: a classifier, or an encoder without a head."""
    classes, meta = described(plan, results)
    known = record_of(run.path)
    classifier = Classifier(model.cpu().eval(), plan.preprocess, classes, meta=meta, examples=known)
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
        Description(plan.model, plan.preprocess, classes, meta).record(Path("model.json"))
    except ModelError as error:
        raise DataError(
            "VIT-325",
            f"a model trained on {plan.splits.name} could not be saved: {error.message}",
            hint="Rename what the message names; nothing was trained.",
        ) from error


def inside_of(classifier: Classifier, max_secs: float = 30.0) -> ModelExplanations | None:
    """What explains a run's mistakes in its report; None for a model that is not one of ours."""
    if not isinstance(classifier.model, Model):
        return None
    scores = classifier.meta.scores
    return ModelExplanations(
        classifier.model,
        classifier.preprocess,
        classifier.classes,
        scores=scores,
        max_secs=max_secs,
    )


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
    return state.shipped()


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
