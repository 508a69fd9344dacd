"""What a run says while it trains: a table with a progress line on a terminal, or JSON lines.

In a pipe the table is the same text without the progress line: one line an evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.cli.display.output import Output, plain
from vitrail.cli.display.progress import Line, ProgressLine, clock
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.models.names import ModelConfig
    from vitrail.training.plan.plan_run import Plan
    from vitrail.training.reporter import RunResult

# Norms of the residual network, in words.
NORMS = {"batch": "BatchNorm", "group": "GroupNorm", "group_std": "GroupNorm, standardised"}
COLUMNS = (
    *(("epoch", 6), ("train/loss", 10), ("val/loss", 8), ("val/top1", 8)),
    *(("lr", 8), ("img/s", 7), ("wait", 5), ("eta", 7)),
)


class JsonReporter:
    """One JSON object a line on stdout: plan, notice, evaluation ..., and last the result."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def say(self, event: str, record: Mapping[str, Any]) -> None:
        """One line."""
        self.output.document({"event": event, **record})

    def plan(self, plan: Plan, run_dir: Path) -> None:
        """The resolved settings."""
        choices = [{"key": key, "value": value, "why": why} for key, value, why in plan.choices]
        settings = plan.config.model_dump(mode="json")
        self.say(
            "plan",
            {"run_dir": run_dir, "choices": choices, "settings": settings, "sources": plan.sources}
            | {"notes": plan.splits.notes},
        )

    def notice(self, text: str) -> None:
        """One sentence."""
        self.say("notice", {"text": text})

    def step(self, record: Mapping[str, Any]) -> None:
        """Nothing: steps are in metrics.jsonl of the run."""

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """The record of an evaluation."""
        self.say("evaluation", record)

    def result(self, result: RunResult) -> None:
        """The end of the run."""
        self.say("result", plain(result))


class ConsoleReporter:
    """Lines for people; on a terminal a progress line below them."""

    def __init__(self, output: Output, line: Line | None = None) -> None:
        self.output = output
        self.last: dict[str, Any] = {}
        self.has_head = False
        self.bar: Line = line or ProgressLine(output)

    def plan(self, plan: Plan, run_dir: Path) -> None:
        """The choices made for this run, and where it is written."""
        for line in plan_lines(plan):
            self.bar.above(line)
        self.bar.above(
            f"run  {run_dir}  (stop any time with Ctrl-C; "
            f"continue with: vitrail train --resume {run_dir})"
        )

    def notice(self, text: str) -> None:
        """One sentence, above the progress line."""
        if self.bar.bar:
            self.bar.above(text, style="yellow")
        else:
            self.output.note(text)

    def step(self, record: Mapping[str, Any]) -> None:
        """Remember a step and move the progress line, at most five times a second."""
        self.last = dict(record)
        if self.bar.is_due:
            self.bar.draw(step_text(record), record["step"], record.get("total_steps"))

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """One line of the table."""
        if not self.has_head:
            self.has_head = True
            self.bar.above("  ".join(name.rjust(width) for name, width in COLUMNS))
        self.bar.above(evaluation_line({**self.last, **record}))

    def result(self, result: RunResult) -> None:
        """How the run ended and what to do next."""
        self.bar.close()
        for line in result_lines(result):
            self.output.line(line)


def number(record: Mapping[str, Any], key: str, form: str) -> str:
    """`record[key]` formatted, or a dash."""
    value = record.get(key)
    return "-" if value is None else format(value, form)


def step_text(record: Mapping[str, Any]) -> str:
    """The words beside the bar."""
    return (
        f"epoch {number(record, 'epoch', '.2f')}  "
        f"step {record['step']}/{record.get('total_steps', '?')}  "
        f"loss {number(record, 'train/loss', '.4f')}  "
        f"{number(record, 'perf/images_per_s', ',.0f')} img/s  "
        f"wait {number(record, 'perf/data_wait', '.0%')}  eta {clock(record.get('eta_secs'))}"
    )


def evaluation_line(record: Mapping[str, Any]) -> str:
    """A row of the table: an evaluation and the step before it."""
    cells = (
        number(record, "epoch", ".2f"),
        number(record, "train/loss", ".4f"),
        number(record, "val/loss", ".4f"),
        number(record, "val/top1", ".4f"),
        number(record, "optim/lr", ".1e"),
        number(record, "perf/images_per_s", ",.0f"),
        number(record, "perf/data_wait", ".0%"),
        clock(record.get("eta_secs")),
    )
    row = "  ".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return row + ("   best" if record.get("is_best") else "")


def result_lines(result: RunResult) -> list[str]:
    """The end of a run: time, best validation, test with its interval, baselines, next commands."""
    word = "done" if result.stopped is None else f"stopped ({result.stopped})"
    parts = [f"{word} in {result.seconds:.0f} s, step {result.steps}"]
    if "val/top1" in result.best:
        epoch = number(result.best, "epoch", ".2f")
        parts.append(f"best val/top1 {result.best['val/top1']:.4f} (epoch {epoch})")
    if result.test and result.test.get("top1") is not None:
        low, high = result.test["top1_interval"]
        parts.append(f"test/top1 {result.test['top1']:.4f} (95 % {low:.3f}-{high:.3f})")
    lines = [" | ".join(parts)]
    if result.baselines:
        lines.append(
            "baselines  "
            + ", ".join(f"{name} {score:.2f}" for name, score in result.baselines.items())
        )
    return lines + [f"next  {command}" for command in result.next_commands]


def network_text(model: ModelConfig) -> str:
    """The sizes of a network in a few words."""
    from vitrail.models.bit.config import BiTConfig
    from vitrail.models.resnet.config import ResNetConfig

    if isinstance(model, BiTConfig):
        units = "+".join(map(str, model.depths))
        return f"{units} units | root of {model.stem_width} channels | {model.style}"
    if isinstance(model, ResNetConfig):
        units, widths = ("+".join(map(str, sizes)) for sizes in (model.depths, model.widths))
        return f"{units} units | {widths} channels | {NORMS[model.norm]}"
    patch = f"patch {model.patch_size[0]}x{model.patch_size[1]}"
    stem = "" if model.stem == "none" else f"{model.stem} stem | "
    return (
        f"{stem}{model.depth} layers | width {model.width} | {model.num_heads} heads | "
        f"{patch} | {model.num_tokens} tokens"
    )


def plan_lines(plan: Plan) -> list[str]:
    """What a run is: data, model, and what was chosen for it with the reason, one line each."""
    from vitrail.models.cost import parameters
    from vitrail.models.names import full_name

    splits, model = plan.splits, plan.model
    sizes = ", ".join(f"{name} {n}" for name, n in splits.counts().items())
    height, width = plan.facts.size
    kind = "gray" if plan.facts.channels == 1 else "RGB"
    config = plan.config
    lines = [
        f"vitrail {version('vitrail')} | torch {version('torch')} | {config.device} | "
        f"{config.precision} | threads {config.threads} | seed {config.seed} | "
        "deterministic",
        f"data   {splits.name}  {count(len(splits.classes), 'class')} | {sizes} | "
        f"{height}x{width} {kind}",
        *(f"data   {note}" for note in splits.notes),
        f"model  {full_name(config.model.name, model.model_dump())}  {network_text(model)} | "
        f"{parameters(model) / 1e6:.2f} M parameters",
    ]
    width = max((len(key) for key, _, _ in plan.choices), default=0)
    return lines + [f"auto   {key:<{width}}  {value}  ({why})" for key, value, why in plan.choices]
