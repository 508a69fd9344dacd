"""What tensors do not tell, in the metadata of the .safetensors files that vitrail writes.

A state dict of torchvision, DeiT or DINOv2 says nothing of heads, preprocessing or classes. Other
libraries do not look at the metadata, so such a file stays theirs and comes back here whole. A note
may be made up: it is plain data, and believed where it fits the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vitrail.checkpoints.mapping.rules import Header
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import VitrailError
from vitrail.models.names import ModelConfig

NOTE = "vitrail"  # the key
NUMBERS = ("image_size", "num_heads")  # fields that no shape shows


def embedded_metadata(
    config: ModelConfig, preprocess: Preprocess, classes: Sequence[str], origin: str
) -> str:
    """The text that is written."""
    numbers = config.model_dump(mode="json", include=set(NUMBERS))
    return json.dumps(
        {
            "origin": origin,
            "numbers": numbers,
            "preprocess": preprocess.to_json(),
            "classes": list(classes),
        }
    )


def read_note(header: Header, origins: Collection[str]) -> dict[str, Any]:
    """`origin`, `numbers`, `preprocess` and `classes` of the note; nothing where there is none, or
    where it is damaged.
    """
    found = header.metadata.get("safetensors")
    text = found.get(NOTE, "") if isinstance(found, Mapping) else ""
    try:
        values = json.loads(text)
        numbers = {str(key): _plain(value) for key, value in values["numbers"].items()}
        note = {
            "origin": str(values["origin"]),
            "numbers": numbers,
            "preprocess": Preprocess.from_json(values["preprocess"]),
            "classes": tuple(str(name) for name in values["classes"]),
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, VitrailError):
        return {}
    is_sound = note["origin"] in origins and set(numbers) <= set(NUMBERS)
    return note if is_sound else {}


def _plain(value: Any) -> int | tuple[int, int]:
    """A number or a pair. Raises ValueError."""
    pair = value if isinstance(value, list) else [value]
    if len(pair) > 2 or not all(type(item) is int for item in pair):
        raise ValueError("no number")
    return (pair[0], pair[1]) if len(pair) == 2 else pair[0]
