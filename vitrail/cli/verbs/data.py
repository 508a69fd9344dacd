"""`vitrail data check | split | show | shard | index | get`: look at images.

Nothing given is ever changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.data_findings import (
    doubted_labels,
    report_files,
    suspect_lines,
    wanted,
    write_reports,
)
from vitrail.cli.display.output import Output, plain, table
from vitrail.cli.eval_run import say_notes
from vitrail.cli.shard_commands import index, shard
from vitrail.errors import DataError, GateError, UsageError, check_numbers
from vitrail.files import refuse_existing, whole_file, whole_folder
from vitrail.spelling import count as number_of

if TYPE_CHECKING:
    from vitrail.data.check.check_data import DataReport
    from vitrail.data.sources.open_data import Source, Splits

app = app_of("vitrail data")
MOST_AUGMENTED = 12  # rows of a sheet of augmented images
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
    from vitrail.data.check.check_data import check as inspect
    from vitrail.data.check.inspection import inspect_images
    from vitrail.data.sources.open_data import open_data

    check_numbers({"--max-pixels": max_pixels})
    labels = labels or features is not None
    files = report_files(out, labels=labels) if out else []
    splits = open_data(data)
    if labels and splits.multi_label:
        raise DataError(
            "VIT-370",
            f"--labels: images of {data} have several labels; expected one each.",
            hint="Leave --labels and --features out",
        )
    looks = {
        part: inspect_images(
            source, max_pixels=max_pixels, workers=workers, wanted=wanted(labels=labels)
        )
        for part, source in splits.parts().items()
    }
    report = inspect(splits, max_pixels=max_pixels, looks=looks)
    record = {"data": data, **plain(report.to_json()), "problems": list(report.problems)}
    lines = [*split_lines(splits), *problem_lines(report)]
    doubted = None
    if labels:
        doubted = doubted_labels(splits, looks, features, output)
        record["label_suspects"] = plain(doubted.to_json())
        lines += suspect_lines(doubted)
    if files:
        write_reports(files, data, record, splits, report, doubted)
    output.result({**record, "files": files}, [*lines, *map(str, files)])
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
    from vitrail.data.check.check_data import alike_firsts
    from vitrail.data.sources.digest import equal_firsts
    from vitrail.data.sources.open_data import open_data
    from vitrail.data.sources.split import write_split

    for option, value in (("--val-fraction", val_fraction), ("--test-fraction", test_fraction)):
        if value != "auto" and not 0 <= value < 1:
            raise UsageError(
                "VIT-202",
                f"{option} {value}: expected a share from 0 to 1, or auto.",
                hint=f"For instance {option} 0.15",
            )
    splits = open_data(
        data,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        alike=alike_firsts if near_duplicates == "together" else equal_firsts,
    )
    root = None if splits.train.root is None else Path(splits.train.root)
    out = out or (root or Path()) / "split.csv"
    refuse_existing(out)
    write_split(splits, out)
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
    from vitrail.cli.display.contact_sheet import augmented_sheet, contact_sheet
    from vitrail.data.sources.open_data import open_data

    most = (40 if augment is None else MOST_AUGMENTED) if count is None else count
    check_numbers({"--count": most})
    refuse_existing(out)
    if augment is None:
        splits = open_data(data)
        source = named_split(splits, split)
        picture, shown = contact_sheet(source, most, seed)
    else:
        from vitrail.training.plan.plan_run import plan_run

        layer = {"data.path": data, "seed": seed, "image_size": image_size}
        layer |= {} if augment == "recipe" else {"augment": augment}
        plan = plan_run([("command line", layer)])
        splits = plan.splits
        source = named_split(splits, split)
        picture, shown = augmented_sheet(source, plan, min(most, MOST_AUGMENTED))
        if most > MOST_AUGMENTED:
            output.note(
                f"--augment shows at most {MOST_AUGMENTED} images, each with its augmented "
                f"versions; {most} were asked for"
            )
    say_notes(splits, output)
    with whole_file(out) as temporary, temporary.open("wb") as stream:
        picture.save(stream, format="PNG")
    output.result(
        {"data": data, "split": split, "file": out, "pictures": shown, "notes": splits.notes},
        [f"{number_of(len(shown), 'image')} of {split}: {out}"],
    )
    return 0


@app.command
def get(name: Literal["digits"], out: Path = Path("digits"), /, *, output: Out) -> int:
    """Write a built-in data set as files OUT/{train,val,test}/CLASS/*.png.

    Parameters
    ----------
    name
        digits: 1,797 handwritten digits of 8 x 8 pixels.
    out
        The folder to write; must not exist.
    """
    import numpy as np
    from PIL import Image

    from vitrail.data.sources.open_data import open_data

    refuse_existing(out, hint=f"Choose another folder: vitrail data get {name} OUT")
    splits = open_data(f"builtin:{name}")
    with whole_folder(out) as temporary:
        for part, source in splits.parts().items():
            for index in range(len(source)):
                pixels, label = source.read(index)
                folder = temporary / part / source.classes[int(label)]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.squeeze(np.asarray(pixels))).save(folder / f"{index:04d}.png")
    record = {"name": name, "folder": out, "counts": splits.counts()}
    output.result(record, [*split_lines(splits), f"wrote {out}", f"next  vitrail train {out}"])
    return 0


def named_split(splits: Splits, name: str) -> Source:
    """One split. Raises UsageError VIT-240 where this data has none of that name."""
    found = splits.parts()
    if name not in found:
        raise UsageError(
            "VIT-240",
            f"--split {name}: {splits.name} has no such split; it has {', '.join(found)}.",
            hint=f"Use one of them: --split {next(reversed(found))}",
        )
    return found[name]


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
