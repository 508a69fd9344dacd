"""The file that an engine reads, and what computes it: ONNX, OpenVINO, torch, torch.export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch.export import ExportedProgram

from vitrail.classifier import Classifier
from vitrail.errors import ModelError, UsageError, nearest
from vitrail.export.candidates import (
    Candidate,
    Floats,
    by_torch,
    of_file,
)
from vitrail.export.check_images import CheckImages
from vitrail.export.graph import Graph
from vitrail.export.int8 import Int8, Quantisation, quantise
from vitrail.export.onnx_export import onnx_bytes, require_exporter
from vitrail.export.speed import Table
from vitrail.export.torch_export import exported_program, write_torch_export
from vitrail.files import write_whole
from vitrail.model_folder.export_record import (
    Precision,
)
from vitrail.model_folder.model_record import Record
from vitrail.models.create import Model
from vitrail.runtime.engines import PRECISIONS, is_installed
from vitrail.runtime.onnx_session import require_onnxruntime
from vitrail.runtime.openvino_session import require_openvino

Target = Literal["onnx", "openvino", "torch", "torch-export"]
Say = Callable[[str], None]
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
class Form:
    """What is made: for which engine, in which precision, of which version of ONNX; threads: that
    compute it where it is checked and timed.
    """

    to: Target
    precision: Precision
    opset: int
    threads: int

    @property
    def file_name(self) -> str:
        """Of the engine's file."""
        return INT8 if self.precision == "int8" else NAMES[self.to]


@dataclass(frozen=True)
class Written:
    """The engine's file, and what computes it: first what was asked for. rivals: of other
    precisions, timed beside it; made: how it became int8.
    """

    place: Path
    candidates: list[Candidate]
    rivals: tuple[Candidate, ...] = ()
    made: Quantisation | None = None

    def quantisation(self, int8: Int8 | None, to: Target, speed: Table) -> dict[str, Any]:
        """How it became int8, for export.json; empty where it did not."""
        return {} if self.made is None or int8 is None else self.made.to_json(int8, to, speed)


def write_engine(
    classifier: Classifier,
    place: Path,
    form: Form,
    record: Record,
    expected: Floats,
    images: CheckImages,
    int8: Int8 | None,
    say: Say,
) -> Written:
    """Write the engine's file. expected: torch's probabilities (n, K) of `images`; int8: what that
    precision needs. Raises ModelError VIT-470; GateError VIT-704, VIT-705; UsageError VIT-295.
    """
    graph = graph_of(classifier)
    if form.precision != "int8":
        return Written(place, write_plain(classifier, graph, place, form, record))
    made = quantise(
        graph,
        record.to_text(),
        expected,
        images,
        required(int8),
        opset=form.opset,
        threads=form.threads,
        say=say,
    )
    write_whole(place, made.content)
    whole = of_file(form.to, made.whole, NAMES[form.to], "float32")
    return Written(place, int8_candidates(form.to, made, place.name), (whole,), made)


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


def weights_of(classifier: Classifier) -> bytes:
    """model.safetensors of the classifier, as its own folder has it."""
    tensors = classifier.model.state_dict()
    return save({name: value.detach().contiguous() for name, value in tensors.items()}, METADATA)


def write_plain(
    classifier: Classifier, graph: Graph, place: Path, form: Form, record: Record
) -> list[Candidate]:
    """Write the engine's file. What computes it: first what was asked for, then float32 on every
    other engine that is installed.
    """
    to, precision = form.to, form.precision
    if to == "torch":
        write_whole(place, weights_of(classifier))
        return [by_torch(classifier, precision)]
    if to == "torch-export":
        program = exported_program(graph)
        write_torch_export(program, place)
        return [of_program(program)]
    content = onnx_bytes(graph, record.to_text(), opset=form.opset)
    write_whole(place, content)
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
