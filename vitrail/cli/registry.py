"""The verbs, and the options that each has. Their modules are imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cyclopts import App

HIDDEN = ("data.path",)  # given as DATA


class Verb(NamedTuple):
    """A module with `app`, its parser; whether it takes settings of a run; a line for --help."""

    module: str
    takes_settings: bool
    summary: str


VERBS = {
    "train": Verb("vitrail.cli.verbs.train", True, "train a classifier on a folder of images"),
    "eval": Verb(
        "vitrail.cli.verbs.evaluate", False, "evaluate a classifier on a labelled dataset"
    ),
    "probe": Verb(
        "vitrail.cli.verbs.probe", False, "evaluate frozen features (linear probe, k-NN, few-shot)"
    ),
    "predict": Verb("vitrail.cli.verbs.predict", False, "classify images"),
    "compare": Verb(
        "vitrail.cli.verbs.compare",
        False,
        "compare architectures on your dataset, with learning curves",
    ),
    "study": Verb("vitrail.cli.verbs.study", False, "run the paper's experiments on your dataset"),
    "convert": Verb(
        "vitrail.cli.verbs.convert", False, "convert checkpoints to and from other libraries"
    ),
    "export": Verb(
        "vitrail.cli.verbs.export", False, "a model for other engines, checked against torch"
    ),
    "explain": Verb(
        "vitrail.cli.verbs.explain", False, "show attention and saliency maps for predictions"
    ),
    "serve": Verb("vitrail.cli.verbs.serve", False, "serve classifiers over HTTP"),
    "report": Verb(
        "vitrail.cli.verbs.report", False, "one page about a run: curves, confusion, mistakes"
    ),
    "data": Verb("vitrail.cli.verbs.data", False, "check, split, show, shard, index or get images"),
    "models": Verb(
        "vitrail.cli.verbs.models", False, "architectures: parameters, multiply-adds, tokens"
    ),
    "runs": Verb("vitrail.cli.verbs.runs", False, "list runs: status, dataset, best figure, age"),
    "lr-find": Verb("vitrail.cli.verbs.lr_find", True, "compare learning rates in short trainings"),
    "doctor": Verb(
        "vitrail.cli.verbs.doctor", False, "this machine: versions, memory, what it can train"
    ),
}


def commands(app: App) -> dict[str, App]:
    """The parts of a verb by name (`check` of `vitrail data`), or the verb itself under ""."""
    if app.default_command is not None:
        return {"": app}
    return {name: app[name] for name in app if not name.startswith("-")}


def option_names(app: App) -> list[str]:
    """Every option the parser of one verb, with all its parts, knows, as typed."""
    parts = [part.assemble_argument_collection() for part in commands(app).values()]
    found = [item for part in parts for item in part if item.parse]
    return sorted({name for item in found for name in item.names if name.startswith("-")})


def setting_options() -> list[str]:
    """The options that set a key of TrainConfig, long and short; `--model.FIELD` beside them."""
    from vitrail.config import SHORT, known_keys

    return ["--" + key.replace("_", "-") for key in [*known_keys(), *SHORT] if key not in HIDDEN]


def verbs_with(option: str) -> list[str]:
    """The verbs that have an option of this very name."""
    name = option.replace("_", "-")
    return [
        verb
        for verb, one in VERBS.items()
        if name in option_names(importlib.import_module(one.module).app)
        or (one.takes_settings and name in setting_options())
    ]
