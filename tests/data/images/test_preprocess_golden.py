"""Preprocessing of eight libraries, pixel for pixel: golden tensors, as each made them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.golden.case import CASES, read_case
from vitrail.data.images.preprocess import Preprocess, short_side

PICTURES = CASES / "preprocess_pil"
# vision_transformer computes (x - 127.5) / 127.5, we (x / 255 - 0.5) / 0.5: the last bit differs.
# Of all others every bit is equal.
VT_TOLERANCE = 6e-8
TENSORFLOW: dict[str, Any] = {
    "height": 64,
    "width": 64,
    "resize": (64, 64),
    "interpolation": "bilinear",
    "resizer": "tensorflow",
}
# By the text of the golden item.
RULES: dict[str, dict[str, Any]] = {
    "big_vision pp: resize_small(72)|central_crop(64)|value_range(-1, 1)": {
        "resize": 72,
        "crop": "center_floor",
        "interpolation": "area",
    },
    "big_vision pp: resize(64)|value_range(-1, 1)": {"antialias": False},
    'big_vision pp: resize(64, method="bilinear", antialias=True)|value_range(-1, 1)': {},
    "vision_transformer eval: tf.image.resize(image, [64, 64]) (bilinear, no antialias, float "
    "result), (x - 127.5) / 127.5": {"antialias": False, "keep_floats": True},
}


def rule_of(name: str, record: dict[str, Any]) -> Preprocess:
    """Our record for one rule of the case `preprocess_pil`."""
    normalised = {"mean": [0.5] * 3, "std": [0.5] * 3}
    if name.startswith("hf"):
        settings = record["settings"]
        cropped = settings.get("do_center_crop", False)
        size, wanted = settings["crop_size" if cropped else "size"], settings["size"]
        short = wanted.get("shortest_edge")
        return Preprocess.from_json(
            {
                "height": size["height"],
                "width": size["width"],
                "resize": short or [wanted["height"], wanted["width"]],
                "crop": "center_floor" if cropped else "none",
                "interpolation": {2: "bilinear", 3: "bicubic"}[settings["resample"]],
                "mean": settings["image_mean"],
                "std": settings["image_std"],
            }
        )
    squash = name == "big_transfer" or record.get("crop_mode") == "squash"
    resize: int | list[int]
    if name == "big_transfer":
        size, resize = [record["size"]] * 2, [record["size"]] * 2
    elif name.startswith("timm"):
        size = record["size"]
        resize = size if squash else short_side(min(size), record["crop_pct"])
    else:
        size, resize = [record["crop_size"]] * 2, record["resize_size"]
    return Preprocess.from_json(
        {
            "height": size[0],
            "width": size[1],
            "resize": resize,
            "crop": "none" if squash else "center",
            "interpolation": record.get("interpolation", "bilinear"),
        }
        | {key: record.get(key, normalised[key]) for key in normalised}
    )


def test_golden_tensors_of_five_libraries() -> None:
    case = read_case("preprocess_pil")
    for key, expected in case.arrays.items():
        picture, name = key.split("__")
        rule = rule_of(name, case.record["rules"][name])
        error = float((rule(PICTURES / f"{picture}.png") - expected).abs().max())
        assert error == 0, (key, error)
    assert len(case.arrays) == 33


def test_golden_tensors_of_googles_repositories() -> None:
    case = read_case("preprocess_tf")
    for item in case.record["items"]:
        rule = Preprocess.model_validate(TENSORFLOW | RULES[item["rule"]])
        error = float((rule(PICTURES / item["image"]) - case.arrays[item["key"]]).abs().max())
        assert error <= (VT_TOLERANCE if rule.keep_floats else 0), (item, error)
    assert len(case.record["items"]) == 12


@pytest.mark.parametrize("text", sorted(RULES))
def test_negative_control_pillow_in_place_of_tensorflow(text: str) -> None:
    """The nearest rule that Pillow has: at most a grey level or two where both are antialiased."""
    case = read_case("preprocess_tf")
    values = {"antialias": True, "keep_floats": False, "resizer": "pillow"}
    rule = Preprocess.model_validate(
        TENSORFLOW | RULES[text] | values | {"interpolation": "bilinear"}
    )
    for item in (item for item in case.record["items"] if item["rule"] == text):
        error = float((rule(PICTURES / item["image"]) - case.arrays[item["key"]]).abs().max())
        assert error > 0.005, item
