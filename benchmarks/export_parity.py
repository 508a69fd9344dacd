"""Models of full size, exported, next to torch on real images: ONNX Runtime and OpenVINO in float32
and torch.export, in batches of 1, 2, 3, 7 and 32.

    python -m benchmarks.export_parity --data DATA [--images 1000] [--model ViT-Ti/16 ...]

Weights are drawn with the variance that keeps a signal's size, and the head is scaled until the
logits of images differ by 2 on average: an untrained head of zeros would agree with everything.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.timing import write_result
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.open_data import open_data
from vitrail.export.candidates import Candidate, Floats, by_torch, of_file
from vitrail.export.check_images import SIZES, CheckImages, read_images
from vitrail.export.engine_file import graph_of, of_program
from vitrail.export.gate import EXACT, Comparison, compare
from vitrail.export.onnx_export import onnx_bytes
from vitrail.export.torch_export import exported_program
from vitrail.models.create import create_model

MODELS = ("ViT-Ti/16", "R+ViT-Ti/16", "BiT-R50x1", "CCT-7/3x1")
SPREAD = 2.0  # standard deviation of a logit over images


def classifier_of(name: str, classes: list[str], seed: int = 0) -> Classifier:
    """An untrained model whose answers depend on the image."""
    model = create_model(name, num_classes=len(classes)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                size = value[0].numel() ** -0.5
                value.copy_(torch.randn(value.shape, generator=generator) * size)
    height, width = model.config.image_size
    made = Preprocess(
        height=height, width=width, resize=(height, width), mean=(0.5,) * 3, std=(0.25,) * 3
    )
    return Classifier(model, made, classes)


def scale_head(classifier: Classifier, images: CheckImages) -> None:
    """Let logits have a mean of 0 and the spread `SPREAD` over images."""
    compute = by_torch(classifier, "float32").opened(1)
    logits = compute(images.first(32))[0]
    parts = classifier.model.get_submodule("head").modules()
    layer = next(one for one in parts if isinstance(one, nn.Linear | nn.Conv2d))
    factor = SPREAD / float(logits.std(axis=0).mean())
    with torch.no_grad():
        layer.weight *= factor
        assert layer.bias is not None
        layer.bias.copy_((layer.bias - torch.from_numpy(logits.mean(axis=0))) * factor)


def pieces(images: CheckImages) -> Iterator[Floats]:
    """Every image once, in batches of each size in turn."""
    first, turn = 0, 0
    while first < len(images):
        size = SIZES[turn % len(SIZES)]
        yield images.pixels[first : first + size].astype(np.float32)
        first, turn = first + size, turn + 1


def answers(candidate: Candidate, images: CheckImages) -> Floats:
    """Probabilities (n, K) on one thread."""
    compute = candidate.opened(1)
    return np.concatenate([compute(one)[1] for one in pieces(images)])


def measure(name: str, data: str, most: int) -> dict[str, Any]:
    """One model by every engine."""
    source = open_data(data).train
    classifier = classifier_of(name, list(source.classes))
    images = read_images(source, classifier.preprocess, [], split="train", most=most)
    scale_head(classifier, images)
    graph, began = graph_of(classifier), time.perf_counter()
    content = onnx_bytes(graph, "{}")
    secs = time.perf_counter() - began
    expected = answers(by_torch(classifier, "float32"), images)
    candidates = {
        "onnx": of_file("onnx", content, name, "float32"),
        "openvino": of_file("openvino", content, name, "float32"),
        "torch-export": of_program(exported_program(graph)),
    }
    found = {
        engine: compare(expected, answers(one, images), None) for engine, one in candidates.items()
    }
    best = expected.argmax(axis=1)
    print(
        f"{name}: {len(content) / 1e6:.1f} MB, exported in {secs:.0f} s; {len(images)} images, "
        f"{len(np.unique(best))} different answers, p of the best {expected.max(axis=1).mean():.2f}"
    )
    for engine, one in found.items():
        print(f"  {engine:14}{line_of(one)}", flush=True)
    return {
        "bytes": len(content),
        "answers": len(np.unique(best)),
        "engines": {engine: asdict(one) for engine, one in found.items()},
        "libraries": {engine: one.library for engine, one in candidates.items()},
    }


def line_of(found: Comparison) -> str:
    """A comparison in one line."""
    state = "ok" if not found.missed(EXACT) else "missed"
    return (
        f"max |dp| {found.max_dp:.1e}, p99 {found.p99_dp:.1e}, {found.changed} answers changed, "
        f"{found.changed_with_margin} where the margin is above {EXACT.margin}: {state}"
    )


def main() -> None:
    """Measure, print, and write results/export_parity.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", nargs="*", default=MODELS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for name in asked.model:
        rows[name] = measure(name, asked.data, asked.images)
        write_result("export_parity", {"images": asked.images, "batches": SIZES, "models": rows})


if __name__ == "__main__":
    main()
