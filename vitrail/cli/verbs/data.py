"""`vitrail data check | split | show | shard | index | get`: look at images.

Nothing given is ever changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrail.api.options import BadFiles
from vitrail.cli.arguments import app_of
from vitrail.cli.display.data_findings import report_files, suspect_lines
from vitrail.cli.display.output import Output, table
from vitrail.cli.eval_run import say_notes
from vitrail.cli.shard_commands import index, shard
from vitrail.errors import GateError, check_numbers
from vitrail.files import refuse_existing, whole_file
from vitrail.spelling import count as number_of

if TYPE_CHECKING:
    from vitrail.data.check.check_data import DataReport
    from vitrail.data.sources.open_data import Splits

app = app_of("vitrail data")
app.help = "Look at images before training on them."
app.command(shard)
app.command(index)
Out = Annotated[Output, Parameter(parse=False)]
Fraction = float | Literal["auto"]


@app.command
def check(
    data: str,
    /,
    *,
    out: Path | None = None,
    strict: Annotated[bool, Parameter(negative=())] = False,
    labels: Annotated[bool, Parameter(negative=())] = False,
    features: str | None = None,
    max_pixels: int = 64_000_000,
    workers: int = 0,
    output: Out,
) -> int:
    """Decode every image; find bad files, duplicates, leakage between splits, label errors.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    out
        Folder for data_report.html, bad_files.csv, duplicates.csv and label_suspects.csv; must not
        hold them yet.
    strict
        Exit 7 where anything was found; possible label errors do not count.
    labels
        List labels that look wrong, each image compared with all others.
    features
        Check labels with the frozen features of this model instead of gradients; it must not have
        been trained on these images.
    max_pixels
        Reject images with more pixels.
    workers
        Threads that decode.
    """
    from vitrail.api.datasets import check_data

    if out:
        report_files(out, labels=labels or features is not None)  # before the long look
    found = check_data(
        data,
        labels=labels,
        features=features,
        max_pixels=max_pixels,
        workers=workers,
        progress=not output.quiet,
    )
    report = found.report
    lines = [*split_lines(found.splits), *problem_lines(report)]
    lines += suspect_lines(found.suspects) if found.suspects is not None else []
    files = found.write(out) if out else []
    output.result({**found.to_json(), "files": files}, [*lines, *map(str, files)])
    if strict and report.problems:
        raise GateError(
            "VIT-702",
            f"--strict: findings in {data}: {len(report.problems)}; expected none.",
            hint=f"Details: vitrail data check {data} --out DIR",
        )
    return 0


@app.command
def split(
    data: str,
    out: Path | None = None,
    /,
    *,
    val_fraction: Fraction = "auto",
    test_fraction: Fraction = "auto",
    seed: int = 0,
    near_duplicates: Literal["together", "ignore"] = "together",
    output: Out,
) -> int:
    """Write a table path,label,split that fixes the splits; no file is moved.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    out
        The CSV to write; must not exist. Default: split.csv in the folder of the images, where it
        is a data set itself.
    val_fraction
        Share of the training images for validation where there is no val folder.
    test_fraction
        Share of the images for the test where there is no test folder.
    seed
        Seed of the split.
    near_duplicates
        Images that were resized, re-encoded, mirrored or recoloured from another: together puts
        them into one split with it, for which every image is decoded; ignore looks for equal ones
        only, as vitrail train does.
    """
    from vitrail.api.datasets import split_data

    written = split_data(
        data,
        out,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        near_duplicates=near_duplicates,
    )
    splits, out = written.splits, written.file
    root = None if splits.train.root is None else Path(splits.train.root)
    record = {"data": data, "file": out, "how": splits.how, "counts": splits.counts()}
    record |= {"notes": splits.notes}
    say_notes(splits, output)
    if root is None:
        next_step = "a record: the images have no files of their own, so it is no data set"
    elif out.parent.resolve() == root.resolve():
        next_step = f"next  vitrail train {out}"
    else:
        next_step = f"its paths count from {root}: put it there to train on it"
    output.result(record, [*split_lines(splits), f"wrote {out}", next_step])
    return 0


@app.command
def show(
    data: str,
    /,
    *,
    out: Path = Path("pictures.png"),
    split: Annotated[Literal["train", "val", "test"], Parameter(name="--split")] = "train",
    count: int | None = None,
    augment: str | None = None,
    image_size: str | None = None,
    seed: int = 0,
    output: Out,
) -> int:
    """Write a sheet of images with their labels, or of what training sees.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    out
        The PNG to write; must not exist.
    split
        Which images.
    count
        How many images, taken evenly from the classes; with --augment at most 12. Default: 40, with
        --augment 12.
    augment
        Show what training sees: recipe (as by default), or a policy such as randaugment.
    image_size
        Pixels of an augmented image: 64, or 64x48 (height first).
    seed
        Seed of the choice and of the augmentation.
    """
    from vitrail.api.datasets import MOST_AUGMENTED, show_data

    refuse_existing(out)
    sheet = show_data(
        data, split=split, count=count, augment=augment, image_size=image_size, seed=seed
    )
    splits, shown = sheet.splits, sheet.shown
    if augment is not None and count is not None and count > MOST_AUGMENTED:
        output.note(
            f"--augment shows at most {MOST_AUGMENTED} images, each with its augmented "
            f"versions; {count} were asked for"
        )
    say_notes(splits, output)
    with whole_file(out) as temporary, temporary.open("wb") as stream:
        sheet.image.save(stream, format="PNG")
    output.result(
        {"data": data, "split": split, "file": out, "pictures": shown, "notes": splits.notes},
        [f"{number_of(len(shown), 'image')} of {split}: {out}"],
    )
    return 0


@app.command
def get(
    name: str,
    out: Path | None = None,
    /,
    *,
    workers: int = 1,
    max_pixels: int = 64_000_000,
    on_bad_file: BadFiles = "stop",
    output: Out,
) -> int:
    """Bring a dataset to this machine: a built-in one, or one of the Hugging Face hub.

    Parameters
    ----------
    name
        digits: 1,797 handwritten digits of 8 x 8 pixels, as files OUT/{train,val,test}/CLASS/*.png.
        hf:OWNER/NAME[@REVISION][:CONFIG]: Parquet files of one commit; no code of a dataset is run.
    out
        The folder to write; must not exist. Default: digits, or the cache, where train finds the
        name.
    workers
        Processes that decode the images of a hub, each once.
    max_pixels
        Reject images of a hub with more pixels.
    on_bad_file
        Images of a hub that cannot be decoded: stop names them, skip leaves them out.
    """
    from vitrail.api.datasets import get_data
    from vitrail.cli.display.progress import progress_of
    from vitrail.data.sources.open_data import open_data

    check_numbers({"--max-pixels": max_pixels, "--workers": workers})
    place = get_data(
        name,
        out,
        workers=workers,
        max_pixels=max_pixels,
        on_bad_file=on_bad_file,
        progress=progress_of(output),
    )
    is_named = out is None and name.startswith("hf:")
    splits = open_data(place if name.startswith("hf:") else f"builtin:{name}")
    record = {"name": name, "folder": place, "counts": splits.counts()}
    next_step = f"next  vitrail train {name if is_named else place}"
    output.result(record, [*split_lines(splits), f"wrote {place}", next_step])
    return 0


def split_lines(splits: Splits) -> list[str]:
    """What the data is, for people: classes and images a split."""
    import numpy as np

    head = f"{splits.name}  {number_of(len(splits.classes), 'class')} | " + ", ".join(
        f"{name} {n}" for name, n in splits.counts().items()
    )
    if splits.multi_label or len(splits.classes) > 50:
        return [head, splits.how]
    found = splits.parts()
    columns = [
        np.bincount(np.asarray(source.labels), minlength=len(splits.classes))
        for source in found.values()
    ]
    rows = [
        [name, *(str(column[place]) for column in columns)]
        for place, name in enumerate(splits.classes)
    ]
    return [head, splits.how, *table([["class", *found], *rows])]


def problem_lines(report: DataReport) -> list[str]:
    """Findings, one a line."""
    return [f"finding  {problem}" for problem in report.problems] or ["no problems found"]
