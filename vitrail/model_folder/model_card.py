"""The README.md of a model folder: a model card that the Hugging Face Hub understands unchanged.

The front matter is YAML; every text in it is written as a JSON string, which YAML reads as it is.
The licence is the user's to choose, so none is stated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vitrail.markdown import plain, table
from vitrail.model_folder.model_record import Record
from vitrail.models.names import full_name
from vitrail.spelling import count

KINDS = {"vit": "Vision Transformer", "bit": "BiT-ResNet", "resnet": "Residual network"}
FIGURES = {  # key of metrics.json: (type on the Hub, name for people)
    "top1": ("accuracy", "Top-1 accuracy"),
    "top5": ("top-5-accuracy", "Top-5 accuracy"),
    "f1_macro": ("f1", "Macro F1"),
    "balanced_accuracy": ("balanced-accuracy", "Balanced accuracy"),
    "mean_average_precision": ("mean-average-precision", "Mean average precision"),
    "nll": ("nll", "Negative log-likelihood (nats)"),
    "brier": ("brier", "Brier score"),
    "ece": ("expected-calibration-error", "Expected calibration error (15 bins)"),
}


def card_of(record: Record) -> str:
    """The card of `record`; `record.metrics` holds objects of metrics.json by split."""
    data = str(record.trained_on.get("data", "images of the author"))
    made = full_name(record.architecture.name, record.architecture.numbers)
    name = f"{made} on {data}"
    parts = [front_matter(record, name, data), f"# {plain(name)}", summary(record)]
    parts += [figures(split, values) for split, values in measured(record).items()]
    parts += ["## Use\n" + USE, "## Preprocessing\n\n" + preprocessing(record)]
    if record.classes:
        parts.append("## Classes\n\n" + class_list(record.classes))
    parts.append("## Limits\n\n" + LIMITS)
    return "\n\n".join(parts) + "\n"


USE = """
```python
import vitrail

classifier = vitrail.load("path/to/this/folder")
for prediction in classifier.predict(["a.jpg"], top=5):
    print(prediction.label, prediction.score)
```

```
vitrail predict path/to/this/folder a.jpg --top 5
```"""
LIMITS = (
    "The figures hold for images like those it was measured on. An image of none of the classes "
    "gets one of them all the same. Scores are probabilities only as far as the calibration error "
    "says. Choose a licence before sharing: add `license:` to the header of this file."
)


def measured(record: Record) -> dict[str, Mapping[str, Any]]:
    """The metrics by split, test first."""
    found = {key: value for key, value in record.metrics.items() if isinstance(value, Mapping)}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "test", item[0])))


def front_matter(record: Record, name: str, data: str) -> str:
    """The YAML header between two lines of ---."""
    lines = ["---", "library_name: vitrail", f"pipeline_tag: {task_of(record)}"]
    kind = KINDS[record.architecture.family].lower().replace(" ", "-")
    lines += ["tags:", f"- {kind}", f"- {task_of(record)}"]
    splits = measured(record)
    if splits:
        split, values = next(iter(splits.items()))
        chosen = [key for key in FIGURES if isinstance(values.get(key), int | float)]
        lines += ["metrics:", *(f"- {FIGURES[key][0]}" for key in chosen)]
        lines += ["model-index:", f"- name: {quoted(name)}", "  results:", "  - task:"]
        lines += ["      type: image-classification", "    dataset:"]
        lines += [f"      name: {quoted(data)}", f"      type: {quoted(data)}"]
        lines += [f"      split: {quoted(split)}", "    metrics:"]
        for key in chosen:
            kind, title = FIGURES[key]
            lines += [f"    - type: {kind}", f"      name: {quoted(title)}"]
            lines.append(f"      value: {float(values[key]):.6g}")
    return "\n".join([*lines, "---"])


def is_encoder(record: Record) -> bool:
    """Whether the model has no head."""
    return record.architecture.numbers.get("num_classes") == 0


def task_of(record: Record) -> str:
    """The hub's name of what the model does."""
    return "image-feature-extraction" if is_encoder(record) else "image-classification"


def summary(record: Record) -> str:
    """What it is, in a few lines."""
    size = "x".join(str(side) for side in (record.preprocess["height"], record.preprocess["width"]))
    kind, sizes = KINDS[record.architecture.family], f"{record.architecture.name}, {size} px"
    what = f"image classifier ({sizes}, {count(len(record.classes), 'class')})"
    if is_encoder(record):
        what = f"encoder ({sizes}) without a head, to start from"
    facts = {**record.trained_on, **{f"version of {k}": v for k, v in record.versions.items()}}
    rows = [
        (plain(key.replace("_", " ")), plain(value))
        for key, value in facts.items()
        if isinstance(value, str | int | float)
    ]
    return f"A {kind} {what}, trained with vitrail.\n\n{table(['', ''], rows)}"


def figures(split: str, values: Mapping[str, Any]) -> str:
    """A table of the metrics of one split."""
    rows = [
        (title, f"{values[key]:.4f}{interval(key, values)}")
        for key, (_, title) in FIGURES.items()
        if isinstance(values.get(key), int | float)
    ]
    text = f"## Results on {plain(split)}\n\n{table(['metric', 'value'], rows)}"
    n = values.get("n")
    return f"{text}\n\nMeasured on {count(n, 'image')}." if isinstance(n, int) else text


def interval(key: str, values: Mapping[str, Any]) -> str:
    """Beside top1, its 95 % interval."""
    limits = values.get("top1_interval")
    if key != "top1" or not isinstance(limits, list | tuple) or len(limits) != 2:
        return ""
    return f" (95 % interval {limits[0]:.4f} to {limits[1]:.4f})"


def preprocessing(record: Record) -> str:
    """The record that every image goes through, as a list."""
    return "\n".join(f"- {key}: `{value}`" for key, value in record.preprocess.items())


def class_list(classes: list[str]) -> str:
    """At most 100 names in the order of the outputs."""
    more = f", ... ({len(classes)} in all; see model.json)" if len(classes) > 100 else ""
    return ", ".join(plain(name) for name in classes[:100]) + more


def quoted(text: str) -> str:
    """A YAML string."""
    return json.dumps(text)
