"""Bodies of the Open Inference Protocol, version 2: tensors as JSON, or as bytes behind the JSON
(the binary tensor data extension).

Two inputs, of which a request has one. `image`: FP32 (B, C, H, W), prepared as the model is shown
it. `encoded`: BYTES (B,), the files of images; base64 in JSON, as they are in binary. Outputs:
`probabilities` FP32 (B, K), `label` BYTES (B,).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vitrail.serve.problem import Problem, malformed
from vitrail.serve.routes.asked import from_base64, read_document

IMAGE, ENCODED = "image", "encoded"
PROBABILITIES, LABEL = "probabilities", "label"
OUTPUTS = {PROBABILITIES: "FP32", LABEL: "BYTES"}
HEADER = "Inference-Header-Content-Length"
Images = list[bytes] | list[NDArray[np.float32]]
Input = tuple[int, int, int]  # channels, height, width


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    parameters: dict[str, JsonValue] = {}


class _Tensor(_Part):
    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)]
    datatype: str
    data: Any = None


class _Output(_Part):
    name: str


class _Document(_Part):
    id: Annotated[str, Field(max_length=1000)] | None = None
    inputs: list[_Tensor]
    outputs: list[_Output] | None = None


@dataclass(frozen=True)
class Inference:
    """A request: its id, its images, and the outputs it wants, with whether as bytes."""

    id: str | None
    name: str  # of the input
    images: Images
    outputs: dict[str, bool]


def read_inference(body: bytes, head: str | None, shown: Input, most: int) -> Inference:
    """head: the header that says how long the JSON is, where bytes follow; shown: what the model
    takes; most: images. Raises Problem 400, 413, 422.
    """
    size = len(body) if head is None else _head_size(head, body)
    document = read_document(body[:size], _Document)
    if len(document.inputs) != 1:
        raise malformed(f"inputs: expected one, {IMAGE} or {ENCODED}")
    _check_parameters([document, *document.inputs, *(document.outputs or ())])
    images = _images(document.inputs[0], memoryview(body)[size:], shown, most)
    return Inference(document.id, document.inputs[0].name, images, _outputs(document))


def _head_size(head: str, body: bytes) -> int:
    if not (head.isascii() and head.isdigit() and len(head) < 12 and int(head) <= len(body)):
        raise malformed(f"{HEADER}: expected at most {len(body)}")
    return int(head)


def _outputs(document: _Document) -> dict[str, bool]:
    is_binary = _flag(document, "binary_data_output")
    if document.outputs is None:
        return dict.fromkeys(OUTPUTS, is_binary)
    names = [one.name for one in document.outputs]
    if not {*names} <= {*OUTPUTS} or len({*names}) < len(names):
        raise Problem(422, "VIT-202", f"outputs: expected {' or '.join(OUTPUTS)}, each once")
    return {one.name: _flag(one, "binary_data", otherwise=is_binary) for one in document.outputs}


def _flag(part: _Part, name: str, *, otherwise: bool = False) -> bool:
    value = part.parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise malformed(f"parameters.{name}: expected true or false")
    return value


def _check_parameters(parts: Sequence[_Part]) -> None:
    """Raises Problem 422 for what would make another answer of a request, if it were followed."""
    for name in (name for part in parts for name in part.parameters):
        if name == "classification" or name.startswith(("shared_memory_", "sequence_")):
            raise Problem(422, "VIT-202", f"parameters.{name[:60]}: not supported")


def _images(tensor: _Tensor, rest: memoryview, shown: Input, most: int) -> Images:
    binary = tensor.parameters.get("binary_data_size")
    if binary is None and len(rest):
        raise malformed("bytes follow the JSON that no input claims")
    if binary is not None and binary != len(rest):
        raise malformed(f"binary_data_size: {len(rest)} bytes follow the JSON")
    wanted = {IMAGE: ("FP32", [*shown]), ENCODED: ("BYTES", [])}
    if tensor.name not in wanted:
        raise Problem(422, "VIT-202", f"inputs: expected {IMAGE} or {ENCODED}")
    kind, tail = wanted[tensor.name]
    if tensor.datatype != kind or not tensor.shape or tensor.shape[1:] != tail:
        shape = ", ".join(map(str, ["B", *tail]))
        raise Problem(422, "VIT-202", f"{tensor.name}: expected {kind} of shape ({shape})")
    count = tensor.shape[0]
    if not 1 <= count <= most:
        raise Problem(413, "VIT-915", f"images in one request: {count}; expected 1 to {most}")
    if binary is not None and tensor.data is not None:
        raise malformed(f"{tensor.name}: data and binary_data_size are both given")
    if tensor.name == IMAGE:
        return _prepared(tensor, None if binary is None else rest)
    found = _strings(tensor.data) if binary is None else _elements(rest, count)
    if len(found) != count:
        raise malformed(f"{ENCODED}: {len(found)} elements, but the shape says {count}")
    return found


def _prepared(tensor: _Tensor, data: memoryview | None) -> list[NDArray[np.float32]]:
    number = math.prod(tensor.shape)
    try:
        flat = np.array(tensor.data) if data is None else np.frombuffer(data, "<f4")
    except ValueError:
        raise malformed(f"{IMAGE}: data is not a list of numbers") from None
    if flat.dtype.kind not in "fi" or (data is None and _has_boolean(tensor.data)):
        raise malformed(f"{IMAGE}: data is not a list of numbers")
    if flat.size != number:
        raise malformed(f"{IMAGE}: {flat.size} numbers, but the shape says {number}")
    if flat.ndim > 1 and list(flat.shape) != tensor.shape:
        raise malformed(f"{IMAGE}: data is nested as {[*flat.shape]}, but the shape says otherwise")
    with np.errstate(over="ignore"):
        images = flat.astype(np.float32, copy=False).reshape(tensor.shape)
    if not np.isfinite(images).all():
        raise Problem(422, "VIT-202", f"{IMAGE}: not all numbers are finite")
    return list(images)


def _has_boolean(data: list[Any]) -> bool:
    """Whether one stands among nested numbers, where an array would take it for 0 or 1."""
    kinds = set(map(type, data))
    return bool in kinds or (list in kinds and any(map(_has_boolean, data)))


def _strings(data: Any) -> list[bytes]:
    if not (isinstance(data, list) and all(isinstance(one, str) for one in data)):
        raise malformed(f"{ENCODED}: data is not a list of texts")
    return [from_base64(one) for one in data]


def _elements(data: memoryview, count: int) -> list[bytes]:
    """Elements that each have their length in four bytes before them."""
    found, at = list[bytes](), 0
    while at < len(data) and len(found) <= count:
        size = int.from_bytes(data[at : at + 4], "little")
        found.append(bytes(data[at + 4 : at + 4 + size]))
        at += 4 + size
    if at != len(data):
        raise malformed(f"{ENCODED}: an element is longer than the body")
    return found


def inference_body(
    asked: Inference, model: str, probabilities: NDArray[np.float32], labels: Sequence[str]
) -> tuple[bytes, int | None]:
    """The answer, and how long its JSON is where bytes follow. probabilities: (B, K)."""
    outputs, tail = [], b""
    for name, is_binary in asked.outputs.items():
        shape = [len(labels)] if name == LABEL else list(probabilities.shape)
        tensor: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": shape}
        if is_binary:
            data = _packed(labels) if name == LABEL else probabilities.astype("<f4").tobytes()
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            tensor["data"] = list(labels) if name == LABEL else probabilities.ravel().tolist()
        outputs.append(tensor)
    document = {"model_name": model, "outputs": outputs}
    if asked.id is not None:
        document["id"] = asked.id
    text = json.dumps(document).encode()
    return text + tail, len(text) if any(asked.outputs.values()) else None


def _packed(texts: Sequence[str]) -> bytes:
    data = [text.encode() for text in texts]
    return b"".join(len(one).to_bytes(4, "little") + one for one in data)
