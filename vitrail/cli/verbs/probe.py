"""`vitrail probe MODEL [DATA]`: what the frozen features of a model are worth on labelled images.

The splits of a run are those that it recorded: its own test images stay unseen. Of other data what
lacks is held out, and images that the model was trained on are counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, plain, table
from vitrail.cli.display.progress import counted
from vitrail.cli.eval_run import DecodeOptions, computed_on, say_notes
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import UsageError, check_numbers
from vitrail.files import refuse_existing, write_whole
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.evaluation.probes.probe_record import Probe, ProbeScore, ProbeSettings

app = app_of("vitrail probe")
Kind = Literal["few-shot", "linear", "knn"]
Number = TypeVar("Number", int, float)


@app.default
def probe(
    model: Path,
    data: str | None = None,
    /,
    *,
    kind: Kind = "few-shot",
    split: str = "test",
    k: Annotated[str | None, Parameter(name="--k")] = None,
    l2: str | None = None,
    seeds: int | None = None,
    temperature: float | None = None,
    out: Path | None = None,
    no_cache: Annotated[bool, Parameter(negative=())] = False,
    reading: Annotated[DecodeOptions | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Evaluate frozen features: few-shot ridge regression, linear probe, or nearest neighbours.

    Parameters
    ----------
    model
        A run directory or a model directory.
    data
        Images, as for vitrail train; their classes need not be the model's. Default: the data of
        the run.
    kind
        few-shot: the paper's ridge regression; linear: logistic regression; knn: k nearest
        neighbours.
    split
        Split to evaluate: test or val.
    k
        few-shot: images of each class, 1,5,10,25. knn: neighbours, 1,5,10,20,100,200.
    l2
        Strength of the penalty: one number; several (0.1,1,10) or sweep, of which the best on
        validation is used. Default: few-shot 1024, linear sweep.
    seeds
        few-shot: how many draws of the training images. Default: 3.
    temperature
        knn: of the weighted votes. Default: 0.07.
    out
        The file to write; must not exist. Default: probe.json in the run, or here, with a number
        where that exists.
    no_cache
        Compute the features again and do not keep them.
    """
    from vitrail.evaluation.probes.fit_probe import SWEEPS, check
    from vitrail.evaluation.probes.probe_record import ProbeSettings
    from vitrail.run_model import is_run

    reading = reading or DecodeOptions()
    check_numbers({"--batch-size": reading.batch_size, "--max-pixels": reading.max_pixels})
    l2s = SWEEPS.get(kind, SWEEPS["linear"]) if l2 == "sweep" else numbers("--l2", l2, float)
    settings = ProbeSettings(kind, split, numbers("--k", k, int), l2s, seeds, temperature)
    check(settings)
    path = free_path(model, out)
    if data is None and not is_run(model):
        raise UsageError(
            "VIT-208",
            f"{model} does not say which images to probe it with.",
            hint=f"Name them: vitrail probe {model} DATA",
        )
    found = measure(model, data, settings, reading, read_as, no_cache, output)
    record = {"model": str(model), **found.to_json(), "file": path}
    write_whole(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")
    output.result(record, [*probe_lines(found), f"wrote {path}"])
    return 0


def numbers(
    option: str, text: str | None, kind: Callable[[str], Number]
) -> tuple[Number, ...] | None:
    """Numbers from "1,5,10"; None where nothing is given. Raises UsageError VIT-202."""
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            "VIT-202",
            f"{option} {text}: expected a number, or several with commas between.",
            hint=f"For instance {option} 1,5",
        ) from error


def free_path(model: Path, out: Path | None) -> Path:
    """Where the record goes. Raises UsageError VIT-206 where `out` exists."""
    if out is not None:
        refuse_existing(out)
    from vitrail.run_model import is_run

    folder = model if is_run(model) else Path()
    path, number = out or folder / "probe.json", 1
    while out is None and path.exists():
        number += 1
        path = folder / f"probe-{number}.json"
    return path


def measure(
    model: Path,
    data: str | None,
    settings: ProbeSettings,
    reading: DecodeOptions,
    read_as: ReadAs | None,
    no_cache: bool,
    output: Output,
) -> Probe:
    """Load model and images, and probe."""
    from vitrail.api.probing import probed
    from vitrail.evaluation.asked_data import opened_for
    from vitrail.evaluation.probes.features import FeatureOptions

    classifier = load(model, read_as, output)
    opened = opened_for(model, classifier.examples, data, settings.split, draw=True)
    say_notes(opened.listed, output)
    runtime = classifier.torch_runtime(*computed_on(reading))
    how = FeatureOptions(
        batch_size=reading.batch_size,
        workers=reading.workers,
        max_pixels=reading.max_pixels,
        on_bad_file=reading.on_bad_file,
    )
    with counted(output) as tell:
        return probed(
            *(classifier, runtime, opened, settings, how),
            cache=not no_cache,
            say=output.note,
            tell=tell,
        )


def probe_lines(found: Probe) -> list[str]:
    """The figures for people."""
    lines = [
        f"{found.data} {found.split}  {count(found.n, 'image')}, "
        f"{count(found.num_classes, 'class')}, "
        f"{found.num_features} features of the frozen model"
    ]
    first = found.figures[0]
    if found.kind == "few-shot":
        num = len(first.by_seed)
        draws = f"95 % over {count(num, 'draw')}" if num > 1 else "one draw"
        head = ["k", "l2", "top-1", draws, f"95 % of {count(found.n, 'image')}"]
        rows = [
            [str(one.k), f"{one.l2:g}", f"{one.top1:.4f}", *map(interval, intervals(one))]
            for one in found.figures
        ]
        lines += table([head, *rows])
    elif found.kind == "linear":
        lines.append(
            f"top-1  {first.top1:.4f}  (95 % {interval(first.interval)})    l2  {first.l2:g}"
        )
    else:
        head = ["k", "votes", "top-1", f"95 % of {count(found.n, 'image')}", ""]
        rows = [
            [str(one.k), str(one.votes), f"{one.top1:.4f}", interval(one.interval)]
            + ["chosen on validation" if one.is_chosen else ""]
            for one in found.figures
        ]
        lines += table([head, *rows])
    lines.append(f"majority class  {found.majority:.4f}")
    if found.chosen_on is not None:
        lines.append(f"chosen on {found.chosen_on}, never on the evaluated images")
    lines += [f"skipped  {name}: {reason}" for name, reason in found.bad_files]
    return [*lines, *(f"note  {note}" for note in found.notes)]


def intervals(figure: ProbeScore) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """Over draws, and of the number of judged images."""
    return figure.seeds_interval, figure.interval


def interval(ends: tuple[float, float] | None) -> str:
    """0.4123-0.5321, or a dash."""
    return "-" if ends is None else f"{ends[0]:.4f}-{ends[1]:.4f}"
