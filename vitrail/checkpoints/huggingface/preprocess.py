"""transformers' `preprocessor_config.json` and our Preprocess.

Source: transformers 5.23 `image_processing_backends.py:PilBackend` and the processors' own
defaults. Its centre crop rounds the offset down; a resize to the shortest edge cuts the long side
to whole pixels. The scale of the pixels is part of mean and std here: (p * f - m) / s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET_MEAN, IMAGENET_STD
from vitrail.checkpoints.mapping.origin import cannot_hold
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.spelling import count

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
FILTERS: dict[int, Filter] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}  # Pillow's numbers
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SCALE = 1 / 255
Pair = tuple[int, int]


class ProcessorDefaults(NamedTuple):
    """Defaults of a processor. edge: px of the resize; is_square: whether a single number is both
    sides, or the shortest edge; crop: px, 0 for none.
    """

    resample: int
    stats: tuple[tuple[float, ...], tuple[float, ...]]
    edge: int
    is_square: bool
    crop: int


KINDS = {
    "ViT": ProcessorDefaults(2, HALF, 224, True, 0),
    "DeiT": ProcessorDefaults(3, HALF, 256, True, 224),
    "Bit": ProcessorDefaults(3, CLIP, 224, False, 224),
    "CLIP": ProcessorDefaults(3, CLIP, 224, False, 224),
    "Siglip": ProcessorDefaults(3, HALF, 224, True, 0),
    # Of the published models, whose processor is ViT's with other statistics.
    "ImageNet": ProcessorDefaults(2, (IMAGENET_MEAN, IMAGENET_STD), 224, True, 0),
}
# Processors whose own steps are others, whatever their settings say, and what these are.
OTHER_STEPS = {
    "ConvNext": "it crops by crop_pct",
    "PoolFormer": "it crops by crop_pct",
    "EfficientNet": "it divides by the deviation twice",
    "MobileViT": "it puts blue first",
    "Levit": "it resizes to 256 / 224 of the size",
    "Perceiver": "it crops in ratio before it resizes",
    "Idefics": "it takes images apart",
    "Flava": "it makes codebook pixels as well",
    "ImageGPT": "it makes clusters of colours",
}
# Settings that are followed, and those that change no pixel.
KNOWN = frozenset(
    """
    do_resize size resample do_center_crop crop_size do_rescale rescale_factor
    rescale_offset do_normalize image_mean image_std do_convert_rgb image_processor_type
    feature_extractor_type processor_class return_tensors data_format input_data_format
    device disable_grouping _valid_processor_keys auto_map do_reduce_labels num_channels
    default_to_square
    """.split()
)
FLAGS = ("rescale_offset", "default_to_square")
NUMBERS = ("resample", "rescale_factor", "image_mean", "image_std", "size", "crop_size")
KIND_OF_MODEL = {
    "vit": "ViT",
    "deit": "DeiT",
    "siglip": "Siglip",
    "siglip_vision_model": "Siglip",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "vit_msn": "ImageNet",
    "vit_mae": "ImageNet",
    "ijepa": "ImageNet",
}


def read_preprocess(
    name: str, settings: Mapping[str, Any] | None, model_type: str, size: Pair, channels: int
) -> tuple[Preprocess, list[str]]:
    """The preprocessing of a folder, and a sentence for each thing that is assumed or changed.

    settings: of preprocessor_config.json, None where there is none; size: (height, width) px of the
    model. Raises ModelError VIT-418 for settings that cannot be read.
    """
    values = {key: value for key, value in (settings or {}).items() if value is not None}
    kind = _kind(values, model_type) if settings is not None else _published(model_type)
    notes = _check_keys(name, values)
    try:
        _check_flags(values)
        resize, crop = _resize(values, kind), _crop(values, kind)
        resize, note = _fitted(resize, crop, size) if settings is not None else (size, "")
        mean, std = _stats(values, kind, channels)
        preprocess = Preprocess(
            height=size[0],
            width=size[1],
            resize=resize,
            crop="none" if resize == size else "center_floor",
            interpolation=filter_of(values.get("resample", kind.resample)),
            mean=mean,
            std=std,
        )
    except ValidationError as error:
        found = [": ".join([*map(str, item["loc"][:1]), item["msg"]]) for item in error.errors()]
        raise unreadable(name, "; ".join(found)) from error
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = str(error) if isinstance(error, ValueError) else repr(error)
        raise unreadable(name, what) from error
    return preprocess, notes + ([note] if note else [])


def _check_flags(values: Mapping[str, Any]) -> None:
    """Raises ValueError for a switch that is neither true nor false, and truth for a number."""
    for key, value in values.items():
        is_flag = key in KNOWN and (key.startswith("do_") or key in FLAGS)
        is_number = key in NUMBERS
        if (is_flag or is_number) and is_flag is not isinstance(value, bool):
            raise ValueError(f"{key} is {str(value)[:60]!r}")


def _check_keys(name: str, values: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting that is not followed. Raises ModelError VIT-418 for a step that
    changes the pixels in another way.
    """
    steps = [key for key, value in values.items() if key not in KNOWN and _is_step(key, value)]
    if steps:
        raise unreadable(name, f"{', '.join(steps)} is not supported: it makes other pixels")
    others = [key for key, value in values.items() if key not in KNOWN and value not in (False, {})]
    notes = [f"{key} of preprocessor_config.json is not followed" for key in others]
    stated = _processor(values)
    if stated in OTHER_STEPS:
        raise unreadable(
            name, f"it is of a {stated} processor: {OTHER_STEPS[stated]}, which is not supported"
        )
    if values.get("rescale_offset") and values.get("do_rescale") is not False:
        notes.append("rescale_offset of preprocessor_config.json is followed: pixels from -1 to 1")
    if stated and stated not in KINDS:
        notes.append(f"the processor {stated} is not known: what it leaves out is as usual")
    return notes


def _is_step(key: str, value: object) -> bool:
    """Whether a setting asks for a step beside resize, crop, rescale and normalize."""
    return value is True and (key.startswith("do_") or key in ("include_top",))


def filter_of(value: Any) -> Filter:
    """By Pillow's number or its name. Raises ValueError."""
    names: dict[str, Filter] = {name: name for name in FILTERS.values()}
    plain = FILTERS.get(value) if isinstance(value, int) else None
    found = names.get(value.lower()) if isinstance(value, str) else plain
    if found is None:
        known = ", ".join(f"{number} ({text})" for number, text in FILTERS.items())
        raise ValueError(f"resample is {value!r}; known: {known}")
    return found


def _published(model_type: str) -> ProcessorDefaults:
    """Where a folder has no preprocessor_config.json: as the published models of the type."""
    kind = KINDS[KIND_OF_MODEL.get(model_type, "Bit")]
    is_facebook = model_type.startswith(("deit", "dinov2"))
    return kind._replace(stats=(IMAGENET_MEAN, IMAGENET_STD)) if is_facebook else kind


def write_preprocess(preprocess: Preprocess) -> tuple[dict[str, Any], list[str]]:
    """The object of preprocessor_config.json, and a sentence for each thing that it cannot say.

    Raises ModelError VIT-417.
    """
    p = preprocess
    notes: list[str] = []
    values: dict[str, Any]
    if p.is_variable:
        code = next(code for code, text in FILTERS.items() if text == p.interpolation)
        values = {"resample": code}
        return values | _written_scale(p), notes
    size = {"height": p.height, "width": p.width}
    values = {"do_resize": True, "size": size, "do_center_crop": False}
    if isinstance(p.resize, int):
        kind = "Bit"
        values |= {"size": {"shortest_edge": p.resize}, "do_center_crop": True, "crop_size": size}
        if p.height != p.width:
            why = f"{p.height} x {p.width} px images are not square, and are cut from a resized one"
            raise cannot_hold("huggingface", why)
    else:
        kind = "ViT" if p.crop == "none" else "DeiT"
        values["size"] = {"height": p.resize[0], "width": p.resize[1]}
        if p.crop != "none":
            values |= {"do_center_crop": True, "crop_size": size}
    if p.crop == "center" and (isinstance(p.resize, int) or _has_half(p.resize, size)):
        notes.append(
            "transformers rounds the centre crop down: a crop in the middle of an odd number of "
            "pixels may start one pixel earlier"
        )
    if p.resizer != "pillow":
        notes.append("transformers resizes with Pillow, not with TensorFlow's function")
    if p.channels == 1:
        notes.append("its pipelines give RGB: give the processor images in mode L")
    codes: dict[str, int] = {"area": 2} | {text: code for code, text in FILTERS.items()}
    values |= {
        "resample": codes[p.interpolation],
        **_written_scale(p),
        "image_processor_type": f"{kind}ImageProcessor",
    }
    return values, notes


def _written_scale(p: Preprocess) -> dict[str, Any]:
    return {
        "do_rescale": True,
        "rescale_factor": SCALE,
        "do_normalize": True,
        "image_mean": list(p.mean),
        "image_std": list(p.std),
        "do_convert_rgb": True if p.channels == 3 else None,
    }


def unreadable(name: str, what: str) -> ModelError:
    """VIT-418 for a processor's settings."""
    return ModelError(
        "VIT-418",
        f"{name}: preprocessor_config.json cannot be read: {what}.",
        hint="Correct the file, or remove it to get the defaults of the family.",
    )


def _processor(values: Mapping[str, Any]) -> str:
    """Its name without what all of them end in."""
    stated = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    for ending in ("ImageProcessorFast", "ImageProcessor", "FeatureExtractor"):
        stated = stated.removesuffix(ending)
    return stated


def _kind(values: Mapping[str, Any], model_type: str) -> ProcessorDefaults:
    return KINDS.get(_processor(values)) or KINDS[KIND_OF_MODEL.get(model_type, "Bit")]


def stats_of(
    values: Mapping[str, Any], kind: str, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by a processor's settings; kind: whose defaults it has."""
    return _stats(values, KINDS[kind], channels)


def _resize(values: Mapping[str, Any], kind: ProcessorDefaults) -> int | Pair | None:
    """Shortest edge, (height, width), or None where images are not resized."""
    if values.get("do_resize") is False:
        return None
    size = values.get("size", kind.edge)
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return _px(size["shortest_edge"])
    if isinstance(size, Mapping):
        return _sides("size", size)
    is_square = values.get("default_to_square", kind.is_square)
    return (_px(size), _px(size)) if is_square else _px(size)


def _crop(values: Mapping[str, Any], kind: ProcessorDefaults) -> Pair | None:
    if not values.get("do_center_crop", bool(kind.crop)):
        return None
    size = values.get("crop_size", kind.crop)
    if isinstance(size, Mapping):
        return _sides("crop_size", size)
    return _px(size), _px(size)


def _sides(key: str, size: Mapping[str, Any]) -> Pair:
    """Height and width. Raises ValueError where it has others."""
    if {"height", "width"} != set(size):
        raise ValueError(
            f"{key} has {', '.join(map(str, size)) or 'nothing'}; expected height and width"
        )
    return _px(size["height"]), _px(size["width"])


def _px(value: Any) -> int:
    """A side. Raises ValueError."""
    if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
        raise ValueError(f"a side of {str(value)[:60]} px")
    return int(value)


def _stats(
    values: Mapping[str, Any], kind: ProcessorDefaults, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels in 0..1, with the processor's own scale in them."""
    mean, std = (usual[:channels] for usual in kind.stats)
    mean = _floats("image_mean", values.get("image_mean", mean), channels)
    std = _floats("image_std", values.get("image_std", std), channels)
    if values.get("do_normalize") is False:
        mean, std = (0.0,) * channels, (1.0,) * channels
    is_rescaled = values.get("do_rescale") is not False
    if is_rescaled and values.get("rescale_offset"):  # pixels * factor - 1, before mean and std
        mean = tuple(value + 1 for value in mean)
    factor = float(values.get("rescale_factor", SCALE)) if is_rescaled else 1.0
    if not factor > 0:
        raise ValueError(f"rescale_factor is {factor:g}")
    scale = SCALE / factor
    if abs(scale - 1) < 1e-9:
        return mean, std
    return tuple(value * scale for value in mean), tuple(value * scale for value in std)


def _floats(key: str, value: Any, channels: int) -> tuple[float, ...]:
    """A value a channel. Raises ValueError for another number of them, or what is no number."""
    given = value if isinstance(value, list | tuple) else [value]
    if any(type(item) not in (int, float) for item in given):
        raise ValueError(f"{key} is {str(value)[:60]!r}")
    found = tuple(map(float, given))
    if len(found) == 1 or channels == 1 and len(set(found)) == 1:
        return found[:1] * channels
    if len(found) != channels:
        raise ValueError(f"{key} has {len(found)} values for {count(channels, 'channel')}")
    return found


def _fitted(resize: int | Pair | None, crop: Pair | None, size: Pair) -> tuple[int | Pair, str]:
    """The resize for a model of this size, and what had to be changed."""
    if resize is None or isinstance(resize, int) and crop is None:
        return size, "the processor leaves images in their shape: here squashed to the model's"
    made = crop or resize
    assert isinstance(made, tuple)
    sides = (resize, resize) if isinstance(resize, int) else resize
    if sides[0] < made[0] or sides[1] < made[1]:
        return size, f"the processor pads images of {sides} px to {made}: here squashed"
    if made == size:
        return resize, ""
    note = f"the processor makes images of {made} px, the model takes {size}: enlarged in ratio"
    if isinstance(resize, int):
        return round(resize * max(size[0] / made[0], size[1] / made[1])), note
    return (round(sides[0] * size[0] / made[0]), round(sides[1] * size[1] / made[1])), note


def _has_half(resize: Pair, size: Mapping[str, int]) -> bool:
    """Whether halves round up: an odd number of pixels is left, 3 more than a multiple of 4."""
    return any(
        (have - need) % 4 == 3
        for have, need in zip(resize, (size["height"], size["width"]), strict=True)
    )
