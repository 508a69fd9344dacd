"""`vitrail predict MODEL FILES`: one line an image, and a file of all of them.

An image that cannot be read gets an error in its own line; the others are classified. Exit 3 only
where none could be read. A table of many images is made of parts that survive a kill
(`batch_prediction/`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrail.api.options import refuse_address
from vitrail.batch_prediction.asked_images import find_pictures
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import counted
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import DataError, ModelError, UsageError, check_numbers
from vitrail.files import refuse_existing
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.batch_prediction.parts import Images
    from vitrail.batch_prediction.records import Record
    from vitrail.classifier import Classifier

app = app_of("vitrail predict")
PART_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class InParts:
    """How a table of many images is made."""

    files_from: Path | None = None
    """More images: a file with one path a line, or a .csv with a column path."""
    part_rows: int | None = None
    """Images of a part, which is written once. Default: 10000, where --out gets more images."""
    cluster: Literal["ray"] | None = None
    """Compute the parts on a Ray cluster (extra "ray") that sees the same files."""
    ray_address: str = "auto"
    """The cluster: HOST:PORT, auto for the one this machine belongs to, local for a new one."""

    def are_asked(self, out: Path | None, images: int) -> bool:
        """Whether so many images go in parts to `out`.

        Raises UsageError VIT-201 without it, VIT-203 for an address of no cluster.
        """
        refuse_address(self.ray_address, self.cluster)
        if self.part_rows is None and self.cluster is None:
            return out is not None and images > PART_ROWS
        if out is None:
            option = "--part-rows" if self.part_rows else "--cluster"
            raise UsageError(
                "VIT-201",
                f"{option} needs a table to write.",
                hint="For instance: --out preds.parquet",
            )
        return True


@dataclass(frozen=True)
class Order:
    """A model, how it is loaded, and what is asked of it."""

    model: Path
    device: str
    engine: EngineOptions
    read_as: ReadAs | None
    top: int
    batch_size: int

    def classifier(self, images: int, output: Output) -> Classifier:
        """The model, for so many images at most at a time."""
        batch = max(1, min(self.batch_size, images))
        return load(
            self.model, self.read_as, output, device=self.device, engine=self.engine, batch=batch
        )


@app.default
def predict(
    model: Path,
    files: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    /,
    *,
    top: int = 5,
    out: Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    in_parts: Annotated[InParts | None, Parameter(name="*")] = None,
    engine: Annotated[EngineOptions | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Classify images.

    Parameters
    ----------
    model
        A run directory or a model directory.
    files
        Images, or folders of images.
    top
        Classes to print per image.
    out
        Write a table: .csv, .jsonl or .parquet. A file that exists is never overwritten.
    batch_size
        Batch size.
    device
        auto, cpu, cuda, cuda:1, mps.
    """
    in_parts = in_parts or InParts()
    rows = in_parts.part_rows
    counts = {"--top": top, "--batch-size": batch_size, "--part-rows": 1 if rows is None else rows}
    check_numbers(counts)
    if out is not None:
        from vitrail.batch_prediction.table_order import check_table

        check_table(out)
    asked = find_pictures(files, in_parts.files_from)
    is_in_parts = in_parts.are_asked(out, len(asked.pictures))
    if out is not None and not (is_in_parts and is_begun(out)):
        refuse_existing(out)
    for note in asked.notes:
        output.note(note)
    order = Order(model, device, engine or EngineOptions(), read_as, top, batch_size)
    if is_in_parts and out is not None:
        return predict_table(order, asked.images(), out, in_parts, output)
    return predict_now(order, asked.images(), out, output)


def is_begun(out: Path) -> bool:
    """Whether `out` is made of parts, or was."""
    from vitrail.batch_prediction import predict_parts

    return predict_parts.is_begun(out)


def predict_now(order: Order, images: Images, out: Path | None, output: Output) -> int:
    """Compute and print all answers, and write them to `out`."""
    from vitrail.batch_prediction.predict_parts import answers
    from vitrail.batch_prediction.records import write_table
    from vitrail.prediction import NOT_FINITE

    classifier = order.classifier(len(images.paths) - len(images.refused), output)
    records = list(answers(classifier, images, order.top, order.batch_size))
    if order.engine.asked:
        records = [record | order.engine.asked for record in records]
    if out is not None:
        write_table(out, records, max(len(record["top"]) for record in records))
    output.result(records, [line_of(record) for record in records])
    failed = [record for record in records if record["error"]]
    if failed and all(record["error"] == NOT_FINITE for record in records):
        raise ModelError(
            "VIT-442",
            f"none of the {count(len(records), 'image')} has an answer: the model gives outputs "
            "that are not finite.",
            hint="Its weights are damaged or training diverged: load an earlier checkpoint, "
            "or use --precision float32.",
        )
    first = f"; the first: {failed[0]['source']}: {failed[0]['error']}" if failed else ""
    return judge(len(records), len(failed), first, "their lines say why", output)


def predict_table(
    order: Order, images: Images, out: Path, in_parts: InParts, output: Output
) -> int:
    """Write `out` by parts; those that are there already are left as they are."""
    from vitrail.batch_prediction.table_order import InParts as Parts
    from vitrail.batch_prediction.table_order import TableOrder

    rows = in_parts.part_rows or PART_ROWS
    engine = dataclasses.asdict(order.engine) | {"patch": order.engine.patch_px}
    options = (order.read_as or ReadAs()).load_options() | {"device": order.device, **engine}
    asked = TableOrder(
        order.model, options, order.classifier(rows, output), order.top, order.batch_size
    )
    with counted(output) as tell:
        how = Parts(rows, in_parts.cluster, in_parts.ray_address)
        result = asked.write(images, out, how, tell)
    done, errors = result.counts.rows, result.counts.errors
    there = result.parts - result.computed
    kept = f"; {there} of {count(result.parts, 'part')} had been computed before" if there else ""
    record = {
        "out": out,
        "rows": done,
        "errors": errors,
        "parts": result.parts,
        "found": there,
    }
    output.result(record, [f"{out}  {count(done, 'image')}, {count(errors, 'error')}{kept}"])
    return judge(done, errors, "", "the column error says why", output)


def judge(rows: int, errors: int, first: str, where: str, output: Output) -> int:
    """0, with a note of images without an answer. Raises DataError VIT-362 where none has one."""
    if errors == rows:
        raise DataError(
            "VIT-362",
            f"none of the {count(rows, 'image')} has an answer{first}",
            hint="Accepted: jpeg png webp bmp gif tiff",
        )
    if errors:
        output.note(f"{errors} of {count(rows, 'image')} have no answer; {where}")
    return 0


def line_of(record: Record) -> str:
    """`photos/a.jpg  cat 0.98  dog 0.01`."""
    if record["error"]:
        return f"{record['source']}  error: {record['error']}"
    return f"{record['source']}  " + "  ".join(
        f"{item['label']} {item['score']:.4f}" for item in record["top"]
    )
