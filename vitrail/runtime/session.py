"""A file that vitrail wrote, in an engine: pixels in, logits and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import EnvironmentFault, ModelError, lacking
from vitrail.spelling import count

INPUT, OUTPUTS = "image", ("logits", "probabilities")
EXTERNAL = b"\x0a\x08location"  # in a protobuf: the key of a tensor whose data lies elsewhere
Floats = NDArray[np.float32]
Size = tuple[int, int, int]


class Session(Protocol):
    """threads: that compute one batch; input_size: channels, height and width in px; sha256: of the
    file.
    """

    engine: str
    version: str
    threads: int
    input_size: Size
    sha256: str

    def __call__(self, pixels: Floats) -> tuple[Floats, Floats]: ...


def refuse_external(content: bytes, name: str) -> None:
    """Raise ModelError VIT-471 for a file that makes the engine open others."""
    if EXTERNAL in content:
        raise damaged(name, "it refers to data in another file")


def checked_size(
    name: str,
    names: tuple[Sequence[str], Sequence[str]],
    kind: str,
    shape: Sequence[int | str | None],
) -> Size:
    """Channels, height and width of the input `shape`, of which the first is no number: any number
    of images. names: of inputs and outputs; kind: of the input's numbers.

    Raises ModelError VIT-471 where a file is otherwise.
    """
    if (list(names[0]), list(names[1])) != ([INPUT], list(OUTPUTS)):
        raise damaged(name, f"its inputs and outputs are {names}")
    if kind != "float32" or len(shape) != 4:
        raise damaged(name, f"it takes {kind} of shape {list(shape)}")
    if isinstance(shape[0], int):
        raise damaged(
            name, f"it takes {count(int(shape[0]), 'image')} at a time and no other number"
        )
    sizes = [one for one in shape[1:] if isinstance(one, int)]
    if len(sizes) != 3:
        raise damaged(name, f"it takes images of any size: {list(shape)}")
    return sizes[0], sizes[1], sizes[2]


def missing(package: str, extra: str) -> EnvironmentFault:
    """VIT-520 for an engine that is not installed."""
    return lacking("computing an exported file", package, extra)


def broken(package: str, why: str) -> EnvironmentFault:
    """VIT-525 for an engine that is installed and cannot be used."""
    return EnvironmentFault(
        "VIT-525",
        f"the package {package} is installed but {why}",
        hint=f"Install it again: pip install --upgrade --force-reinstall {package}",
    )


def require_version(package: str, found: str, least: tuple[int, int]) -> None:
    """Raise EnvironmentFault VIT-525 for a version below `least`."""
    numbers = [int(one) for one in found.split("-")[0].split(".")[:2] if one.isdigit()]
    if tuple(numbers) < least:
        raise broken(package, f"too old: {found}; expected {least[0]}.{least[1]} or newer.")


def damaged(name: str, why: str) -> ModelError:
    """VIT-471 for the file `name`."""
    return ModelError(
        "VIT-471",
        f"{name} is not as vitrail wrote it: {why}.",
        hint="Copy it again, or export it again: vitrail export MODEL OUT --to onnx",
    )
