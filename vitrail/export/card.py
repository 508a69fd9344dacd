"""The README.md of an export: what the model is, how it was checked, and how to use the file."""

from __future__ import annotations

from vitrail.model_folder.export_record import ExportRecord
from vitrail.model_folder.model_card import card_of as model_card
from vitrail.model_folder.model_record import Record
from vitrail.spelling import count

PLAIN = """
```python
import json
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
made = json.load(open("preprocess.json"))
classes = open("classes.txt", encoding="utf-8").read().splitlines()
image = Image.open("a.jpg").convert("{mode}")
{resize}
pixels = np.asarray(image, np.float32).reshape(made["height"], made["width"], -1)
batch = pixels.transpose(2, 0, 1)[None]  # (1, C, H, W), 0 to 255; the file normalises
logits, probabilities = session.run(None, {{"image": batch}})
for i in np.argsort(-probabilities[0])[:5]:
    print(classes[i] if classes else i, probabilities[0, i])
```"""
WHOLE = "image = image.resize(({width}, {height}), Image.Resampling.{filter})"
CROP = """short = min(image.size)
sides = [int({resize} * side / short) for side in image.size]
image = image.resize(sides, Image.Resampling.{filter})
left, top = [{offset} for side, made_side in zip(image.size, ({width}, {height}))]
image = image.crop((left, top, left + {width}, top + {height}))"""
OTHERWISE = """
This model resizes images in another way than Pillow does: these lines come close, and `vitrail
predict` follows `preprocess.json` exactly."""
PT2 = """
A .pt2 is a container of pickles: load it only if you wrote it, with `torch.export.load`. vitrail
writes such files and never opens them."""


def card_of(record: Record, about: ExportRecord) -> str:
    """The card of the model, with a section on the file in the place of its own use."""
    card = model_card(record)
    if about.file.format == "torch-export":
        before, rest = card.split("## Use\n", 1)
        card = before + "## Use\n" + PT2 + "\n\n## " + rest.split("\n## ", 1)[1]
    return card.rstrip("\n") + "\n\n" + file_section(record, about) + "\n"


def file_section(record: Record, about: ExportRecord) -> str:
    """The exported file: its inputs and outputs, how it was checked, plain code that uses it."""
    made, parity = record.preprocess, about.parity
    channels = len(made["mean"]) if isinstance(made["mean"], list) else 3
    images = count(int(str(parity["images"])), "image")
    changed = count(int(str(parity["changed"])), "answer")
    lines = [
        f"## {about.file.name}",
        "",
        f"Input `image`: float32 (batch, {channels}, {made['height']}, {made['width']}), 0 to 255; "
        f"outputs `logits` and `probabilities`: float32 (batch, classes). Checked against torch on "
        f"{images}: probabilities differ by at most "
        f"{parity['max_dp']:.2g}, "
        f"{changed} differ. All figures and limits: export.json.",
    ]
    if about.file.format == "onnx":
        lines += [
            "",
            "In plain ONNX Runtime (which sends telemetry unless ORT_DISABLE_TELEMETRY=1 is set):",
            plain_code(record, about, channels),
        ]
        lines += [OTHERWISE] if made.get("resizer") == "tensorflow" or is_odd(record) else []
    return "\n".join(lines)


def is_odd(record: Record) -> bool:
    """Whether the short side is resized for a target that is not square."""
    made = record.preprocess
    return isinstance(made["resize"], int) and made["height"] != made["width"]


def plain_code(record: Record, about: ExportRecord, channels: int) -> str:
    """Lines for whoever has numpy, Pillow and onnxruntime."""
    made = record.preprocess
    kind = str(made["interpolation"]).upper()
    is_whole = made["resize"] == [made["height"], made["width"]]
    offset = (
        "(side - made_side) // 2"
        if made.get("crop") == "center_floor"
        else ("round((side - made_side) / 2)")
    )
    resize = (WHOLE if is_whole else CROP).format(
        width=made["width"],
        height=made["height"],
        resize=made["resize"],
        filter="BOX" if kind == "AREA" else kind,
        offset=offset,
    )
    mode = "L" if channels == 1 else "RGB"
    return PLAIN.format(file=about.file.name, mode=mode, resize=resize)
