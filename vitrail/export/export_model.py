"""`vitrail export`: from a classifier and real images to a folder with an engine's file, gated.

The folder is filled next to its name and gets it last: where the gate is missed, nothing is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save
from torch.export import ExportedProgram

import vitrail
from vitrail.classifier import Classifier, record_for
from vitrail.data.sources.examples import FILE as EXAMPLES
from vitrail.data.sources.examples import Examples
from vitrail.device import machine
from vitrail.errors import ModelError, UsageError, nearest
from vitrail.export.candidates import (
    Candidate,
    Floats,
    by_torch,
    compared,
    of_file,
    record_of,
    torch_threads,
)
from vitrail.export.card import card_of
from vitrail.export.check_images import CheckImages
from vitrail.export.gate import Comparison, Limits, require
from vitrail.export.graph import Graph
from vitrail.export.int8 import Int8, Quantisation, quantise
from vitrail.export.onnx_export import OPSET, onnx_bytes, require_exporter
from vitrail.export.speed import Table, measure_speed
from vitrail.export.torch_export import exported_program, write_torch_export
from vitrail.files import whole_folder, writing
from vitrail.model_folder.bundle import MAX_EXAMPLES_BYTES, refuse_existing, sha256_of
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
from vitrail.models.create import Model
from vitrail.runtime.engines import PRECISIONS, is_installed
from vitrail.runtime.onnx_session import require_onnxruntime
from vitrail.runtime.openvino_session import require_openvino
from vitrail.spelling import count

Target = Literal["onnx", "openvino", "torch", "torch-export"]
Say = Callable[[str], None]
Finish = Callable[[Path], None]
NAMES: dict[Target, str] = {  # openvino reads ONNX
    "onnx": "model.onnx",
    "openvino": "model.onnx",
    "torch": "model.safetensors",
    "torch-export": "model.pt2",
}
FORMATS: dict[Target, Literal["onnx", "torch", "torch-export"]] = {
    "onnx": "onnx",
    "openvino": "onnx",
    "torch": "torch",
    "torch-export": "torch-export",
}
OFFERED: dict[Target, tuple[Precision, ...]] = {
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
    "torch": ("bfloat16",),
    "torch-export": ("float32",),
}
INT8 = "model.int8.onnx"
METADATA = {"format": "pt"}


@dataclass(frozen=True)
class Exported:
    """What was written: the document of export.json, the comparison and its limits."""

    record: ExportRecord
    comparison: Comparison
    limits: Limits


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
    finish: Finish = lambda folder: None,
) -> Exported:
    """Write `out`, a folder that `vitrail.load` opens. images: real ones, for the gate; int8: what
    that precision needs; finish: adds what else belongs into the folder, before it gets its name.

    Raises UsageError VIT-294 for a precision that the target does not have, VIT-295 for int8
    without images to calibrate with; ModelError VIT-440 where `out` exists, VIT-443 for a model
    without a head, VIT-470 for one that cannot be expressed, VIT-471; GateError VIT-703 to VIT-705;
    EnvironmentFault VIT-506, VIT-520.
    """
    refuse_existing(out)
    precision = check_precision(to, precision)
    require_packages(to, precision)
    graph = graph_of(classifier)
    record = source_record(classifier, out)
    with whole_folder(out, refuse=refuse_existing) as folder:
        say(f"exporting to {to}")
        place = folder / (INT8 if precision == "int8" else NAMES[to])
        expected = answers(by_torch(classifier, "float32"), images)
        made: Quantisation | None = None
        rivals: list[Candidate] = []
        if precision == "int8":
            asked = required(int8)
            made = quantise(
                graph,
                record.to_text(),
                expected,
                images,
                asked,
                opset=opset,
                threads=threads,
                say=say,
            )
            place.write_bytes(made.content)
            wanted = int8_candidates(to, made, place.name)
            rivals = [of_file(to, made.whole, NAMES[to], "float32")]
        else:
            wanted = write_engine(classifier, graph, place, to, precision, record, opset)
        say(f"comparing with torch on {count(len(images), 'image')}")
        scores = classifier.meta.scores
        with torch_threads(threads):
            checked = [(one, compared(one, expected, images, scores, threads)) for one in wanted]
        first, comparison = gated(checked)
        speed: Table = {}
        if to != "torch-export":
            say("measuring speed")
            speed = measure_speed(
                [by_torch(classifier, "float32"), *rivals, *passed(checked)], images
            )
        quantisation = {} if made is None or int8 is None else made.to_json(int8, to, speed)
        about = ExportRecord(
            source=source_of(record),
            weights=record.sha256,
            file=EngineFile(
                name=place.name,
                format=FORMATS[to],
                precision=precision,
                opset=opset if FORMATS[to] == "onnx" else None,
                size=place.stat().st_size,
                sha256=sha256_of(place),
            ),
            images={"data": images.data, "split": images.split, "n": len(images)},
            parity=as_json(comparison.to_json()),
            limits=as_json(asdict(first.limits)),
            checked=() if to == "torch-export" else tuple(starmap(record_of, checked)),
            speed=speed,
            golden=golden_of(golden_answer(classifier, first)),
            quantisation=as_json(quantisation),
            versions=versions(to) | {one.engine: one.library for one in wanted},
            machine=as_json(machine()),
        )
        write_rest(folder, classifier, record, about)
        finish(folder)
    return Exported(about, comparison, first.limits)


def check_precision(to: Target, asked: str | None) -> Precision:
    """What the target has; the first of it unless asked for. Raises UsageError VIT-242 for an
    unknown precision, VIT-294 for one that the target has not.
    """
    for precision in OFFERED[to]:
        if asked in (None, precision):
            return precision
    if asked not in PRECISIONS:
        raise UsageError(
            "VIT-242", f"unknown precision {asked!r}. {nearest(str(asked), PRECISIONS)}"
        )
    others = [name for name, offered in OFFERED.items() if asked in offered]
    why = f"{to} has {', '.join(OFFERED[to])}"
    raise UsageError(
        "VIT-294",
        f"--to {to} --precision {asked}: there is no such export; {why}.",
        hint=f"{asked}: --to {' or '.join(others)}" if others else "--precision float32",
    )


def required(int8: Int8 | None) -> Int8:
    """Raises UsageError VIT-295 where there is none."""
    if int8 is None:
        raise UsageError(
            "VIT-295",
            "int8 is calibrated with real images, of training; none were given.",
            hint="--images DATA",
        )
    return int8


def require_packages(to: Target, precision: Precision = "float32") -> None:
    """Raise EnvironmentFault VIT-520 for what is missing, before anything is computed."""
    if FORMATS[to] == "onnx":
        require_exporter()
    if to == "onnx" or precision == "int8":  # whose quantiser is onnxruntime's
        require_onnxruntime()
    if to == "openvino":
        require_openvino()


def graph_of(classifier: Classifier) -> Graph:
    """What is exported. Raises ModelError VIT-443 for an encoder, UsageError VIT-287 for images of
    variable resolution.
    """
    model = classifier.model
    if not isinstance(model, Model):
        raise TypeError(f"a vitrail model can be exported, not a {type(model).__name__}")
    if not model.config.num_classes:
        raise ModelError(
            "VIT-443",
            "the model is an encoder without a head; an export has probabilities of classes.",
            hint="Train a head: vitrail train DATA --from MODEL",
        )
    classifier.preprocess.require_one_size("an export")
    return Graph(model.cpu(), classifier.preprocess, classifier.temperature, classifier.meta.scores)


def source_record(classifier: Classifier, out: Path) -> Record:
    """model.json of the classifier, as its own folder has it."""
    model, known = classifier.model, examples_of(classifier)
    assert isinstance(model, Model)
    sha256 = hashlib.sha256(weights_of(classifier)).hexdigest()
    facts = {key: value for key, value in classifier.meta.trained_on.items() if key != "examples"}
    facts |= {"examples": {"sha256": hashlib.sha256(known).hexdigest()}} if known else {}
    return record_for(
        model.config,
        classifier.preprocess,
        classifier.classes,
        replace(classifier.meta, trained_on=facts),
        classifier.temperature,
        name=out / "model.json",
        sha256=sha256,
    )


def weights_of(classifier: Classifier) -> bytes:
    """model.safetensors of the classifier, as its own folder has it."""
    tensors = classifier.model.state_dict()
    return save({name: value.detach().contiguous() for name, value in tensors.items()}, METADATA)


def examples_of(classifier: Classifier) -> bytes:
    """Which images it was trained on, by digests; empty where that is not known or too long."""
    if not isinstance(classifier.examples, Examples):
        return b""
    content = classifier.examples.shared().to_bytes()
    return content if len(content) <= MAX_EXAMPLES_BYTES else b""


def write_engine(
    classifier: Classifier,
    graph: Graph,
    place: Path,
    to: Target,
    precision: Precision,
    record: Record,
    opset: int,
) -> list[Candidate]:
    """Write the engine's file. What computes it: first what was asked for, then float32 on every
    other engine that is installed.
    """
    if to == "torch":
        with writing(place):
            place.write_bytes(weights_of(classifier))
        return [by_torch(classifier, precision)]
    if to == "torch-export":
        program = exported_program(graph)
        write_torch_export(program, place)
        return [of_program(program)]
    content = onnx_bytes(graph, record.to_text(), opset=opset)
    place.write_bytes(content)
    wanted = [(to, precision), *((engine, "float32") for engine in ("onnx", "openvino"))]
    return [
        of_file(engine, content, place.name, "bfloat16" if one == "bfloat16" else "float32")
        for engine, one in dict.fromkeys(wanted)
        if engine == to or is_installed(engine)
    ]


def int8_candidates(to: Target, made: Quantisation, name: str) -> list[Candidate]:
    """The engines of a quantised file: the target's first, then the other where it is installed."""
    return [
        of_file(engine, made.content, name, "int8", made.limits)
        for engine in dict.fromkeys((str(to), "onnx", "openvino"))
        if engine == to or is_installed(engine)
    ]


def of_program(program: ExportedProgram) -> Candidate:
    """The program in memory that was written as a .pt2."""
    module = program.module()

    def compute(pixels: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            logits, p = module(torch.from_numpy(pixels))
        return logits.numpy(), p.numpy()

    return Candidate("torch", "float32", torch.__version__, lambda threads: compute)


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
    if known := examples_of(classifier):
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
