"""What `vitrail data check` finds besides broken files: pages, tables, possible label errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.cli.display.output import Output
from vitrail.files import encoded, refuse_existing, whole_files

if TYPE_CHECKING:
    from vitrail.data.check.check_data import DataReport
    from vitrail.data.check.inspection import ImageStats, InspectOptions
    from vitrail.data.sources.open_data import Splits
    from vitrail.evaluation.labels.label_suspects import Suspects

SHOWN = 10  # suspects printed


def wanted(*, labels: bool) -> InspectOptions:
    """What a look has to take of each image."""
    from vitrail.data.check.inspection import InspectOptions

    if not labels:
        return InspectOptions(sketch=True)
    from vitrail.evaluation.labels.audit import SMALL_PX

    return InspectOptions(sketch=True, small_px=SMALL_PX)


def report_files(out: Path, *, labels: bool) -> list[Path]:
    """The files to write into `out`. Raises UsageError VIT-206 where one of them is there."""
    names = ["data_report.html", "bad_files.csv", "duplicates.csv"]
    files = [out / name for name in names + ["label_suspects.csv"] * labels]
    refuse_existing(*files, hint="Choose another folder: --out")
    return files


def write_reports(
    files: Sequence[Path],
    data: str,
    record: Mapping[str, Any],
    splits: Splits,
    report: DataReport,
    doubted: Suspects | None,
) -> None:
    """Write `files`, those of `report_files`."""
    from vitrail.data.check.check_data import write_bad_files
    from vitrail.data.check.duplicates import write_duplicates
    from vitrail.data.images.decode import MAX_PIXELS
    from vitrail.evaluation.labels.label_suspects import write_suspects
    from vitrail.report.data_page import data_page
    from vitrail.report.run_images import SplitImages

    page = data_page(data, record, SplitImages(splits, MAX_PIXELS))
    with whole_files(files[0].parent, [file.name for file in files]) as places:
        places[files[0].name].write_bytes(encoded(page))
        write_bad_files(report.bad_files, places[files[1].name])
        write_duplicates(report.groups, places[files[2].name])
        if doubted is not None:
            write_suspects(doubted.found, places[files[3].name])


def doubted_labels(
    splits: Splits, looks: Mapping[str, Sequence[ImageStats]], model: str | None, output: Output
) -> Suspects:
    """Labels that look wrong, by gradients or by the features of `model`."""
    from vitrail.evaluation.labels.audit import label_suspects

    if model is None:
        return label_suspects(splits.parts(), looks, rehearsed=True)
    from vitrail.classifier import load
    from vitrail.cli.display.progress import progress_of
    from vitrail.evaluation.labels.audit import feature_suspects
    from vitrail.evaluation.probes.features import Frozen, cache_folder

    classifier = load(model, progress=progress_of(output))
    frozen = Frozen(
        classifier.torch_runtime(),
        classifier.preprocess,
        cache=cache_folder(output.note),
        say=output.note,
    )
    return feature_suspects(splits.parts(), looks, frozen, model)


def suspect_lines(doubted: Suspects) -> list[str]:
    """The least likely labels, for people."""
    if doubted.why_not:
        return [f"labels   {doubted.why_not}"]
    head = (
        f"labels   {len(doubted.found)} of {doubted.n} may be wrong; {doubted.origin} agrees with "
        f"{100 * doubted.top1:.1f} % of the labels"
    )
    lines = [
        f"         {one.source}  {one.label} ({one.p_label:.2f}), looks like {one.suggested} "
        f"({one.p_suggested:.2f})"
        for one in doubted.found[:SHOWN]
    ]
    more = len(doubted.found) - len(lines)
    lines += [f"         {doubted.strength.sentence()}"] if doubted.strength else []
    return [head, *lines, *([f"         ... and {more} more: --out DIR"] if more else [])]
