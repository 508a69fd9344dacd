"""A model for other engines, proved equal to torch on real images before it gets its name.

What is checked are images of the validation split of the run, or of `images`, never of test, so
that what is measured on the test split later is no figure that the export was chosen by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from vitrail.api.options import EXPORT_TARGETS, ExportRequest
from vitrail.checkpoints.hub.download import Progress
from vitrail.classifier import Classifier, load
from vitrail.data.sources.source import subset
from vitrail.errors import DataError, UsageError, check_numbers, nearest
from vitrail.evaluation.asked_data import opened_for
from vitrail.evaluation.eval_set import Opened
from vitrail.export.check_images import CheckImages, read_images, spread
from vitrail.export.engine_file import Target, check_precision, require_packages
from vitrail.export.export_model import Exported, export_model
from vitrail.export.huggingface_layout import HUGGINGFACE
from vitrail.export.int8 import CALIBRATE, MAX_DROP, Int8
from vitrail.export.layout import PLAIN, Layout
from vitrail.export.triton_layout import TRITON
from vitrail.export.web import ort_web as packages
from vitrail.export.web.export_web import require_pillow, web_layout
from vitrail.model_folder.bundle import refuse_existing
from vitrail.run_model import is_run

LAYOUTS = {"huggingface-onnx": HUGGINGFACE, "triton": TRITON}  # of an export to onnx; the page too
Say = Callable[[str], None]


def export(
    model: str | Path,
    out: str | Path,
    *,
    to: str = "onnx",
    precision: str | None = None,
    images: str | Path | None = None,
    split: str = "val",
    check: int = 1000,
    opset: int = 20,
    threads: int = 1,
    ort_web: str | Path | None = None,
    download: bool = False,
    calibrate: int | None = None,
    max_drop: float | None = None,
    min_speedup: float | None = None,
    patch: int | tuple[int, int] | None = None,
    say: Callable[[str], None] | None = None,
) -> Exported:
    """Export a model into the folder `out`, which must not exist; `load` opens it.

    to: onnx, openvino, torch, web, huggingface-onnx, triton or torch-export. precision: float32,
    int8, bfloat16, as the target has them. images, split: data to check with as for `evaluate`, the
    run's own unless given; check: how many at most. threads: of the engine while it is checked.
    ort_web, download: where a web page gets onnxruntime-web. int8: images to calibrate with, the
    most that accuracy may drop (percentage points), the least speed against float32. patch: side or
    (height, width), px, of a model that was trained for several patch sizes. say: hears
    what is done, a sentence at a time.

    Raises UsageError VIT-202, VIT-240, VIT-242, VIT-294, VIT-295, VIT-298; DataError VIT-366;
    ModelError VIT-440 where `out` exists, VIT-443, VIT-470; GateError VIT-703 to VIT-705 where it
    answers otherwise than torch (then nothing is written); EnvironmentFault VIT-520 where a package
    is missing, VIT-528.
    """
    asked = ExportRequest(
        to=to,
        precision=precision,
        images=None if images is None else str(images),
        split=split,
        check=check,
        opset=opset,
        threads=threads,
        ort_web=None if ort_web is None else Path(ort_web),
        download=download,
        calibrate=calibrate,
        max_drop=max_drop,
        min_speedup=min_speedup,
    )
    return export_as(
        Path(model), Path(out), asked, lambda: load(model, patch=patch), say or (lambda text: None)
    )


def export_as(
    model: Path,
    out: Path,
    asked: ExportRequest,
    read: Callable[[], Classifier],
    say: Say,
    progress: Progress | None = None,
) -> Exported:
    """As `export`. read: loads the model once everything else is known to fit; progress: hears of a
    download.
    """
    check_numbers({"--check": asked.check, "--opset": asked.opset})
    to, split = asked.to, asked.split
    target, is_page = check_target(to, asked.opset), to == "web"
    if not is_page:
        refuse_web_options(to, asked.ort_web, asked.download)
    refuse_existing(out)
    wanted = check_precision(target, asked.precision)
    require_packages(target)
    refuse_test(split)
    layout = page_layout(asked, progress) if is_page else LAYOUTS.get(to, PLAIN)
    check_int8(asked, wanted)
    classifier = read().at_patch()
    opened = opened_images(model, classifier, asked, say)
    chosen = images_of(opened, classifier, asked, say)
    int8 = None
    if wanted == "int8":
        int8 = Int8(
            calibration_of(opened, classifier, asked.check, asked.calibrate or CALIBRATE),
            MAX_DROP if asked.max_drop is None else asked.max_drop,
            asked.min_speedup,
        )
    return export_model(
        classifier,
        out,
        chosen,
        to=target,
        precision=wanted,
        opset=asked.opset,
        threads=asked.threads,
        int8=int8,
        say=say,
        layout=layout,
    )


def refuse_web_options(to: str, ort_web: Path | None, download: bool) -> None:
    """Raise UsageError VIT-298 for an option of the page."""
    if ort_web is not None or download:
        raise UsageError(
            "VIT-298",
            f"{'--download' if ort_web is None else '--ort-web'} has no effect with --to {to}.",
            hint="Leave it out, or write a page: --to web",
        )


def page_layout(asked: ExportRequest, progress: Progress | None) -> Layout:
    """The page. Raises EnvironmentFault VIT-525, VIT-528 and what downloading raises."""
    require_pillow()
    return web_layout(
        packages.ort_web_files(asked.ort_web, fetch=asked.download, progress=progress)
    )


def check_target(to: str, opset: int) -> Target:
    """The engine's target. Raises UsageError VIT-294 for an unknown one, VIT-202 for another
    opset.
    """
    if to not in EXPORT_TARGETS:
        raise UsageError(
            "VIT-294",
            f"unknown target {to!r}. {nearest(to, EXPORT_TARGETS)}",
            hint="vitrail export --list",
        )
    if not 18 <= opset <= 23:
        raise UsageError(
            "VIT-202",
            f"--opset {opset}: expected a number from 18 to 23.",
            hint="Leave it at 20, which every engine of the last years reads.",
        )
    return cast("Target", "onnx" if to == "web" or to in LAYOUTS else to)


def refuse_test(split: str) -> None:
    """Raise DataError VIT-366 for the test split."""
    if split == "test":
        raise DataError(
            "VIT-366",
            "--split test: an export is not checked with test images, which are for the end.",
            hint="--split val, or others: --images DATA",
        )


def check_int8(asked: ExportRequest, precision: str) -> None:
    """Raise UsageError VIT-202 for options of int8 that have no effect or no sense, VIT-294 for a
    layout of float32; DataError VIT-366 for a check with the images of calibration.
    """
    to, max_drop, min_speedup = asked.to, asked.max_drop, asked.min_speedup
    if precision == "int8" and to in LAYOUTS:
        raise UsageError(
            "VIT-294",
            f"--to {to} --precision int8: there is no such export; {to} has float32.",
            hint="--to onnx --precision int8",
        )
    given = {"--calibrate": asked.calibrate, "--max-drop": max_drop, "--min-speedup": min_speedup}
    names = [name for name, value in given.items() if value is not None]
    if precision != "int8" and names:
        raise UsageError(
            "VIT-202",
            f"{', '.join(names)}: has no effect on {precision}.",
            hint="Add --precision int8, or leave it out.",
        )
    check_numbers({"--calibrate": 1 if asked.calibrate is None else asked.calibrate})
    for name, value, most in (
        ("--max-drop", max_drop, 100.0),
        ("--min-speedup", min_speedup, 100.0),
    ):
        if value is not None and not 0 <= value <= most:
            raise UsageError("VIT-202", f"{name} {value}: expected a number from 0 to {most:g}.")
    if precision == "int8" and asked.split == "train":
        raise DataError(
            "VIT-366",
            "--split train: int8 is calibrated with training images, and checked with others.",
            hint="--split val, or others: --images DATA",
        )


def opened_images(model: Path, classifier: Classifier, asked: ExportRequest, say: Say) -> Opened:
    """Where real images are. Raises UsageError VIT-240, VIT-295."""
    if asked.images is None and not is_run(model):
        raise UsageError(
            "VIT-295",
            f"{model} does not say which images to check the export with.",
            hint=f"Name some: vitrail export {model} OUT --images DATA",
        )
    opened = opened_for(model, classifier.examples, asked.images, asked.split)
    for note in opened.listed.notes:
        say(f"data: {note}")
    return opened


def images_of(
    opened: Opened, classifier: Classifier, asked: ExportRequest, say: Say
) -> CheckImages:
    """Real images for the gate. Raises UsageError VIT-240; DataError VIT-366."""
    judged = opened.judged(asked.split)
    source = judged.source
    for sentence in judged.label_changes():
        say(f"data: {sentence}")
    title = "all" if opened.how == "all" else asked.split
    made, classes = classifier.preprocess, classifier.classes
    found = read_images(source, made, classes, split=title, most=asked.check)
    if found.labels is None:
        say(f"{opened.listed.name} has other classes than the model: accuracy is not compared")
    return dataclasses.replace(found, data=opened.listed.name)


def calibration_of(opened: Opened, classifier: Classifier, check: int, most: int) -> CheckImages:
    """Training images; of data without splits, those that are not checked with. Raises DataError
    VIT-366.
    """
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
