"""`vitrail export --to triton`: an ONNX export that is a model repository of Triton too.

Triton reads the folders of a repository and leaves single files out, so both fit into one folder:
NAME/config.pbtxt, NAME/labels.txt and NAME/1/model.onnx next to the files of the export.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from vitrail.classifier import Classifier
from vitrail.export.graph import INPUT, OUTPUTS
from vitrail.export.layout import Finish, Job, Layout
from vitrail.files import write_whole
from vitrail.spelling import printable

MAX_BATCH = 32  # the largest that the gate checks
CONFIG = """\
name: {name}
backend: "onnxruntime"
max_batch_size: {batch}
input [
  {{ name: "{image}" data_type: TYPE_FP32 dims: [ {channels}, {height}, {width} ] }}
]
output [
  {{ name: "{logits}" data_type: TYPE_FP32 dims: [ {classes} ] }},
  {{ name: "{probabilities}" data_type: TYPE_FP32 dims: [ {classes} ]{labels} }}
]
dynamic_batching {{ }}
"""
CARD = """
## Triton

This folder is a model repository: `tritonserver --model-repository path/to/this/folder` serves
`{name}`. Its input is pixels of the right size, 0 to 255: decode and resize as `preprocess.json`
says, or ask `vitrail serve`, which does both.
"""


def triton_files(job: Job) -> Finish:
    """A model repository."""

    def finish(folder: Path) -> str:
        classifier, name = job.classifier, name_of(job.out)
        content = (folder / "model.onnx").read_bytes()
        write_whole(folder / name / "1" / "model.onnx", content)
        write_whole(folder / name / "config.pbtxt", config_of(classifier, name))
        if classifier.classes:
            labels = "".join(f"{printable(label)}\n" for label in classifier.classes)
            write_whole(folder / name / "labels.txt", labels)
        return CARD.format(name=name)

    return finish


TRITON = Layout(triton_files)


def name_of(out: Path) -> str:
    """What the model is called in the repository: the folder's name with letters that Triton and
    addresses take.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", out.absolute().name).strip("-")
    return plain or "model"


def config_of(classifier: Classifier, name: str) -> str:
    """config.pbtxt."""
    made = classifier.preprocess
    classes = classifier.classes
    config = getattr(classifier.model, "config", None)
    return CONFIG.format(
        name=json.dumps(name),
        batch=MAX_BATCH,
        image=INPUT,
        channels=made.channels,
        height=made.height,
        width=made.width,
        logits=OUTPUTS[0],
        probabilities=OUTPUTS[1],
        classes=len(classes) or getattr(config, "num_classes", 0),
        labels=' label_filename: "labels.txt"' if classes else "",
    )
