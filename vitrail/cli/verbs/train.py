"""`vitrail train DATA`: train a classifier into a new run directory, or continue one.

`--resume RUN` continues a run bit for bit and takes no other option: its folder says the rest. DATA
beside it is where the images of the run lie now. `--nproc N` starts N processes that train the run
together; torchrun starts such processes too, on many machines, and each of them comes here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.api.options import check_profile
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.read_as import ReadAs
from vitrail.cli.settings import Layer, layers_of
from vitrail.config import flatten
from vitrail.errors import UsageError, VitrailError, refuse_without_effect
from vitrail.settings.toml_file import toml_lines
from vitrail.system.process_group import stop_with_parent

if TYPE_CHECKING:
    from vitrail.training.plan.plan_run import Plan
    from vitrail.training.ranks.ranks import Ranks
    from vitrail.training.reporter import RunResult

app = app_of("vitrail train")
MOST_PROCESSES = 1024
SWITCHES = ("--json", "-q", "--quiet", "-v", "--verbose", "--no-color")
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
Given = Annotated[Any, Parameter(parse=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run starts from and where it goes."""

    resume: Path | None = None
    """Continue this run, bit for bit; takes only --nproc, --shard, --profile, --track, and DATA
    where it moved."""
    resume_or_start: Annotated[bool, Parameter(negative=())] = False
    """Continue the run of this --name where there is one, else start it."""
    nproc: int | None = None
    """Train with so many processes of this machine: one a GPU, or a few on a CPU."""
    shard: Annotated[bool, Parameter(negative=())] = False
    """Keep weights, gradients and optimizer in shards, a share on each process (FSDP2)."""
    profile: int = 0
    """Record so many steps with torch's profiler, as a trace in profile/ of the run."""
    track: str = ""
    """Write the figures for tensorboard, mlflow, wandb as well (names with commas); nothing is
    sent."""
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
    start: RunOptions | None = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    print_config: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    output: Given,
    settings: Given,
) -> int:
    """Train or fine-tune an image classifier.

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
    start, command = start or RunOptions(), settings | start_settings(read_as or ReadAs())
    check_nproc(start.nproc)
    check_profile(start.profile)
    check_trackers(start.track)
    if start.resume is not None:
        named: dict[str, object] = {"config": start.config}
        named |= {"out": start.out, "name": start.name, "resume-or-start": start.resume_or_start}
        named |= {"print-config": print_config, "dry-run": dry_run}
        refuse_others(start.resume, [*(key for key in named if named[key]), *command])
        if is_launcher(start):
            return launch_processes(start, output)
        return resume(start, data, output)
    layers = layers_of(data, start.config, command)
    if not any(layer.get("data.path") for _, layer in layers):
        raise UsageError(
            "VIT-201",
            "DATA is missing: what to train on.",
            hint="For instance: vitrail train builtin:digits",
        )
    if print_config:
        hint = "Leave one of them out."
        refuse_without_effect({"--dry-run": dry_run}, "with --print-config", hint)
    if print_config or dry_run:
        return show_plan(layers, output, dry_run=dry_run, world=start.nproc or 1)
    if start.resume_or_start and start.name is None:
        raise UsageError(
            "VIT-201",
            "--resume-or-start needs the name of the run.",
            hint="For instance --name big --resume-or-start",
        )
    if is_launcher(start):
        return launch_processes(start, output)
    return start_run(layers, start, output)


def check_nproc(nproc: int | None) -> None:
    """Raise UsageError VIT-202 for a number of processes that cannot be."""
    if nproc is not None and not 1 <= nproc <= MOST_PROCESSES:
        raise UsageError(
            "VIT-202",
            f"--nproc {nproc}: expected 1 to {MOST_PROCESSES} processes.",
            hint="As many as the machine has GPUs; several machines: torchrun",
        )


def check_trackers(names: str) -> None:
    """Raise UsageError VIT-202 or EnvironmentFault VIT-520 for trackers that cannot be had."""
    if names:
        from vitrail.trackers.registry import trackers_of

        trackers_of(names)


def is_launcher(start: RunOptions) -> bool:
    """Whether this process only starts those that train; they have the same command line."""
    return start.nproc is not None and start.nproc > 1 and "RANK" not in os.environ


def launch_processes(start: RunOptions, output: Output) -> int:
    """Start the processes of a run and wait for them; the exit code."""
    from vitrail.training.ranks.launch import launch

    assert start.nproc is not None
    flags = [word for word in output.words if word in SWITCHES]
    number = ["--nproc", str(start.nproc), *(["--shard"] if start.shard else [])]
    number += ["--track", start.track] if start.track else []

    def again(run: Path) -> list[str]:
        return [*flags, "train", "--resume", str(run), *number]

    return launch(output.words, start.nproc, again, output.note)


def of_ranks(train: Callable[[Ranks], RunResult], *, is_sharded: bool) -> int:
    """The exit code of a run that this process trains alone or with others, in shards or not."""
    from vitrail.training.ranks.ranks import is_told, joined, ranks_of_environment

    ranks = replace(ranks_of_environment(), is_sharded=is_sharded)
    if not ranks.is_alone:
        stop_with_parent()
    try:
        with joined(ranks):
            result = train(ranks)
    except VitrailError as error:
        if is_told(error):
            return error.exit_code
        raise
    return EXIT_CODES.get(result.stopped or "", 0)


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


def reporter_for(output: Output, trackers: str) -> Any:
    """JSON lines with --json, else a table for people; and trackers."""
    from vitrail.cli.display.console import ConsoleReporter, JsonReporter
    from vitrail.trackers.registry import trackers_of
    from vitrail.trackers.tracker import tracked

    shown = JsonReporter(output) if output.json else ConsoleReporter(output)
    return tracked(shown, trackers_of(trackers))


def start_run(layers: list[Layer], start: RunOptions, output: Output) -> int:
    """Train a new run, or go on with the one of its name where asked for; its exit code."""
    from vitrail.training import loop
    from vitrail.training.plan.resumed import to_go_on_with

    folder = start.out or Path("runs")

    def train(ranks: Ranks) -> RunResult:
        reporter = reporter_for(output, start.track) if ranks.is_first else None
        common: dict[str, Any] = {"reporter": reporter, "age_secs": output.age_secs}
        common |= {"ranks": ranks, "profile": start.profile}
        if start.resume_or_start and ranks.is_first:
            found = to_go_on_with(folder / str(start.name), layers)
            if found is not None:
                return loop.resume(found, **common)
        return loop.train(
            layers, runs_dir=folder, name=start.name, command=output.command, **common
        )

    return of_ranks(train, is_sharded=start.shard)


def refuse_others(run_dir: Path, others: list[str]) -> None:
    """Raise UsageError VIT-203 where --resume has options beside it that it does not take."""
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


def resume(start: RunOptions, data: str | None, output: Output) -> int:
    """Continue a run; its exit code. data: where its data lies now."""
    from vitrail.training import loop

    assert start.resume is not None
    run_dir = start.resume

    return of_ranks(
        lambda ranks: loop.resume(
            run_dir,
            data=data,
            reporter=reporter_for(output, start.track) if ranks.is_first else None,
            age_secs=output.age_secs,
            ranks=ranks,
            profile=start.profile,
        ),
        is_sharded=start.shard,
    )


def show_plan(layers: list[Layer], output: Output, *, dry_run: bool, world: int = 1) -> int:
    """Print what a run would be: its choices for --dry-run, all settings for --print-config."""
    from vitrail.cli.display.console import plan_lines
    from vitrail.cli.eval_run import say_notes
    from vitrail.training.plan.plan_run import plan_run

    plan = plan_run(layers, world=world)
    if dry_run:
        from dataclasses import asdict

        from vitrail.training.dry_run import dry_run as rehearse
        from vitrail.training.run_files import readable

        left_out: tuple[str, ...] = ()
        if plan.config.data.on_bad_file == "skip":
            checked = readable(plan)
            plan, left_out = checked.plan, checked.found.left_out()
        choices = [{"key": key, "value": value, "why": why} for key, value, why in plan.choices]
        found = rehearse(plan)
        lasts = "until the time limit" if found.seconds is None else f"about {found.seconds:.0f} s"
        lines = [
            *plan_lines(plan),
            *(f"data   {sentence}" for sentence in left_out),
            *(f"from   {sentence}" for sentence in plan.changes),
            *(f"note    {sentence}" for sentence in plan.notes),
            f"step    {1000 * found.step_secs:.0f} ms, "
            f"{found.total_steps or 'as many as fit'} steps: {lasts}",
            f"memory  {found.peak_bytes / 1e9:.2f} GB at the highest",
        ]
        record = {"choices": choices, "settings": settings_record(plan), "measured": asdict(found)}
        notes = [*plan.splits.notes, *left_out, *plan.notes]
        record |= {"changes": list(plan.changes), "notes": notes}
        output.result(record, lines)
        output.note("dry run: nothing was kept or written")
    else:
        lines = toml_lines(flatten(plan.config), plan.sources).splitlines()
        output.result(settings_record(plan), lines)
        say_notes(plan.splits, output)
    return 0


def settings_record(plan: Plan) -> dict[str, dict[str, object]]:
    """Every resolved setting: {key: {"value", "source"}}."""
    return {
        key: {"value": value, "source": plan.sources.get(key, "built-in")}
        for key, value in flatten(plan.config).items()
    }
