"""`vitrail export`: from a classifier and real images to a folder with an engine's file, gated.

The folder is filled next to its name and gets it last: where the gate is missed, nothing is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

import vitrail
from vitrail.classifier import Classifier, record_for
from vitrail.data.sources.examples import FILE as EXAMPLES
from vitrail.data.sources.examples import Examples
from vitrail.device import machine
from vitrail.errors import ModelError
from vitrail.export.card import card_of
from vitrail.export.check_images import SIZES, CheckImages
from vitrail.export.gate import EXACT, Comparison, Limits, compare, require
from vitrail.export.graph import Graph
from vitrail.export.onnx_export import OPSET, onnx_bytes, require_exporter
from vitrail.export.speed import measure_speed
from vitrail.export.torch_export import exported_program, write_torch_export
from vitrail.files import whole_folder
from vitrail.model_folder.bundle import MAX_EXAMPLES_BYTES, refuse_existing, sha256_of
from vitrail.model_folder.export_record import EXPORT, EngineFile, ExportRecord, as_json, source_of
from vitrail.model_folder.model_record import Record
from vitrail.models.create import Model
from vitrail.runtime.onnx_session import OnnxSession, require_onnxruntime

Target = Literal["onnx", "torch-export"]
Floats = NDArray[np.float32]
Compute = Callable[[Floats], tuple[Floats, Floats]]  # pixels to logits and probabilities
Say = Callable[[str], None]
NAMES: dict[Target, str] = {"onnx": "model.onnx", "torch-export": "model.pt2"}
BATCH_LIMIT = 1e-5  # an answer alone against the same answer in any batch


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
    opset: int = OPSET,
    threads: int = 1,
    say: Say = lambda text: None,
) -> Exported:
    """Write `out`, a folder that `vitrail.load` opens. images: real ones, for the gate.

    Raises ModelError VIT-440 where `out` exists, VIT-443 for a model without a head, VIT-470 for
    one that cannot be expressed, VIT-471; GateError VIT-703; EnvironmentFault VIT-506, VIT-520.
    """
    refuse_existing(out)
    require_packages(to)
    graph = graph_of(classifier)
    record = source_record(classifier, out)
    with whole_folder(out, refuse=refuse_existing) as folder:
        say(f"exporting to {to}")
        place = folder / NAMES[to]
        compute = write_engine(graph, place, to, record, opset, threads)
        say(f"comparing with torch on {len(images):,} images")
        comparison = gated(classifier, compute, images)
        speed = {} if to != "onnx" else measure_speed(graph, compute, images, threads=threads)
        about = ExportRecord(
            source=source_of(record),
            weights=record.sha256,
            file=EngineFile(
                name=place.name,
                format=to,
                opset=opset if to == "onnx" else None,
                size=place.stat().st_size,
                sha256=sha256_of(place),
            ),
            images={"data": images.data, "split": images.split, "n": len(images)},
            parity=as_json(comparison.to_json()),
            limits=as_json(asdict(EXACT)),
            speed=as_json(speed),
            versions=versions(to),
            machine=as_json(machine()),
        )
        write_rest(folder, classifier, record, about)
    return Exported(about, comparison, EXACT)


def require_packages(to: Target) -> None:
    """Raise EnvironmentFault VIT-520 for what is missing, before anything is computed."""
    if to == "onnx":
        require_exporter()
        require_onnxruntime()


def graph_of(classifier: Classifier) -> Graph:
    """What is exported. Raises ModelError VIT-443 for an encoder."""
    model = classifier.model
    if not isinstance(model, Model):
        raise TypeError(f"a vitrail model can be exported, not a {type(model).__name__}")
    if not model.config.num_classes:
        raise ModelError(
            "VIT-443",
            "the model is an encoder without a head; an export has probabilities of classes.",
            hint="Train a head: vitrail train DATA --from MODEL",
        )
    return Graph(model.cpu(), classifier.preprocess, classifier.temperature, classifier.meta.scores)


def source_record(classifier: Classifier, out: Path) -> Record:
    """model.json of the classifier, as its own folder has it."""
    model, known = classifier.model, examples_of(classifier)
    assert isinstance(model, Model)
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    sha256 = hashlib.sha256(save(tensors, {"format": "pt"})).hexdigest()
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


def examples_of(classifier: Classifier) -> bytes:
    """Which images it was trained on, by digests; empty where that is not known or too long."""
    if not isinstance(classifier.examples, Examples):
        return b""
    content = classifier.examples.shared().to_bytes()
    return content if len(content) <= MAX_EXAMPLES_BYTES else b""


def write_engine(
    graph: Graph, place: Path, to: Target, record: Record, opset: int, threads: int
) -> Compute:
    """Write the engine's file; what computes it."""
    if to == "onnx":
        place.write_bytes(onnx_bytes(graph, record.to_text(), opset=opset))
        return OnnxSession(place.read_bytes(), place.name, threads=threads)
    program = exported_program(graph)
    write_torch_export(program, place)
    module = program.module()

    def compute(pixels: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            logits, p = module(torch.from_numpy(pixels))
        return logits.numpy(), p.numpy()

    return compute


def gated(classifier: Classifier, compute: Compute, images: CheckImages) -> Comparison:
    """The export against the classifier. Raises GateError VIT-703, ModelError VIT-471."""
    check_batches(compute, images)
    after = np.concatenate([compute(one)[1] for one in images.batches()])
    before = np.concatenate([torch_answers(classifier, one) for one in images.batches()])
    found = compare(before, after, images.labels, scores=classifier.meta.scores)
    require(
        found,
        EXACT,
        "the exported model",
        code="VIT-703",
        hint="Use the model as it is: --engine torch. Please report it with its model.json.",
    )
    return found


def torch_answers(classifier: Classifier, pixels: Floats) -> Floats:
    """Probabilities (B, K) by the path of `predict`, which knows nothing of the export."""
    made = classifier.preprocess
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (made.mean, made.std))
    return classifier.probabilities((torch.from_numpy(pixels) / 255 - mean) / std)


def check_batches(compute: Compute, images: CheckImages) -> None:
    """Raise ModelError VIT-471 unless an image gets the same answer in every size of batch."""
    most = images.first(max(SIZES))
    alone = np.concatenate([compute(one[None])[1] for one in most])
    for size in SIZES:
        together = compute(images.first(size))[1]
        if together.shape != alone[:size].shape or not (
            np.abs(together - alone[:size]).max() <= BATCH_LIMIT
        ):
            raise ModelError(
                "VIT-471",
                f"the exported file answers otherwise in a batch of {size} images.",
                hint="A fault of vitrail: please report it with the command.",
            )


def versions(to: Target) -> dict[str, str]:
    """Of what wrote the file and computed it."""
    found = {"vitrail": vitrail.__version__, "torch": torch.__version__}
    if to == "onnx":
        import onnx

        found |= {"onnx": onnx.__version__, "onnxruntime": require_onnxruntime().__version__}
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
