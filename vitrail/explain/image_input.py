"""An image from its file to its explanation: decode, preprocess, explain, back to its own size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitrail.data.images.decode import MAX_PIXELS, read_image
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.rgb import Pixels, exif_turn, rgb_pixels
from vitrail.device import sent
from vitrail.errors import UsageError, nearest
from vitrail.explain.explanation import Explanation
from vitrail.explain.methods.maps import Array, Request
from vitrail.explain.methods.pixels import seen_size
from vitrail.explain.methods.registry import checked, explain
from vitrail.explain.placing import on_input, to_image
from vitrail.models.create import Model

Picture = str | os.PathLike[str] | bytes | Image.Image | Pixels


def class_index(classes: Sequence[str], target: str | int | None) -> int | None:
    """The index of a class given by name or index. Raises UsageError VIT-276 for another name."""
    if target is None or isinstance(target, int):
        return target
    if target in classes:
        return classes.index(target)
    if target.isdecimal():
        return int(target)
    known = nearest(target, classes) if classes else "The model does not know its classes by name."
    raise UsageError(
        "VIT-276", f"unknown class {target!r}. {known}", hint="Give a name or an index."
    )


def pixels_of(image: Picture, max_pixels: int = MAX_PIXELS) -> Pixels:
    """uint8 (H, W, 1 or 3) of a path, the bytes of a file, a Pillow image or pixels.

    Raises DecodeFault (VIT-330) for a file that cannot be decoded.
    """
    if isinstance(image, np.ndarray):
        return image[:, :, None] if image.ndim == 2 else image
    if isinstance(image, Image.Image):
        return exif_turn(rgb_pixels(image), image)
    source = image if isinstance(image, bytes) else Path(image)
    return read_image(source, max_pixels=max_pixels)


def input_of(model: Model, preprocess: Preprocess, pixels: Pixels) -> torch.Tensor:
    """What the model is shown: (1, C, H, W), on its device and in its precision; of a model of
    variable resolution the image before it is packed.
    """
    like = next(model.parameters())
    return sent(torch.from_numpy(preprocess.planes(pixels))[None].to(like.dtype), like.device)


def explain_image(
    model: Model, preprocess: Preprocess, picture: Picture, request: Request
) -> tuple[Explanation, Array]:
    """The explanation, without the names of classes, and the logits (K,).

    Raises as `methods.explain`; DecodeFault VIT-330, DataError VIT-328 for the image.
    """
    request = checked(model, request)
    pixels = pixels_of(picture)
    source = os.fspath(picture) if isinstance(picture, str | os.PathLike) else ""
    image = input_of(model, preprocess, pixels)
    return explain_input(model, preprocess, image, pixels, request, source)


def explain_input(
    model: Model,
    preprocess: Preprocess,
    image: torch.Tensor,
    pixels: Pixels,
    request: Request,
    source: str = "",
) -> tuple[Explanation, Array]:
    """As `explain_image` of an image that is prepared, (1, C, H, W); pixels: the same image, of any
    size, which the map is placed on.
    """
    request = checked(model, request)
    maps = explain(model, image, request)
    size = (image.shape[2], image.shape[3])
    area = seen_size(model, size)
    values = on_input(maps.grid, area, size)
    explanation = Explanation(
        source=source,
        method=request.method,
        picture=pixels,
        preprocess=preprocess,
        map=to_image(values, preprocess, pixels.shape[:2]),
        grid=maps.grid,
        layers=maps.layers,
        target=maps.target,
        facts=maps.facts,
        matrix=maps.matrix,
        groups=maps.groups,
        area=area,
    )
    return explanation, maps.logits
