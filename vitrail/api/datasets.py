"""Datasets looked at before training, from Python: as `vitrail data` does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vitrail.api.options import BadFiles
from vitrail.checkpoints.hub.download import Progress
from vitrail.checkpoints.hub.hf_dataset import get_dataset
from vitrail.cli.display.contact_sheet import augmented_sheet, contact_sheet
from vitrail.cli.display.data_findings import doubted_labels, report_files, wanted, write_reports
from vitrail.cli.display.output import Output, plain
from vitrail.data.check.check_data import DataReport, alike_firsts
from vitrail.data.check.check_data import check as inspect_data
from vitrail.data.check.inspection import inspect_images
from vitrail.data.indexing.shard_making import ShardOptions
from vitrail.data.sources.digest import equal_firsts
from vitrail.data.sources.hub_data import HUB, parse_hub_data
from vitrail.data.sources.open_data import Source, Splits, open_data
from vitrail.data.sources.split import write_split
from vitrail.errors import DataError, UsageError, check_numbers, refuse_without_effect
from vitrail.evaluation.labels.label_suspects import Suspects
from vitrail.files import refuse_existing, whole_folder
from vitrail.notebook import Shown
from vitrail.spelling import count as number_of

MAX_PIXELS = 64_000_000
MOST_AUGMENTED = 12  # rows of a sheet of augmented images
Fraction = float | Literal["auto"]
Part = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class DataCheck(Shown):
    """What was found in a dataset. report: everything that was counted; suspects: labels that may
    be wrong, None where they were not asked for.
    """

    data: str
    splits: Splits
    report: DataReport
    suspects: Suspects | None = None

    @property
    def problems(self) -> list[str]:
        """One sentence each, worst first; possible label errors are not among them."""
        return self.report.problems

    def to_json(self) -> dict[str, Any]:
        """The object of `vitrail data check --json`, without its files."""
        record = {"data": self.data, **plain(self.report.to_json()), "problems": self.problems}
        return record | (
            {} if self.suspects is None else {"label_suspects": plain(self.suspects.to_json())}
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Write data_report.html with images, bad_files.csv, duplicates.csv and, with labels,
        label_suspects.csv; their paths. Raises UsageError VIT-206 where one of them is there.
        """
        files = report_files(Path(folder), labels=self.suspects is not None)
        record = self.to_json()
        write_reports(files, self.data, record, self.splits, self.report, self.suspects)
        return files

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        sizes = ", ".join(f"{name} {n:,}" for name, n in self.report.splits.items())
        found = [("data", self.data), ("classes", f"{len(self.report.classes):,}")]
        found += [("images", sizes), *(("finding", one) for one in self.problems)]
        if self.suspects is not None:
            said = f"{len(self.suspects.found):,} of {number_of(self.suspects.n, 'label')}"
            found.append(("possible label errors", self.suspects.why_not or said))
        return found if self.problems else [*found, ("findings", "none")]

    def __repr__(self) -> str:
        return f"DataCheck({'; '.join(f'{name} {value}' for name, value in self.rows())})"


def check_data(
    data: str | Path,
    *,
    labels: bool = False,
    features: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    progress: bool = True,
) -> DataCheck:
    """Decode every image; find bad files, duplicates, leakage between splits and, with labels=True,
    labels that may be wrong, as `vitrail data check`.

    data: as for `train`. features: check labels with the frozen features of this model, which must
    not have learnt from these images. max_pixels: of an image that is decoded. workers: threads.

    Raises UsageError VIT-212; DataError VIT-302 to VIT-321 for data that cannot be opened, VIT-370
    for labels of images that have several; what `load` raises.
    """
    check_numbers({"--max-pixels": max_pixels})
    splits = open_data(data)
    labels = labels or features is not None
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
    report = inspect_data(splits, max_pixels=max_pixels, looks=looks)
    doubted = None
    if labels:
        model = None if features is None else str(features)
        doubted = doubted_labels(splits, looks, model, Output(quiet=not progress))
    return DataCheck(str(data), splits, report, doubted)


@dataclass(frozen=True)
class SplitTable:
    """A table path,label,split that was written. file: where; splits: what is in it."""

    file: Path
    splits: Splits


def split_data(
    data: str | Path,
    out: str | Path | None = None,
    *,
    val_fraction: Fraction = "auto",
    test_fraction: Fraction = "auto",
    seed: int = 0,
    near_duplicates: Literal["together", "ignore"] = "together",
) -> SplitTable:
    """Write a table path,label,split that fixes the splits of `data`, as `vitrail data split`.

    out: the CSV file; split.csv in the folder of the images unless given. val_fraction: of the
    training images, where there is no val folder; test_fraction: of all. near_duplicates: together
    puts images that were resized, re-encoded, mirrored or recoloured from another into its split.

    Raises UsageError VIT-202, VIT-206 where the file exists; DataError VIT-302 to VIT-321.
    """
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
    place = Path(out) if out is not None else Path(splits.train.root or "") / "split.csv"
    refuse_existing(place)
    write_split(splits, place)
    return SplitTable(place, splits)


@dataclass(frozen=True)
class DataSheet:
    """Images of a split on one sheet. image: a Pillow image; shown: source and label of each;
    splits: the data.
    """

    image: Image.Image
    shown: list[dict[str, str]]
    splits: Splits

    def _repr_png_(self) -> Any:
        return self.image._repr_png_()


def show_data(
    data: str | Path,
    *,
    split: Part = "train",
    count: int | None = None,
    augment: str | None = None,
    image_size: int | tuple[int, int] | str | None = None,
    seed: int = 0,
) -> DataSheet:
    """A sheet of images with their labels, or of what training sees, as `vitrail data show`.

    A notebook shows the answer; `.image` is a Pillow image. count: how many images, taken evenly
    from the classes; 40 unless given, with augment at most 12. augment: "recipe" (as by default) or
    a policy such as "randaugment"; then each image stands next to its augmented versions.
    image_size: of those, px.

    Raises UsageError VIT-202, VIT-203, VIT-240; DataError VIT-302 to VIT-321; of settings what
    `train` raises.
    """
    most = (40 if augment is None else MOST_AUGMENTED) if count is None else count
    check_numbers({"--count": most})
    if augment is None:
        hint = "Add --augment recipe, or leave it out."
        refuse_without_effect({"--image-size": image_size is not None}, "without --augment", hint)
        splits = open_data(data)
        return DataSheet(*contact_sheet(named_split(splits, split), most, seed), splits)
    from vitrail.training.plan.plan_run import plan_run

    layer = {"data.path": str(data), "seed": seed, "image_size": image_size}
    layer |= {} if augment == "recipe" else {"augment": augment}
    plan = plan_run([("command line", layer)])
    source = named_split(plan.splits, split)
    return DataSheet(*augmented_sheet(source, plan, min(most, MOST_AUGMENTED)), plan.splits)


def get_data(
    name: str = "digits",
    out: str | Path | None = None,
    *,
    workers: int = 1,
    max_pixels: int = MAX_PIXELS,
    on_bad_file: BadFiles = "stop",
    progress: Progress | None = None,
    endpoint: str | None = None,
) -> Path:
    """Bring a dataset to this machine; the folder to train on.

    name: "digits", written as files OUT/{train,val,test}/CLASS/*.png; or a dataset of the Hugging
    Face hub with Parquet files, "hf:OWNER/NAME[@REVISION][:CONFIG]" (extras "hub" and "studies"):
    its commit is noted, its code never run, every image decoded once by `workers` processes, and
    from then on `train` takes the name itself, offline. out: a new folder; "digits", or of the hub
    the usual cache. progress: hears (what, bytes so far, bytes in all). endpoint: another hub.

    Raises UsageError VIT-206 where it exists; DataError VIT-301, VIT-303 for another name, VIT-332,
    VIT-334, VIT-337, VIT-338; ModelError VIT-461, VIT-465; EnvironmentFault VIT-520, VIT-530,
    VIT-531, VIT-534.
    """
    if name.startswith(HUB):
        data, place = parse_hub_data(name), None if out is None else Path(out)
        options = ShardOptions(
            workers=workers, max_pixels=max_pixels, skip_bad=on_bad_file == "skip"
        )
        get_dataset(data, place, options, progress=progress, endpoint=endpoint)
        return place or data.folder
    folder = Path(out or name)
    refuse_existing(folder, hint=f"Choose another folder: vitrail data get {name} OUT")
    splits = open_data(f"builtin:{name}")
    with whole_folder(folder) as temporary:
        for part, source in splits.parts().items():
            for index in range(len(source)):
                pixels, label = source.read(index)
                spot = temporary / part / source.classes[int(label)]
                spot.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.squeeze(np.asarray(pixels))).save(spot / f"{index:04d}.png")
    return folder


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
