"""What a checkpoint of other people may hold before any of it is believed (promises M1 to M3).

Every reader calls `check_header` when it knows names, types and shapes, and before it allocates.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.errors import ModelError
from vitrail.spelling import count

MAX_TENSORS = 50_000  # ViT-22B in 100 shards has some thousand
MAX_NAME = 1_000  # characters
MAX_DIMS = 8
MAX_JSON_BYTES = 16 * 2**20  # of a header, an index or a config; the largest seen have 2 MB
ITEM_BYTES = {  # names as safetensors has them
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "C64": 8,
}
FLOATS = ("F32", "F16", "BF16", "F64")


def damaged(name: str, why: str) -> ModelError:
    """VIT-412: the file contradicts itself or ends too early."""
    return ModelError("VIT-412", f"{name} is damaged: {why}.", hint="Get the file again.")


def too_much(name: str, what: str, limit: str = "") -> ModelError:
    """VIT-411: more than any model of a sane size."""
    return ModelError(
        "VIT-411",
        f"{name} has {what}; limit {limit}." if limit else f"{name} has {what}.",
        hint="This is no checkpoint of an image model, or it is damaged.",
    )


def check_count(name: str, number: int) -> None:
    """Raise ModelError VIT-411 above MAX_TENSORS."""
    if number > MAX_TENSORS:
        raise too_much(name, count(number, "tensor"), f"{MAX_TENSORS:,}")


def check_header(
    name: str, shapes: Mapping[str, Shape], dtypes: Mapping[str, str], max_bytes: int
) -> None:
    """Raise ModelError VIT-411 for names, shapes or a size that cannot be meant, VIT-412 for types
    that nobody knows.
    """
    check_count(name, len(shapes))
    if not shapes:
        raise damaged(name, "it holds no tensor")
    total = 0
    for key, shape in shapes.items():
        if len(key) > MAX_NAME:
            raise too_much(name, f"a tensor name of {len(key)} characters", f"{MAX_NAME}")
        if len(shape) > MAX_DIMS:
            raise too_much(
                name, f"{shown(key)} with {count(len(shape), 'dimension')}", f"{MAX_DIMS}"
            )
        if dtypes[key] not in ITEM_BYTES:
            raise damaged(name, f"{shown(key)} has numbers of type {dtypes[key][:40]!r}")
        total += num_bytes(dtypes[key], shape)
        if total > max_bytes:
            raise too_much(name, f"{total} bytes of tensors (up to {shown(key)})", f"{max_bytes}")


def num_bytes(dtype: str, shape: Shape) -> int:
    """Bytes of a tensor; exact, whatever the numbers."""
    return prod(shape) * ITEM_BYTES[dtype]


def check_float(header: Header, key: str) -> None:
    """Raise ModelError VIT-412 where a tensor does not hold floating-point numbers."""
    if header.dtypes[key] not in FLOATS:
        raise ModelError(
            "VIT-412",
            f"{header.name}: {shown(key)} holds numbers of type {header.dtypes[key]}; expected "
            f"{', '.join(FLOATS)}.",
            hint="Quantised weights cannot be read: get the model in float32, float16 or bfloat16.",
        )


def shown(key: str) -> str:
    """A tensor name for a message: its first 100 characters."""
    return key if len(key) <= 100 else key[:100] + "..."
