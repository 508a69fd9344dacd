"""SigLIP2 NaFlex of transformers: what differs from SigLIP's image tower of one size.

Source: transformers 5.23 `models/siglip2`. Its patches are a linear layer on flattened patches,
rows, then columns, then channels; its position table is a square of `num_patches` rows, resized to
each image (bilinear, antialiased); the processor keeps the aspect ratio within `max_num_patches`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vitrail.checkpoints.huggingface.preprocess import filter_of, stats_of, unreadable
from vitrail.checkpoints.mapping.evaluation_crops import variable_preprocess
from vitrail.checkpoints.mapping.rules import Header
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

NAFLEX = ("siglip2", "siglip2_vision_model")
PATCH, ROWS, MOST = 16, 256, 256  # defaults of transformers' classes


def naflex_fields(
    header: Header, found: Mapping[str, Any], columns: int, settings: object
) -> dict[str, Any]:
    """Patch, channels, table and budget. found: of config.json; columns: of the patches' matrix;
    settings: of preprocessor_config.json. Raises ModelError VIT-418.
    """
    patch, rows = found.get("patch_size", PATCH), found.get("num_patches", ROWS)
    given = settings if isinstance(settings, Mapping) else {}
    most = given.get("max_num_patches", MOST)
    for name, value in (("patch_size", patch), ("num_patches", rows), ("max_num_patches", most)):
        if type(value) is not int or not 0 < value <= 65_536:
            raise _cannot_be(header, f"{name} is {str(value)[:40]!r}")
    side = math.isqrt(rows)
    if side * side != rows:
        raise _cannot_be(header, f"num_patches {rows} is no square")
    if columns % (patch * patch):
        raise _cannot_be(header, f"patches of {patch} px do not make {columns} numbers")
    return {
        "image_size": (side * patch, side * patch),
        "patch_size": (patch, patch),
        "channels": columns // (patch * patch),
        "max_patches": most,
        "posemb_resize": "bilinear",
    }


def read_naflex_preprocess(
    name: str, settings: Mapping[str, Any] | None, config: ViTConfig
) -> tuple[Preprocess, list[str]]:
    """The processor's resize, scale, mean and deviation, and what was assumed.

    Raises ModelError VIT-418 for settings that cannot be followed.
    """
    values = {key: value for key, value in (settings or {}).items() if value is not None}
    if values.get("do_resize") is False:
        raise unreadable(name, "do_resize=false is not supported: images would have any size")
    patch = values.get("patch_size", config.patch_size[0])
    if (patch, patch) != config.patch_size:
        raise unreadable(name, f"patch_size is {str(patch)[:40]}, of the model {config.patch_size}")
    try:
        mean, std = stats_of(values, "Siglip", config.channels)
        filter_ = filter_of(values.get("resample", 2))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise unreadable(name, repr(error)) from error
    notes = [] if settings else ["no preprocessor_config.json: the processor's own defaults"]
    return variable_preprocess(config, filter_, mean, std), notes


def written_naflex(config: ViTConfig) -> dict[str, Any]:
    """Keys of config.json that take the place of image_size."""
    return {"num_patches": config.num_patches}


def written_processor(preprocess: Preprocess) -> dict[str, Any]:
    """Keys of preprocessor_config.json that take the place of sizes."""
    assert preprocess.patch_size is not None
    return {
        "do_resize": True,
        "patch_size": preprocess.patch_size[0],
        "max_num_patches": preprocess.max_patches,
        "image_processor_type": "Siglip2ImageProcessor",
    }


def _cannot_be(header: Header, what: str) -> ModelError:
    return ModelError(
        "VIT-418",
        f"{header.name}: {what}, which is no SigLIP2 NaFlex.",
        hint="The folder's config.json or preprocessor_config.json is damaged.",
    )
