"""`vitrail export --to huggingface-onnx`: an ONNX export that transformers.js and Optimum read too.

They want a file of their own, onnx/model.onnx: normalised images `pixel_values` in, `logits` out,
whose softmax or sigmoid is taken by their pipelines. The temperature is in those logits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.checkpoints.huggingface.config import written_config
from vitrail.checkpoints.huggingface.preprocess import write_preprocess
from vitrail.classifier import Classifier
from vitrail.export.candidates import Candidate, Compute, Floats, by_torch, compared
from vitrail.export.check_images import CheckImages
from vitrail.export.engine_file import graph_of
from vitrail.export.export_model import answers, source_record
from vitrail.export.gate import require
from vitrail.export.graph import NormalisedGraph
from vitrail.export.layout import Finish, Job, Layout
from vitrail.export.onnx_export import onnx_bytes
from vitrail.files import write_whole
from vitrail.models.vit.config import ViTConfig
from vitrail.prediction import probabilities_of
from vitrail.runtime.onnx_session import require_onnxruntime
from vitrail.spelling import printable

FILE = "onnx/model.onnx"
ARCHITECTURE = "ViTForImageClassification"
CARD = """
## transformers.js and Optimum

`{file}` takes `pixel_values` as `preprocessor_config.json` describes them and gives `logits`; their
{scores} is the probability, temperature included. config.json says `vit` whatever the architecture
is: pipelines choose their class by it, and use inputs and outputs only.
It has no weights for PyTorch.
{notes}
```js
import {{ pipeline }} from "@huggingface/transformers";
const classify = await pipeline("image-classification", "OWNER/NAME", {{ dtype: "fp32" }});
console.log(await classify("a.jpg", {{ top_k: 5 }}));
```
"""


def huggingface_files(job: Job) -> Finish:
    """Their file passes the same gate. Raises ModelError VIT-417 for a preprocessing that
    preprocessor_config.json cannot say; when written, GateError VIT-703.
    """
    classifier, form = job.classifier, job.form
    processor, notes = write_preprocess(classifier.preprocess)

    def finish(folder: Path) -> str:
        job.say(f"exporting {FILE}")
        graph = NormalisedGraph(graph_of(classifier))
        record = source_record(classifier, job.out)
        content = onnx_bytes(graph, record.to_text(), opset=form.opset)
        require_equal(classifier, content, job.images, form.threads)
        write_whole(folder / FILE, content)
        write_json(folder / "config.json", config_of(classifier))
        write_json(folder / "preprocessor_config.json", processor)
        sentences = "".join(f"{printable(note)}.\n" for note in notes)
        return CARD.format(file=FILE, scores=classifier.meta.scores, notes=sentences)

    return finish


HUGGINGFACE = Layout(huggingface_files)


def require_equal(
    classifier: Classifier, content: bytes, images: CheckImages, threads: int
) -> None:
    """The gate of the layout's own file. Raises GateError VIT-703."""
    runtime = require_onnxruntime()
    made, scores = classifier.preprocess, classifier.meta.scores
    mean, std = (np.array(one, np.float32).reshape(-1, 1, 1) for one in (made.mean, made.std))

    def opened(threads: int) -> Compute:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        def compute(pixels: Floats) -> tuple[Floats, Floats]:
            (logits,) = session.run(None, {"pixel_values": (pixels / np.float32(255) - mean) / std})
            return logits, probabilities_of(logits, 1.0, scores)

        return compute

    expected = answers(by_torch(classifier, "float32"), images)
    candidate = Candidate("onnx", "float32", runtime.__version__, opened)
    found = compared(candidate, expected, images, scores, threads)
    require(found, candidate.limits, FILE, code="VIT-703", hint="Please report it.")


def config_of(classifier: Classifier) -> dict[str, Any]:
    """config.json: sizes, classes, and what their scores are."""
    config, made = getattr(classifier.model, "config", None), classifier.preprocess
    names = [printable(name) for name in classifier.classes]
    if isinstance(config, ViTConfig):
        values = written_config(config, ARCHITECTURE, "vit", names)
    else:
        count = len(names) or int(getattr(config, "num_classes", 0))
        names = names or [f"LABEL_{number}" for number in range(count)]
        square = made.height if made.height == made.width else (made.height, made.width)
        values = {"model_type": "vit", "architectures": [ARCHITECTURE], "image_size": square}
        values |= {"num_channels": made.channels}
        values["id2label"] = {str(number): name for number, name in enumerate(names)}
        values["label2id"] = {name: number for number, name in enumerate(names)}
    several = classifier.meta.scores == "sigmoid"
    kind = "multi_label_classification" if several else "single_label_classification"
    return values | {"problem_type": kind}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a document whole."""
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
