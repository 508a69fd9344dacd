"""`vitrail export MODEL OUT --to TARGET`: a model for other engines, proved equal to torch.

What is checked are real images: of the validation split of the run, or of --images, never of test,
so that what is measured on the test split later is no figure that the export was chosen by.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from vitrail.cli.arguments import app_of, check_numbers
from vitrail.cli.display.output import Output, table
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import DataError, UsageError, install_command, nearest
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.classifier import Classifier
    from vitrail.evaluation.eval_set import Opened
    from vitrail.export.check_images import CheckImages
    from vitrail.export.export_model import Exported, Target

app = app_of("vitrail export")
TARGETS = {  # what is written, the packages it needs, and the extra that has them
    "onnx": ("model.onnx, for ONNX Runtime and others", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("model.onnx, checked with OpenVINO", ("onnx", "onnxscript", "openvino")),
    "torch": ("model.safetensors, checked with torch in bfloat16", ()),
    "web": ("a page for browsers, with the model", ("onnx", "onnxscript", "onnxruntime")),
    "huggingface-onnx": (
        "model.onnx, and onnx/model.onnx for transformers.js and Optimum",
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "triton": ("model.onnx, and a model repository", ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": ("model.pt2, for ExecuTorch and AOTInductor", ()),
}
WORST = 12  # layers that are shown
FASTER = 1.1
ON_ONNX = ("web", "huggingface-onnx", "triton")  # what is made of an export to onnx
EXTRAS = {"openvino": "export,openvino"}


@app.default
def export(
    model: Path | None = None,
    out: Path | None = None,
    /,
    *,
    to: str = "onnx",
    precision: str | None = None,
    images: str | None = None,
    split: str = "val",
    check: int = 1000,
    opset: int = 20,
    threads: int = 1,
    ort_web: Path | None = None,
    download: Annotated[bool, Parameter(negative=())] = False,
    calibrate: int | None = None,
    max_drop: float | None = None,
    min_speedup: float | None = None,
    list_targets: Annotated[bool, Parameter(name="--list", negative=())] = False,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Export a model for another engine; what is written answers as torch, or nothing is written.

    Parameters
    ----------
    model
        A run or model directory, or a checkpoint of another library.
    out
        The folder to write; must not exist.
    to
        onnx, openvino, torch, web, huggingface-onnx, triton or torch-export.
    precision
        float32, int8 (onnx, openvino, web), or bfloat16 (openvino, torch). Default: float32; of
        torch bfloat16.
    images
        Images to check with, as for vitrail eval. Default: the data of the run. int8 is calibrated
        with its training split.
    split
        Which of them: val or train.
    check
        Images to check with, at most.
    opset
        Version of the ONNX operators.
    threads
        Threads of the engine while it is checked. Speed is measured on 1 and on every core.
    ort_web
        --to web: the npm package of onnxruntime-web or its folder. Default: the cache.
    download
        --to web: fetch that package from registry.npmjs.org if it is not in the cache (33 MB).
    calibrate
        int8: images to calibrate with, at most. Default: 200.
    max_drop
        int8: the most that accuracy may drop, in percentage points. Default: 0.5.
    min_speedup
        int8: refuse what is not so many times as fast as float32 of the same engine, one image at
        a time. Default: any speed.
    list_targets
        Show the targets and what they need.
    """
    if list_targets:
        output.result(target_records(), table([("target", "writes", "needs"), *target_rows()]))
        return 0
    check_numbers({"--check": check, "--opset": opset})
    if model is None or out is None:
        raise UsageError(
            "VIT-201",
            f"{'MODEL and OUT are' if model is None else 'OUT is'} missing.",
            hint="For instance: vitrail export runs/photos-1 photos-onnx --to onnx",
        )
    target, is_page = check_target(to, opset), to == "web"
    if not is_page:
        refuse_web_options(to, ort_web, download)
    from vitrail.export.export_model import check_precision, require_packages
    from vitrail.model_folder.bundle import refuse_existing

    refuse_existing(out)
    wanted = check_precision(target, precision)
    require_packages(target)
    refuse_test(split)
    write = page_writer(ort_web, download, output) if is_page else writer_to(to)
    check_int8(wanted, to, split, calibrate, max_drop, min_speedup)
    classifier = load(model, read_as, output)
    opened = opened_images(model, classifier, images, split, output)
    chosen = images_of(opened, classifier, split, check, output)
    if wanted == "int8":
        from vitrail.export.int8 import CALIBRATE, MAX_DROP, Int8

        int8 = Int8(
            calibration_of(opened, classifier, check, calibrate or CALIBRATE),
            MAX_DROP if max_drop is None else max_drop,
            min_speedup,
        )
        write = partial(write, int8=int8)
    done = write(
        classifier,
        out,
        chosen,
        precision=wanted,
        opset=opset,
        threads=threads,
        say=output.note,
    )
    output.result(record_of(out, done), lines_of(out, done) + (page_lines(out) if is_page else []))
    return 0


def refuse_web_options(to: str, ort_web: Path | None, download: bool) -> None:
    """Raise UsageError VIT-298 for an option of the page."""
    if ort_web is not None or download:
        raise UsageError(
            "VIT-298",
            f"{'--download' if ort_web is None else '--ort-web'} has no effect with --to {to}.",
            hint="Leave it out, or write a page: --to web",
        )


def writer_to(to: str) -> Callable[..., Exported]:
    """What exports to an engine, or to an engine in the layout of another tool."""
    from vitrail.export.export_model import export_model
    from vitrail.export.huggingface_layout import export_huggingface
    from vitrail.export.triton_layout import export_triton

    layouts = {"huggingface-onnx": export_huggingface, "triton": export_triton}
    return layouts.get(to) or partial(export_model, to=cast("Target", to))


def page_writer(ort_web: Path | None, download: bool, output: Output) -> Callable[..., Exported]:
    """What exports a page. Raises EnvironmentFault VIT-525, VIT-528 and what downloading raises."""
    from vitrail.cli.display.progress import progress_of
    from vitrail.export.web.export_web import export_web, require_pillow
    from vitrail.export.web.ort_web import ort_web_files

    require_pillow()
    files = ort_web_files(ort_web, fetch=download, progress=progress_of(output))
    return partial(export_web, ort=files)


def check_target(to: str, opset: int) -> Target:
    """The engine's target. Raises UsageError VIT-294 for an unknown one, VIT-202 for another
    opset.
    """
    if to not in TARGETS:
        raise UsageError(
            "VIT-294",
            f"unknown target {to!r}. {nearest(to, TARGETS)}",
            hint="vitrail export --list",
        )
    if not 18 <= opset <= 23:
        raise UsageError(
            "VIT-202",
            f"--opset {opset}: expected a number from 18 to 23.",
            hint="Leave it at 20, which every engine of the last years reads.",
        )
    return cast("Target", "onnx" if to in ON_ONNX else to)


def refuse_test(split: str) -> None:
    """Raise DataError VIT-366 for the test split."""
    if split == "test":
        raise DataError(
            "VIT-366",
            "--split test: an export is not checked with test images, which are for the end.",
            hint="--split val, or others: --images DATA",
        )


def check_int8(
    precision: str,
    to: str,
    split: str,
    calibrate: int | None,
    max_drop: float | None,
    min_speedup: float | None,
) -> None:
    """Raise UsageError VIT-202 for options of int8 that have no effect or no sense, VIT-294 for a
    layout of float32; DataError VIT-366 for a check with the images of calibration.
    """
    if precision == "int8" and to in ("huggingface-onnx", "triton"):
        raise UsageError(
            "VIT-294",
            f"--to {to} --precision int8: there is no such export; {to} has float32.",
            hint="--to onnx --precision int8",
        )
    given = {"--calibrate": calibrate, "--max-drop": max_drop, "--min-speedup": min_speedup}
    names = [name for name, value in given.items() if value is not None]
    if precision != "int8" and names:
        raise UsageError(
            "VIT-202",
            f"{', '.join(names)}: has no effect on {precision}.",
            hint="Add --precision int8, or leave it out.",
        )
    check_numbers({"--calibrate": 1 if calibrate is None else calibrate})
    for name, value, most in (
        ("--max-drop", max_drop, 100.0),
        ("--min-speedup", min_speedup, 100.0),
    ):
        if value is not None and not 0 <= value <= most:
            raise UsageError("VIT-202", f"{name} {value}: expected a number from 0 to {most:g}.")
    if precision == "int8" and split == "train":
        raise DataError(
            "VIT-366",
            "--split train: int8 is calibrated with training images, and checked with others.",
            hint="--split val, or others: --images DATA",
        )


def opened_images(
    model: Path, classifier: Classifier, data: str | None, split: str, output: Output
) -> Opened:
    """Where real images are. Raises UsageError VIT-240, VIT-295."""
    from vitrail.cli.eval_run import opened_for, say_notes
    from vitrail.run_model import is_run

    if data is None and not is_run(model):
        raise UsageError(
            "VIT-295",
            f"{model} does not say which images to check the export with.",
            hint=f"Name some: vitrail export {model} OUT --images DATA",
        )
    opened = opened_for(model, classifier.examples, data, split)
    say_notes(opened.listed, output)
    return opened


def images_of(
    opened: Opened, classifier: Classifier, split: str, most: int, output: Output
) -> CheckImages:
    """Real images for the gate. Raises UsageError VIT-240; DataError VIT-366."""
    from vitrail.export.check_images import read_images

    source = opened.judged(split).source
    title = "all" if opened.how == "all" else split
    found = read_images(source, classifier.preprocess, classifier.classes, split=title, most=most)
    if found.labels is None:
        output.note(
            f"{opened.listed.name} has other classes than the model: accuracy is not compared"
        )
    return dataclasses.replace(found, data=opened.listed.name)


def calibration_of(opened: Opened, classifier: Classifier, check: int, most: int) -> CheckImages:
    """Training images; of data without splits, those that are not checked with. Raises DataError
    VIT-366.
    """
    import numpy as np

    from vitrail.data.sources.source import subset
    from vitrail.export.check_images import read_images, spread

    title = "train"
    if opened.how == "all":
        source = opened.judged("train").source
        checked = spread(len(source), check)
        source = subset(source, np.setdiff1d(np.arange(len(source)), checked))
        title = "not checked with"
    elif "train" in opened.parts:
        source = opened.judged("train").source
    else:
        raise DataError(
            "VIT-366",
            f"{opened.listed.name} has no training images to calibrate int8 with.",
            hint="Name data that has: --images DATA",
        )
    found = read_images(source, classifier.preprocess, classifier.classes, split=title, most=most)
    return dataclasses.replace(found, data=opened.listed.name)


def target_records() -> list[dict[str, Any]]:
    """The targets, what they write, and the packages that are missing here."""
    return [
        {"target": name, "writes": text, "needs": list(packages), "missing": missing(packages)}
        for name, (text, packages) in TARGETS.items()
    ]


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def target_rows() -> list[tuple[str, str, str]]:
    rows = []
    for one in target_records():
        command = install_command(EXTRAS.get(one["target"], "export"))
        state = command if one["missing"] else "installed"
        state += "; onnxruntime-web: --download or --ort-web" if one["target"] == "web" else ""
        rows.append((one["target"], one["writes"], state if one["needs"] else "nothing more"))
    return rows


def record_of(out: Path, done: Exported) -> dict[str, Any]:
    """The document of export.json, and where it lies."""
    document: dict[str, Any] = done.record.model_dump(mode="json", by_alias=True)
    return {"path": str(out)} | document


def lines_of(out: Path, done: Exported) -> list[str]:
    """The export for people."""
    about, found = done.record, done.comparison
    lines = [
        f"wrote {out / about.file.name}: {about.file.size / 1e6:.1f} MB, {about.file.precision}",
        f"compared with torch on {count(found.images, 'image')} ({about.images['data']} "
        f"{about.images['split']}): {count(found.changed, 'answer')} differ",
        *table([("", "value", "limit", ""), *found.rows(done.limits)]),
    ]
    lines += [
        f"{one.engine} {one.precision} answers otherwise than torch and is not used"
        for one in about.checked
        if not one.passed
    ]
    lines += int8_lines(about.quantisation) if about.quantisation else []
    for threads, rates in about.speed.items():
        lines += ["", *table(speed_rows(threads, rates))]
    return lines


def page_lines(out: Path) -> list[str]:
    """How the page is opened, and what a visitor loads."""
    from vitrail.export.web.export_web import transfer_bytes

    return [
        "",
        f"the page: {transfer_bytes(out) / 1e6:.1f} MB for a visitor; images stay in the browser",
        f"try it: python -m http.server --directory {shlex.quote(str(out))} and open "
        "http://localhost:8000",
    ]


def int8_lines(about: dict[str, Any]) -> list[str]:
    """What is int8 and what is not, and whether it is faster."""
    kept, speedup = about["float"], about["speedup"]
    lines = [f"int8: {count(len(about['int8']), 'layer')}"]
    if kept:
        lines[0] += f"; back in float, because they cost too much: {', '.join(kept)}"
        worst = [(one["name"], f"{one['p99_dp']:.3g}") for one in about["layers"][:WORST]]
        lines += table([("int8 alone", "99th percentile of differences"), *worst])
    lines.append(f"{speedup:.2f} times as fast as float32, one image at a time")
    if speedup < FASTER:
        lines.append(
            "VIT-705: int8 is hardly faster here; the file is smaller. --min-speedup refuses it."
        )
    return lines


def speed_rows(threads: int, rates: dict[str, dict[int, float]]) -> list[tuple[str, ...]]:
    """Images per second by engine and batch."""
    sizes = next(iter(rates.values()), {})
    head = (f"images/s, threads: {threads}", *(f"batch {size}" for size in sizes))
    return [
        head,
        *((name, *(f"{rate:.0f}" for rate in row.values())) for name, row in rates.items()),
    ]
