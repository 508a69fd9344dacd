"""The verbs, examples of each, and the options that each has. Modules are imported when needed."""

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
    "push": Verb("vitrail.cli.verbs.push", False, "send a model to the Hugging Face hub"),
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
    "tune": Verb("vitrail.cli.verbs.tune", True, "search for better settings within a budget"),
    "doctor": Verb(
        "vitrail.cli.verbs.doctor", False, "this machine: versions, memory, what it can train"
    ),
    "completion": Verb("vitrail.cli.verbs.completion", False, "completion for bash, zsh or fish"),
}

GLOBAL = {
    "--json": "one JSON document on stdout (train: JSON lines, result last)",
    "-q, --quiet": "results and errors only",
    "-v, --verbose": "more detail; a traceback with an error",
    "--no-color": "no colour, no bars (also NO_COLOR, TERM=dumb, no terminal)",
    "--version": "the version of vitrail",
    "-h, --help": "this text, or that of a verb; --man: a man page",
}

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {  # verb: (words after its name, what for)
    "train": (
        ("photos/", "all settings chosen for you"),
        ("photos/ --time-limit 10m", "as good as ten minutes allow"),
        ("photos/ --from vit_b16.augreg_i21k_i1k_384", "fine-tune"),
        ("--resume runs/photos-1", "continue"),
    ),
    "eval": (
        ("runs/photos-1", "the run's own test set"),
        ("runs/photos-1 new/ --against runs/photos-2", "which of two is better"),
    ),
    "probe": (
        ("runs/photos-1 photos/", "few-shot accuracy"),
        ("runs/photos-1 photos/ --kind linear", "linear probe"),
    ),
    "predict": (
        ("runs/photos-1 new.jpg", "the five most likely classes"),
        ("runs/photos-1 new/ --out labels.csv", "a folder, as a table"),
    ),
    "compare": (
        ("photos/", "three architectures in 20 minutes"),
        ("photos/ --models vit_s16,bit_r50x1 --budget 2h", "these two, longer"),
    ),
    "study": (
        ("--list", "all studies"),
        ("data-size --data photos/ --budget 30m", "one of them"),
    ),
    "tune": (
        ("photos/ --budget 1h", "rate, decay of weights, smoothing"),
        ("photos/ --over augment.mixup=0..0.4 --epochs 5", "one setting, trials of 5 epochs"),
    ),
    "convert": (
        ("runs/photos-1 vit.safetensors --to timm", "for timm"),
        ("B_16.npz vit_b16 --to vitrail", "from Google's files"),
    ),
    "export": (
        ("runs/photos-1 photos-onnx", "one ONNX file, checked"),
        ("--list", "the targets and what they need"),
    ),
    "push": (
        ("runs/photos-1 me/photos --dry-run", "what would be sent"),
        ("runs/photos-1 me/photos --private", "asks, then sends"),
    ),
    "explain": (
        ("runs/photos-1 new.jpg", "a map for the predicted class"),
        ("runs/photos-1 photos/new --sheet all", "methods side by side, on one page"),
        ("runs/photos-1 new.jpg --method rollout --target cat", "another method and class"),
    ),
    "serve": (
        ("runs/photos-1", "on http://127.0.0.1:8000"),
        ("photos-onnx --port 9000", "an export, another port"),
    ),
    "report": (
        ("runs/photos-1", "writes runs/photos-1/report.html"),
        ("runs/photos-1 --watch", "a page that follows the training"),
    ),
    "data check": (
        ("photos/", "bad files, duplicates, leakage"),
        ("photos/ --labels --out findings", "label errors too, as a page"),
    ),
    "data split": (
        ("photos/", "writes photos/split.csv"),
        ("photos/ --test-fraction 0.15 --seed 1", "with a test set"),
    ),
    "data show": (
        ("photos/", "images with their labels"),
        ("photos/ --augment recipe --out seen.png", "what training sees"),
    ),
    "data shard": (
        ("photos/ shards/", "tar files with an index"),
        ("photos/ shards/ --short-side 256 --workers 8", "made smaller, by eight processes"),
    ),
    "data index": (
        ("shards/ --out indexed/", "tar or Parquet files of others"),
        ("shards/ --out indexed/ --workers 8", "by eight processes"),
    ),
    "data get": (("digits", "into digits/"), ("digits other", "into other/")),
    "models": (
        ("vit_b16 --image-size 384", "parameters, multiply-adds, tokens"),
        ("--weights", "published weights"),
    ),
    "runs": (("", "those in runs/"), ("elsewhere/", "those in another folder")),
    "lr-find": (
        ("photos/", "with the settings of train"),
        ("photos/ --optim.name sgd", "of another update rule"),
    ),
    "doctor": (
        ("", "this machine"),
        ("--plan vit_h14 --gpus 8 --shard", "what pre-training it would need"),
        ("--self-test", "kill a run, continue it, compare every bit"),
        ("--replay runs/photos-1", "the step at which it diverged"),
    ),
    "completion": (
        ("bash > ~/.local/share/bash-completion/completions/vitrail", ""),
        ("fish > ~/.config/fish/completions/vitrail.fish", ""),
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
