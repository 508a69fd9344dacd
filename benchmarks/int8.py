"""int8 of trained models on whole test sets: accuracy with interval, NLL, ECE, agreement, size; and
the speed of ViT-Ti/16 in int8 next to float32 of the same engine.

    python -m benchmarks.int8 fashion=runs/fashion cifar=runs/cifar [--planted fashion]
    python -m benchmarks.int8 --speed FOLDER        # the first time it writes the files there

Each run is exported with `--precision int8` as usual (calibrated with its training images, gated on
its validation images); the file is then measured on the test split, which the export never saw, or
on the validation split of data without one. --planted: also with outliers of LayerNorms times 100,
equalised and not, and calibrated with noise.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.export_parity import classifier_of
from benchmarks.timing import write_result
from vitrail.classifier import Classifier, load
from vitrail.errors import GateError
from vitrail.evaluation.eval_set import Opened, open_own
from vitrail.export import speed
from vitrail.export.candidates import by_torch, of_file
from vitrail.export.check_images import CheckImages, read_images
from vitrail.export.engine_file import graph_of
from vitrail.export.equalise import pairs_of
from vitrail.export.export_model import answers, export_model, source_record
from vitrail.export.gate import compare
from vitrail.export.int8 import CALIBRATE, Int8, quantise
from vitrail.export.onnx_export import onnx_bytes
from vitrail.runtime.engines import is_installed, open_session

FACTOR = 100.0
CHECK = 1000
MOST = 100_000
SPLITS = ("test", "val")
MODEL = "ViT-Ti/16"
FILES = ("float32.onnx", "int8.onnx")
BATCHES = (1, 8, 32)


def images(opened: Opened, classifier: Classifier, split: str, most: int) -> CheckImages:
    """At most `most` images of a split."""
    source = opened.judged(split).source
    return read_images(source, classifier.preprocess, classifier.classes, split=split, most=most)


def plant(classifier: Classifier) -> Classifier:
    """The same function of images, with one channel of each LayerNorm times 100."""
    planted = copy.deepcopy(classifier)
    for index, (norm, dense) in enumerate(pairs_of(planted.model)):
        weight = planted.model.get_submodule(dense).get_parameter("weight")
        channel = 7 * index % weight.shape[1]
        with torch.no_grad():
            for name in ("weight", "bias"):
                planted.model.get_submodule(norm).get_parameter(name)[channel] *= FACTOR
            weight[:, channel] /= FACTOR
    return planted


def row(name: str, classifier: Classifier, opened: Opened, asked: Int8) -> dict[str, Any]:
    """What became of one export, measured on the whole test split."""
    split = next(one for one in SPLITS if one in opened.parts)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        try:
            made = export_model(
                classifier,
                out,
                images(opened, classifier, "val", CHECK),
                precision="int8",
                int8=asked,
            )
        except GateError as error:
            left = [one.name for one in Path(folder).iterdir()]
            return {"model": name, "code": error.code, "said": error.message, "left": left}
        content = (out / made.record.file.name).read_bytes()
    whole = images(opened, classifier, split, MOST)
    before = answers(by_torch(classifier, "float32"), whole)
    after = answers(of_file("onnx", content, "model.int8.onnx", "int8"), whole)
    found = compare(before, after, whole.labels).to_json()
    about = made.record.quantisation
    return {
        "model": name,
        "architecture": type(classifier.model).__name__,
        "split": split,
        **found,
        "changed_share": found["changed"] / found["images"],
        "nll_share": found["nll_rise"] / found["nll"][0],
        "bytes": len(content),
        "size": len(content) / float_size(classifier),
        "float": about["float"],
        "speedup": about["speedup"],
    }


def float_size(classifier: Classifier) -> int:
    """Bytes of the ONNX file in float32."""
    record = source_record(classifier, Path("out")).to_text()
    return len(onnx_bytes(graph_of(classifier), record))


def rows_of(name: str, run: Path, is_planted: bool) -> list[dict[str, Any]]:
    """The model as it is; where asked, also planted and calibrated with noise."""
    classifier = load(run)
    opened = open_own(run, "val")
    calibration = images(opened, classifier, "train", CALIBRATE)
    asked = Int8(calibration)
    found = [row(name, classifier, opened, asked)]
    if not is_planted:
        return found
    planted = plant(classifier)
    noise = np.random.default_rng(0).integers(0, 256, calibration.pixels.shape, dtype=np.uint8)
    found.append(row(f"{name}, planted, equalised", planted, opened, asked))
    off = Int8(calibration, is_equalised=False)
    found.append(row(f"{name}, planted, not equalised", planted, opened, off))
    by_noise = Int8(CheckImages(noise, None, "noise", "noise"))
    found.append(row(f"{name}, calibrated with noise", classifier, opened, by_noise))
    return found


def line(found: dict[str, Any]) -> str:
    """A row for people."""
    if "code" in found:
        return f"| {found['model']} | {found['code']}, left behind: {found['left'] or 'nothing'} |"
    low, high = found["drop_interval"]
    cells = [
        found["model"],
        f"{found['images']:,} {found['split']}",
        f"{100 * found['accuracy'][0]:.2f}",
        f"{found['accuracy_drop']:.2f} ({low:.2f} to {high:.2f})",
        f"{100 * found['nll_share']:+.2f} %",
        f"{found['ece_rise']:+.4f}",
        f"{found['p99_dp']:.3f}",
        f"{100 * found['changed_share']:.2f} %",
        f"{found['size']:.3f}",
        str(len(found["float"])),
        f"{found['speedup']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def write_files(folder: Path) -> None:
    """ViT-Ti/16 with drawn weights in float32 and in int8, calibrated with drawn pixels."""
    classifier = classifier_of(MODEL, [str(number) for number in range(1000)])
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, 224, 224), dtype=np.uint8)
    drawn = CheckImages(pixels, None, "drawn", "all")
    expected = answers(by_torch(classifier, "float32"), drawn)
    asked = Int8(drawn, max_drop=100.0)
    made = quantise(
        graph_of(classifier), "{}", expected, drawn, asked, opset=20, threads=1, say=print
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(FILES, (made.whole, made.content), strict=True):
        (folder / name).write_bytes(content)


def speeds(folder: Path) -> list[dict[str, Any]]:
    """Images per second of both files in each engine, in turns, on one thread."""
    if not all((folder / name).exists() for name in FILES):
        write_files(folder)
    speed.SECS, speed.ROUNDS = 0.5, 7
    contents = [(folder / name).read_bytes() for name in FILES]
    pixels = np.random.default_rng(0).integers(0, 256, (32, 3, 224, 224)).astype(np.float32)
    runs: dict[str, speed.Run] = {
        f"{engine} {precision}": open_session(engine, content, precision, precision=precision)
        for engine in ("onnx", "openvino")
        if is_installed(engine)
        for precision, content in zip(("float32", "int8"), contents, strict=True)
    }
    return [
        {"batch": batch, **{name: round(rate, 1) for name, rate in rates.items()}}
        for batch in BATCHES
        for rates in [speed.in_turns(runs, pixels[:batch])]
    ]


def main() -> None:
    """Print the table; write it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--planted", nargs="*", default=[])
    parser.add_argument("--speed", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.speed:
        found = speeds(given.speed)
        print(*found, sep="\n")
        write_result("int8_speed", {"model": MODEL, "images_per_s": found})
        return
    rows: list[dict[str, Any]] = []
    for one in given.runs:
        name, _, run = one.partition("=")
        for made in rows_of(name, Path(run), name in given.planted):
            print(line(made), flush=True)
            rows.append(made)
            write_result("int8", {"rows": rows})


if __name__ == "__main__":
    main()
