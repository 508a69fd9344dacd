"""`vitrail train DATA`: train a classifier into a new run directory, or continue one.

`--resume RUN` continues a run bit for bit and takes no other option: its folder says the rest. DATA
beside it is where the images of the run lie now.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.output import Output
from vitrail.cli.read_as import ReadAs
from vitrail.cli.settings import Layer, layers_of
from vitrail.config import SHORT
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.training.plan.plan_run import Plan

app = app_of(
    "vitrail train",
    note="Any other setting: --SECTION.NAME VALUE, for instance --ema 0.999 or --model.depth 6. "
    "All of them with their values: vitrail train DATA --print-config",
)
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
Given = Annotated[Any, Parameter(parse=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The settings named most often. Values are text here; vitrail.config checks them."""

    model: str | None = None
    """A name as vit_s16, r50_vit_b16, bit_r50x1, resnet_s; auto, auto-vit. All: vitrail models."""
    from_: Annotated[str | None, Parameter(name="--from")] = None
    """Start a new run from the weights of a model: a run, a model folder, a foreign checkpoint."""
    recipe: str | None = None
    """A complete set of settings to start from, for instance small.residual or paper.finetune."""
    epochs: str | None = None
    """Length of the run in passes over the training pictures."""
    steps: str | None = None
    """Length of the run in updates."""
    time_limit: str | None = None
    """Length of the run in time: 90s, 10m, 1.5h."""
    batch_size: str | None = None
    """Pictures an update, or auto."""
    lr: str | None = None
    """Peak learning rate."""
    image_size: str | None = None
    """Pixels: 64, or 64x48 (height first), or auto."""
    augment: str | None = None
    """Policy: none, randaugment, trivialaugment, three_augment."""
    freeze: str | None = None
    """Which part is not trained: none, body (all but the head; needs --from)."""
    lora_rank: str | None = None
    """Train adapters of this rank instead of the body (needs --from)."""
    teacher: str | None = None
    """A model to learn from beside the labels."""
    precision: str | None = None
    """auto, float32, bfloat16."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1, mps."""
    workers: str | None = None
    """Processes that decode pictures, or auto."""
    seed: str | None = None
    """Seed of everything random."""
    patience: str | None = None
    """Evaluations without a better val/loss before stopping; 0: never."""
    save_every: str | None = None
    """Time between checkpoints: 90s, 10m."""
    val_fraction: str | None = None
    """Share of the training pictures held out when there is no val folder."""
    on_bad_file: str | None = None
    """Pictures that cannot be decoded: stop, skip."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run starts from and where it goes."""

    resume: Path | None = None
    """Continue this run, bit for bit; takes no other option, DATA only where it was moved."""
    config: Path | None = None
    """Settings in a TOML file."""
    out: Path | None = None
    """Folder of runs. Default: runs"""
    name: str | None = None
    """Name of the run. Default: made from the data, with a number."""


@app.default
def train(
    data: str | None = None,
    /,
    *,
    options: TrainOptions | None = None,
    start: RunOptions | None = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    print_config: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Given,
    settings: Given,
) -> int:
    """Train a classifier.

    Parameters
    ----------
    data
        A folder photos/CLASS/*.jpg, a folder with train/ val/ test/, a CSV path,label[,split],
        IDX or CIFAR files, an .npz, or builtin:digits.
    print_config
        Print every setting with its value and where it came from, as TOML, and stop.
    dry_run
        Show the plan, train two throwaway steps, evaluate one batch, predict time and memory.
    """
    start, options = start or RunOptions(), options or TrainOptions()
    given = {item.name.rstrip("_"): getattr(options, item.name) for item in fields(options)}
    command = merge({key: value for key, value in given.items() if value is not None}, settings)
    command |= start_settings(read_as or ReadAs())
    if start.resume is not None:
        named: dict[str, object] = {"config": start.config}
        named |= {"out": start.out, "name": start.name}
        named |= {"print-config": print_config, "dry-run": dry_run}
        others = [*(key for key in named if named[key]), *command]
        return resume(start.resume, data, others, output)
    layers = layers_of(data, start.config, command)
    if not any(layer.get("data.path") for _, layer in layers):
        raise UsageError(
            "VIT-201",
            "DATA is missing: what to train on.",
            hint="For instance: vitrail train builtin:digits",
        )
    if print_config or dry_run:
        return show_plan(layers, output, dry_run=dry_run)
    return start_run(layers, start, output)


def start_settings(read_as: ReadAs) -> dict[str, str]:
    """What the file of --from does not say, as settings of the run. Raises UsageError VIT-202,
    VIT-211.
    """
    if read_as.settings:
        from vitrail.checkpoints.mapping.stated import read_settings

        read_settings(read_as.settings)
    said = {"given": " ".join(read_as.settings), "origin": read_as.origin, "table": read_as.table}
    if read_as.name_map:
        said["map"] = str(read_as.name_map.absolute())
    return {f"start.{key}": value for key, value in said.items() if value}


def merge(short: dict[str, str], dotted: dict[str, str]) -> dict[str, str]:
    """Settings given by short and dotted options. Raises UsageError VIT-203 where both name one."""
    for name in short:
        if SHORT.get(name) in dotted:
            pair = f"--{name.replace('_', '-')} and --{SHORT[name].replace('_', '-')}"
            raise UsageError("VIT-203", f"{pair} are the same setting.", hint="Keep one of them.")
    return short | dotted


def reporter_for(output: Output) -> Any:
    """JSON lines with --json, else a table for people."""
    from vitrail.cli.console import ConsoleReporter, JsonReporter

    return JsonReporter(output) if output.json else ConsoleReporter(output)


def start_run(layers: list[Layer], start: RunOptions, output: Output) -> int:
    """Train a new run; its exit code."""
    from vitrail.training import loop

    result = loop.train(
        layers,
        runs_dir=start.out or Path("runs"),
        name=start.name,
        command=output.command,
        reporter=reporter_for(output),
        age_secs=output.age_secs,
    )
    return EXIT_CODES.get(result.stopped or "", 0)


def resume(run_dir: Path, data: str | None, others: list[str], output: Output) -> int:
    """Continue a run; its exit code. data: where its data lies now. Raises UsageError VIT-203 where
    other options are given.
    """
    if others:
        names = ", ".join(
            word if word.isupper() else "--" + word.replace("_", "-") for word in others
        )
        raise UsageError(
            "VIT-203",
            f"--resume {run_dir} continues a run as it is and takes no other option; got {names}.",
            hint=f"Continue it: vitrail train --resume {run_dir}\n"
            "  For other settings start a new run under another --name",
        )
    from vitrail.training import loop

    reporter = reporter_for(output)
    result = loop.resume(run_dir, data=data, reporter=reporter, age_secs=output.age_secs)
    return EXIT_CODES.get(result.stopped or "", 0)


def show_plan(layers: list[Layer], output: Output, *, dry_run: bool) -> int:
    """Print what a run would be: its choices for --dry-run, all settings for --print-config."""
    from vitrail.cli.console import plan_lines
    from vitrail.cli.eval_run import say_notes
    from vitrail.training.plan.plan_run import plan_run

    plan = plan_run(layers)
    if dry_run:
        from dataclasses import asdict

        from vitrail.training.dry_run import dry_run as rehearse

        choices = [{"key": key, "value": value, "why": why} for key, value, why in plan.choices]
        found = rehearse(plan)
        lasts = "until the time limit" if found.seconds is None else f"about {found.seconds:.0f} s"
        lines = [
            *plan_lines(plan),
            *(f"from   {sentence}" for sentence in plan.changes),
            *(f"note    {sentence}" for sentence in plan.notes),
            f"step    {1000 * found.step_secs:.0f} ms, "
            f"{found.total_steps or 'as many as fit'} steps: {lasts}",
            f"memory  {found.peak_bytes / 1e9:.2f} GB at the highest",
        ]
        record = {"choices": choices, "settings": settings_record(plan), "measured": asdict(found)}
        record |= {"changes": list(plan.changes), "notes": [*plan.splits.notes, *plan.notes]}
        output.result(record, lines)
        output.note("dry run: nothing was kept or written")
    else:
        output.result(settings_record(plan), config_lines(plan))
        say_notes(plan.splits, output)
    return 0


def settings_record(plan: Plan) -> dict[str, dict[str, object]]:
    """Every resolved setting: {key: {"value", "source"}}."""
    from vitrail.config import flatten

    flat = flatten(plan.config)
    return {
        key: {"value": value, "source": plan.sources.get(key, "built-in")}
        for key, value in flat.items()
    }


def config_lines(plan: Plan) -> list[str]:
    """Every resolved setting as a line of TOML with its source as a comment."""
    from vitrail.config import flatten, to_toml

    flat = flatten(plan.config)
    keys = [key for key in flat if "." not in key] + [key for key in flat if "." in key]
    lines, section = [], ""
    texts = [line for line in to_toml(plan.config).splitlines() if " = " in line]
    for key, text in zip(sorted_as_toml(keys), texts, strict=True):
        table = key.split(".")[0] if "." in key else ""
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        lines.append(f"{text:<40}  # {plan.sources.get(key, 'built-in')}")
    return lines


def sorted_as_toml(keys: list[str]) -> list[str]:
    """`keys` in the order in which to_toml writes them: one table after the other."""
    tables = list(dict.fromkeys(key.split(".")[0] if "." in key else "" for key in keys))
    return [
        key
        for table in tables
        for key in keys
        if (key.split(".")[0] if "." in key else "") == table
    ]
