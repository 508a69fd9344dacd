"""`vitrail explain MODEL PICTURES`: show attention and saliency maps for predictions.

Three uses: maps of single images, by one method or by several side by side (--sheet);
--faithfulness, which judges the methods themselves on these images; --figures, the inspection
figures of the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.batch_prediction.asked_images import ImageList, find_pictures
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, plain
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.explain_options import ExplainOptions, FigureOptions
from vitrail.cli.read_as import ReadAs
from vitrail.errors import DataError, UsageError
from vitrail.files import refuse_existing
from vitrail.spelling import count, printable

if TYPE_CHECKING:
    from vitrail.classifier import Classifier

app = app_of("vitrail explain")
ONE_METHOD = {
    f"--{name}" for name in ("method", "layer", "head", "token", "steps", "seed", "style")
}


@app.default
def explain(
    model: Path,
    pictures: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    /,
    *,
    options: Annotated[ExplainOptions | None, Parameter(name="*")] = None,
    faithfulness: Annotated[bool, Parameter(negative=())] = False,
    figures: Annotated[bool, Parameter(negative=())] = False,
    inspection: Annotated[FigureOptions | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    out: Path | None = None,
    device: str = "auto",
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Show attention and saliency maps for predictions.

    Parameters
    ----------
    model
        A run directory, a model directory, or a checkpoint.
    images
        Images, or folders of images.
    faithfulness
        Judge every method on these images: deletion and insertion areas compared with chance.
    figures
        Inspection figures of the model: filters, positions, attention distance, similarity.
    out
        Folder to write; must not exist. Default: explain, with a number where that exists.
    device
        auto, cpu, cuda, cuda:1, mps.
    """
    options, inspection = options or ExplainOptions(), inspection or FigureOptions()
    _check_use(pictures, options, inspection, figures=figures, faithfulness=faithfulness)
    if not figures and not pictures:
        raise UsageError(
            "VIT-201",
            "PICTURES are missing: what to explain.",
            hint="For instance: vitrail explain MODEL a.jpg",
        )
    found = ImageList() if figures else find_pictures(pictures)
    for note in found.notes:
        output.note(note)
    folder = free_folder(out)
    from vitrail.cli import explain_model
    from vitrail.device import pick_device

    place = pick_device(device)
    if figures:
        return explain_model.write_figures(model, inspection, folder, place, output, read_as)
    engine = EngineOptions(engine=None, tokens=options.tokens, patch=options.patch)
    classifier = explain_model.load(model, place, output, read_as, engine)
    if faithfulness:
        for path, why in found.refused.items():
            output.note(f"{path}  {why}")
        return explain_model.judge(classifier, found.readable, options.target, folder, output)
    if options.sheet is not None:
        return sheets(classifier, found, options, folder, output, printable(model.name))
    return maps(classifier, found, options, folder, output)


def _check_use(
    pictures: Sequence[Path],
    options: ExplainOptions,
    inspection: FigureOptions,
    *,
    figures: bool,
    faithfulness: bool,
) -> None:
    """Raises UsageError VIT-277 for options of another use of the verb, VIT-202 for a count."""
    asked = {
        f"--{field.name}"
        for group, plain_group in ((options, ExplainOptions()), (inspection, FigureOptions()))
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != getattr(plain_group, field.name)
    }
    own = {f"--{field.name}" for field in dataclasses.fields(FigureOptions)}
    surplus = asked - own if figures else asked & own
    if faithfulness:
        surplus |= asked - own - {"--target"}
    if options.sheet is not None:
        surplus |= asked & ONE_METHOD
    use = "--figures" if figures else "--faithfulness" if faithfulness else "maps of images"
    use = "--sheet" if surplus <= ONE_METHOD and options.sheet is not None else use
    if figures and faithfulness:
        surplus, use = {"--faithfulness"}, "--figures"
    if figures and pictures:
        surplus = {"PICTURES"}
    if surplus:
        hint = "Images for figures: --data DATA" if figures else "Leave it out."
        text = f"{', '.join(sorted(surplus))} has no effect with {use}."
        raise UsageError("VIT-277", text, hint=hint)
    if inspection.num < 1:
        raise UsageError(
            "VIT-202", f"--num: expected a number from 1, got {inspection.num}.", hint="--num 128"
        )


def free_folder(out: Path | None) -> Path:
    """Where files go. Raises UsageError VIT-206 where `out` exists."""
    if out is not None:
        refuse_existing(out)
    folder, number = out or Path("explain"), 1
    while folder.exists():
        number += 1
        folder = Path(f"explain-{number}")
    return folder


def maps(
    classifier: Classifier, asked: ImageList, options: ExplainOptions, folder: Path, output: Output
) -> int:
    """An overlay and an .npz an image; exit 3 only where no image could be read."""
    from vitrail.api.explanations import LONGEST, free_name

    layer, token = layer_of(options.layer), token_of(options.token)
    records, names = list[dict[str, Any]](), set[str]()
    for path in asked.pictures:
        if path in asked.refused:
            records.append(plain({"source": path, "error": asked.refused[path], "files": []}))
            continue
        try:
            found = classifier.explain(
                path,
                options.method,
                layer=layer,
                head=options.head,
                target=options.target,
                token=token,
                steps=options.steps,
                seed=options.seed,
            )
        except DataError as fault:
            reason = getattr(fault, "reason", fault.message)
            records.append(plain({"source": path, "error": reason, "files": []}))
            continue
        folder.mkdir(parents=True, exist_ok=True)
        stem = free_name(f"{printable(path.stem)[:LONGEST]}-{found.method}", names)
        files = [
            found.save(folder / f"{stem}{suffix}", style=options.style)
            for suffix in (".png", ".npz")
        ]
        record = {**found.to_json(), "error": None, "files": files}
        records.append(plain(record) | {"files": [str(file) for file in files]})
    return told(records, output)


def sheets(
    classifier: Classifier,
    asked: ImageList,
    options: ExplainOptions,
    folder: Path,
    output: Output,
    title: str,
) -> int:
    """Methods side by side, a sheet an image, and a page of all."""
    from vitrail.api.explanations import PAGE, methods_asked, write_sheets

    made = write_sheets(
        classifier,
        asked.pictures,
        methods_asked(classifier, options.sheet or ""),
        folder,
        target=options.target,
        refused=asked.refused,
        title=title,
    )
    records = []
    for one in made:
        record: dict[str, Any] = {"source": one.source, "error": one.error or None, "files": []}
        if one.methods:
            record |= {"top": one.methods[0]["top"], "methods": one.methods}
            record |= {"page": folder / PAGE, "files": [one.file]}
        records.append(plain(record))
    code = told(records, output)
    if not output.json:
        output.line(f"page  {folder / PAGE}")
    return code


def told(records: list[dict[str, Any]], output: Output) -> int:
    """Print what was found. Raises DataError VIT-362 where no image could be read."""
    failed = [record for record in records if record["error"]]
    if len(failed) == len(records):
        from vitrail.api.explanations import none_readable

        raise none_readable(len(records), f"{failed[0]['source']}: {failed[0]['error']}")
    output.result(records, [line for record in records for line in lines_of(record)])
    if failed:
        output.note(
            f"{len(failed)} of {count(len(records), 'image')} cannot be read; their lines say why"
        )
    return 0


def layer_of(text: str | None) -> int | str | None:
    """A number where it is one, else the name."""
    if text is None:
        return None
    return int(text) if text.lstrip("-").isdecimal() else text


def token_of(text: str | None) -> tuple[int, int] | None:
    """(row, column) of "3,5". Raises UsageError VIT-202."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(
            "VIT-202", f"--token {text}: expected ROW,COLUMN of a patch.", hint="--token 0,0"
        )
    return int(parts[0]), int(parts[1])


def lines_of(record: dict[str, Any]) -> list[str]:
    """One image for people."""
    if record["error"]:
        return [f"{record['source']}  error: {record['error']}"]
    top = "  ".join(f"{item['label']} {item['score']:.4f}" for item in record["top"])
    if "methods" in record:
        names = " ".join(one["method"] for one in record["methods"])
        return [f"{record['source']}  {top}", f"  {names}  {'  '.join(record['files'])}"]
    of = f" of {record['label']}" if record["label"] else ""
    return [f"{record['source']}  {top}", f"  {record['method']}{of}  {'  '.join(record['files'])}"]
