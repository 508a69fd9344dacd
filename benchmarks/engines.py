"""Images a second of ViT-Ti/16 by `--engine auto`, next to torch and to ONNX Runtime and OpenVINO
driven by hand on the same file in the same precision.

    python -m benchmarks.engines [--rounds 5] [--threads 1 2] [--batch 1 8 32]

The model is exported first, on this machine, so that auto chooses by figures of this machine. What
is given to each contender is prepared: pixels by hand, normalised images to vitrail.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import compete, serve, summary, table, write_result

MODEL = "ViT-Ti/16"
FOLDER = "ENGINES_FOLDER"  # of the environment: where the model lies
IMAGES = 32  # a turn
CONTENDERS = {  # engine, precision; by hand or by vitrail
    "auto": ("auto", "float32"),
    "torch": ("torch", "float32"),
    "onnx by hand": ("onnx", "float32"),
    "openvino by hand": ("openvino", "float32"),
    "auto bfloat16": ("auto", "bfloat16"),
    "openvino bfloat16 by hand": ("openvino", "bfloat16"),
}


def export_once(folder: Path) -> dict[str, Any]:
    """A model with drawn weights and its export, checked on drawn images. What was measured."""
    from benchmarks.export_parity import classifier_of, scale_head
    from vitrail.device import has_bfloat16
    from vitrail.export.check_images import CheckImages
    from vitrail.export.export_model import export_model

    classifier = classifier_of(MODEL, [str(number) for number in range(100)])
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, 224, 224), dtype=np.uint8)
    images = CheckImages(pixels, None, "drawn", "all")
    scale_head(classifier, images)
    classifier.save(folder)
    done = export_model(
        classifier,
        folder / "export",
        images,
        to="openvino",
        precision="bfloat16" if has_bfloat16() else "float32",
    )
    speed: dict[str, Any] = done.record.model_dump(mode="json")["speed"]
    return speed


def turn_of(batch: int, name: str, threads: int) -> Callable[[], None] | str:
    """What contender `name` does in one turn, or why it cannot."""
    from vitrail.errors import VitrailError

    engine, precision = CONTENDERS[name]
    folder = Path(os.environ[FOLDER])
    pixels = np.random.default_rng(1).random((batch, 3, 224, 224), np.float32) * 255
    try:
        compute = (
            by_hand(folder, engine, precision, threads)
            if "hand" in name
            else by_vitrail(folder, engine, precision, threads, batch)
        )
    except VitrailError as error:
        return str(error)

    def turn() -> None:
        for _ in range(IMAGES // batch):
            compute(pixels)

    return turn


def by_hand(folder: Path, engine: str, precision: str, threads: int) -> Callable[[Any], object]:
    """As the engine's own manual has it, with as many threads."""
    path = folder / "export/model.onnx"
    if engine == "onnx":
        from vitrail.runtime.onnx_session import require_onnxruntime

        onnxruntime = require_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"image": pixels})
    from vitrail.runtime.openvino_session import HINTS, require_openvino

    properties = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = require_openvino().Core().compile_model(path, "CPU", properties)
    request = compiled.create_infer_request()
    return lambda pixels: request.infer([pixels])


def by_vitrail(
    folder: Path, engine: str, precision: str, threads: int, batch: int
) -> Callable[[Any], object]:
    """`Classifier.probabilities`, as every command calls it."""
    from vitrail.classifier import load
    from vitrail.device import keep_freed_memory

    keep_freed_memory()
    found = load(folder, engine=engine, precision=precision, threads=threads, batch=batch)
    return found.probabilities


def chosen(folder: Path, threads: int, batch: int) -> dict[str, Any]:
    """What auto takes."""
    from vitrail.classifier import load

    info = load(folder, engine="auto", threads=threads, batch=batch).runtime.info
    return {"engine": info.engine, "best_batch": info.best_batch}


def measure(batches: list[int], threads: list[int], rounds: int) -> None:
    """Run, print, and write results/engines.json."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        os.environ[FOLDER] = str(folder)
        speed = export_once(folder)
        cases: dict[str, Any] = {}
        for number in threads:
            for batch in batches:
                turns, absent = compete(
                    "benchmarks.engines",
                    str(batch),
                    list(CONTENDERS),
                    threads=number,
                    rounds=rounds,
                )
                rows = summary(turns, IMAGES, "auto")
                taken = chosen(folder, number, batch)
                title = f"batch {batch}, {number} threads: auto takes {taken['engine']}"
                print(table(title, rows, "auto"), flush=True)
                cases[f"b{batch}_t{number}"] = {"auto": taken, "rows": rows, "absent": absent}
                result = {"model": MODEL, "rounds": rounds, "export": speed, "cases": cases}
                write_result("engines", result)


def main() -> None:
    """Measure; with --contender, be one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--case")
    parser.add_argument("--contender")
    asked = parser.parse_args()
    if asked.contender:
        serve(turn_of(int(asked.case), asked.contender, asked.threads[0]))
    else:
        measure(asked.batch, asked.threads, asked.rounds)


if __name__ == "__main__":
    main()
