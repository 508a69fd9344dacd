"""`vitrail export`: from a classifier and real images to a folder with an engine's file, gated.

The folder is filled next to its name and gets it last: where the gate is missed, nothing is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path

import numpy as np
import torch

import vitrail
from vitrail.classifier import Classifier
from vitrail.data.sources.examples import FILE as EXAMPLES
from vitrail.device import machine
from vitrail.export.candidates import (
    Candidate,
    Floats,
    by_torch,
    compared,
    record_of,
    torch_threads,
)
from vitrail.export.card import card_of
from vitrail.export.check_images import CheckImages
from vitrail.export.engine_file import (
    FORMATS,
    Form,
    Say,
    Target,
    Written,
    check_precision,
    graph_of,
    require_packages,
    weights_of,
    write_engine,
)
from vitrail.export.gate import Comparison, Limits, require
from vitrail.export.int8 import Int8
from vitrail.export.layout import PLAIN, Job, Layout, add_section
from vitrail.export.onnx_export import OPSET
from vitrail.export.speed import Table, measure_speed
from vitrail.files import whole_folder
from vitrail.model_folder.bundle import refuse_existing, sha256_of
from vitrail.model_folder.export_record import (
    EXPORT,
    EngineFile,
    ExportRecord,
    Precision,
    as_json,
    source_of,
)
from vitrail.model_folder.golden import fixed_image, golden_of
from vitrail.model_folder.model_record import Record
from vitrail.notebook import Shown
from vitrail.spelling import count


@dataclass(frozen=True)
class Exported(Shown):
    """What was written into `folder`: the document of export.json, the comparison, its limits."""

    record: ExportRecord
    comparison: Comparison
    limits: Limits
    folder: Path

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        about, images = self.record, self.record.images
        size = f"{about.file.size / 1e6:.1f} MB, {about.file.precision}"
        where = f"{images['data']} {images['split']}"
        found = [
            ("file", f"{self.folder / about.file.name}: {size}"),
            ("compared with torch", f"on {count(self.comparison.images, 'image')} ({where})"),
        ]
        for title, value, limit, state in self.comparison.rows(self.limits):
            found.append((title, f"{value} (limit {limit}, {state})" if limit else value))
        for threads, rates in about.speed.items():
            for name, one in rates.items():
                said = ", ".join(f"{rate:.0f} at batch {size}" for size, rate in one.items())
                found.append((f"images/s, threads: {threads}", f"{name}: {said}"))
        return found


def export_model(
    classifier: Classifier,
    out: Path,
    images: CheckImages,
    *,
    to: Target = "onnx",
    precision: Precision | None = None,
    opset: int = OPSET,
    threads: int = 1,
    int8: Int8 | None = None,
    say: Say = lambda text: None,
    layout: Layout = PLAIN,
) -> Exported:
    """Write `out`, a folder that `vitrail.load` opens. images: real ones, for the gate; int8: what
    that precision needs; layout: what another tool wants beside it.

    Raises UsageError VIT-294 for a precision that the target does not have, VIT-295 for int8
    without images to calibrate with; ModelError VIT-440 where `out` exists, VIT-443 for a model
    without a head, VIT-470 for one that cannot be expressed, VIT-471; GateError VIT-703 to VIT-705;
    EnvironmentFault VIT-506, VIT-520.
    """
    refuse_existing(out)
    form = Form(to, check_precision(to, precision), opset, threads)
    classifier = layout.of(classifier)
    finish = layout.files(Job(classifier, out, images, form, say))
    require_packages(to, form.precision)
    graph_of(classifier)  # refuses what cannot be exported
    record = source_record(classifier, out)
    with whole_folder(out, refuse=refuse_existing) as folder:
        say(f"exporting to {to}")
        here, place = by_torch(classifier, "float32"), folder / form.file_name
        expected = answers(here, images)
        written = write_engine(classifier, place, form, record, expected, images, int8, say)
        say(f"comparing with torch on {count(len(images), 'image')}")
        scores = classifier.meta.scores
        with torch_threads(threads):
            checked = [
                (one, compared(one, expected, images, scores, threads))
                for one in written.candidates
            ]
        first, comparison = gated(checked)
        speed: Table = {}
        if to != "torch-export":
            say("measuring speed")
            speed = measure_speed([here, *written.rivals, *passed(checked)], images)
        about = described(record, form, written, images, checked, speed).model_copy(
            update={
                "golden": golden_of(golden_answer(classifier, first)),
                "quantisation": as_json(written.quantisation(int8, to, speed)),
            }
        )
        write_rest(folder, classifier, record, about)
        add_section(folder, finish(folder))
    return Exported(about, comparison, first.limits, out)


def described(
    record: Record,
    form: Form,
    written: Written,
    images: CheckImages,
    checked: Sequence[tuple[Candidate, Comparison]],
    speed: Table,
) -> ExportRecord:
    """export.json, but for what it answers to the fixed image and how it became int8."""
    to, is_onnx = form.to, FORMATS[form.to] == "onnx"
    first, comparison = checked[0]
    return ExportRecord(
        source=source_of(record),
        weights=record.sha256,
        file=EngineFile(
            name=written.place.name,
            format=FORMATS[to],
            precision=form.precision,
            opset=form.opset if is_onnx else None,
            size=written.place.stat().st_size,
            sha256=sha256_of(written.place),
        ),
        images={"data": images.data, "split": images.split, "n": len(images)},
        parity=as_json(comparison.to_json()),
        limits=as_json(asdict(first.limits)),
        checked=() if to == "torch-export" else tuple(starmap(record_of, checked)),
        speed=speed,
        versions=versions(to) | {one.engine: one.library for one in written.candidates},
        machine=as_json(machine()),
    )


def source_record(classifier: Classifier, out: Path) -> Record:
    """model.json of the classifier, as its own folder has it."""
    sha256 = hashlib.sha256(weights_of(classifier)).hexdigest()
    return classifier.description().record(out / "model.json", sha256)


def answers(candidate: Candidate, images: CheckImages) -> Floats:
    """Probabilities (n, K)."""
    compute = candidate.opened(1)
    return np.concatenate([compute(one)[1] for one in images.batches()])


def golden_answer(classifier: Classifier, first: Candidate) -> Floats:
    """Probabilities (K,) of the fixed image: torch's, and those of the file where it is int8, which
    answers otherwise to an image that is like no other.
    """
    made = classifier.preprocess
    image = fixed_image(made)[None]  # (1, C, H, W), normalised
    if first.precision != "int8":
        return np.asarray(classifier.probabilities(image)[0])
    mean, std = (np.asarray(one, np.float32).reshape(-1, 1, 1) for one in (made.mean, made.std))
    return np.asarray(first.opened(1)((image * std + mean) * np.float32(255))[1][0])


def gated(checked: Sequence[tuple[Candidate, Comparison]]) -> tuple[Candidate, Comparison]:
    """The first, which was asked for. Raises GateError VIT-703 (of int8 VIT-704) where it missed
    its limits; others that did are recorded and never chosen.
    """
    first, found = checked[0]
    is_int8 = first.precision == "int8"
    hint = "Use the model as it is: --engine torch. Please report it with its model.json."
    require(
        found,
        first.limits,
        f"the exported model by {first}",
        code="VIT-704" if is_int8 else "VIT-703",
        hint="Another engine, or --precision float32" if is_int8 else hint,
    )
    return first, found


def passed(checked: Sequence[tuple[Candidate, Comparison]]) -> list[Candidate]:
    """Those within their limits."""
    return [one for one, found in checked if not found.missed(one.limits)]


def versions(to: Target) -> dict[str, str]:
    """Of what wrote the file and computed it."""
    found = {"vitrail": vitrail.__version__, "torch": torch.__version__}
    if FORMATS[to] == "onnx":
        import onnx

        found |= {"onnx format": onnx.__version__}
    return found


def write_rest(folder: Path, classifier: Classifier, record: Record, about: ExportRecord) -> None:
    """model.json, export.json, card, classes.txt, preprocess.json and what it was trained on."""
    if known := classifier.description().known:
        (folder / EXAMPLES).write_bytes(known)
    made = classifier.preprocess.to_json()
    texts = {
        "model.json": record.to_text(),
        EXPORT: about.to_text(),
        "README.md": card_of(record, about),
        "classes.txt": "".join(f"{name}\n" for name in classifier.classes),
        "preprocess.json": json.dumps(made, indent=1) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
