"""A picture from its file to its explanation: decode, preprocess, explain, back to its own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitrail.data.decode import MAX_PIXELS, Pixels, exif_turn, read_picture, rgb_pixels
from vitrail.data.preprocess import Preprocess
from vitrail.explain.explanation import Explanation
from vitrail.explain.maps import Array, Request
from vitrail.explain.methods import checked, explain
from vitrail.explain.placing import resized, to_picture
from vitrail.models.create import Model

Picture = str | Path | bytes | Image.Image | Pixels


def pixels_of(picture: Picture, max_pixels: int = MAX_PIXELS) -> Pixels:
    """uint8 (H, W, 1 or 3) of a path, the bytes of a file, a Pillow picture or pixels.

    Raises DecodeFault (VIT-330) for a file that cannot be decoded.
    """
    if isinstance(picture, np.ndarray):
        return picture[:, :, None] if picture.ndim == 2 else picture
    if isinstance(picture, Image.Image):
        return exif_turn(rgb_pixels(picture), picture)
    return read_picture(
        Path(picture) if isinstance(picture, str) else picture, max_pixels=max_pixels
    )


def input_of(model: Model, preprocess: Preprocess, pixels: Pixels) -> torch.Tensor:
    """What the model is shown: (1, C, H, W), on its device and in its precision."""
    like = next(model.parameters())
    return preprocess(pixels)[None].to(like.device, like.dtype)


def explain_picture(
    model: Model, preprocess: Preprocess, picture: Picture, request: Request
) -> tuple[Explanation, Array]:
    """The explanation, without the names of classes, and the logits (K,).

    Raises as `methods.explain`; DecodeFault VIT-330, DataError VIT-328 for the picture.
    """
    request = checked(model, request)
    pixels = pixels_of(picture)
    maps = explain(model, input_of(model, preprocess, pixels), request)
    values = resized(maps.grid, (preprocess.height, preprocess.width))
    explanation = Explanation(
        source=str(picture) if isinstance(picture, str | Path) else "",
        method=request.method,
        picture=pixels,
        preprocess=preprocess,
        map=to_picture(values, preprocess, pixels.shape[:2]),
        grid=maps.grid,
        layers=maps.layers,
        target=maps.target,
        facts=maps.facts,
        matrix=maps.matrix,
    )
    return explanation, maps.logits
