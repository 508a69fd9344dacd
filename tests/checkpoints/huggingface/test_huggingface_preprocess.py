"""preprocessor_config.json: the golden tensors, every way of stating sizes, both directions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints.golden_case import CASES
from vitrail.checkpoints.huggingface.preprocess import read_preprocess, write_preprocess
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError

RULES = ("hf_vit", "hf_vit_bicubic", "hf_bit", "hf_deit")
PICTURES = ("china_a", "flower_a", "china_b")
SIZE = (64, 64)


def read(
    settings: dict[str, Any] | None,
    model_type: str = "vit",
    size: tuple[int, int] = SIZE,
    channels: int = 3,
) -> tuple[Preprocess, list[str]]:
    return read_preprocess("folder", settings, model_type, size, channels)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("picture", PICTURES)
def test_golden(rule: str, picture: str) -> None:
    """The settings of each processor make its tensor, and so do those written for it."""
    folder = CASES / "preprocess_pil"
    settings = json.loads((folder / "case.json").read_text())["rules"][rule]["settings"]
    with np.load(folder / "io.npz", allow_pickle=False) as file:
        expected = torch.from_numpy(file[f"{picture}__{rule}"])
    size = tuple(expected.shape[1:])
    preprocess, notes = read(settings, size=(size[0], size[1]))
    assert not notes
    found = preprocess(folder / f"{picture}.png")
    assert (found - expected).abs().max() <= 1e-6
    written, lost = write_preprocess(preprocess)
    assert not lost
    assert {key: settings[key] for key in settings if key != "do_convert_rgb"} == {
        key: written[key] for key in settings if key != "do_convert_rgb"
    }
    assert read(written, size=(size[0], size[1]))[0] == preprocess


def test_negative_control() -> None:
    """The crop rounded to the nearest, and another filter, give other tensors."""
    folder = CASES / "preprocess_pil"
    settings = json.loads((folder / "case.json").read_text())["rules"]["hf_bit"]["settings"]
    with np.load(folder / "io.npz", allow_pickle=False) as file:
        expected = torch.from_numpy(file["china_b__hf_bit"])
    preprocess, _ = read(settings)
    other = preprocess.model_copy(update={"interpolation": "bilinear"})
    assert (other(folder / "china_b.png") - expected).abs().max() > 0.01


@pytest.mark.parametrize(
    ("settings", "resize", "crop", "num_notes"),
    [
        ({}, (224, 224), "none", 1),  # the class's own 224 px for a model of 64
        ({"size": 64}, (64, 64), "none", 0),
        ({"size": {"height": 64, "width": 64}}, (64, 64), "none", 0),
        ({"size": 73, "crop_size": 64, "do_center_crop": True}, (73, 73), "center_floor", 0),
        ({"size": 73, "feature_extractor_type": "BitFeatureExtractor", "crop_size": 64}, 73, "", 0),
        ({"size": 73, "image_processor_type": "BitImageProcessorFast", "crop_size": 64}, 73, "", 0),
        ({"size": {"shortest_edge": 64}}, (64, 64), "none", 1),  # no crop: any shape
        ({"do_resize": False}, (64, 64), "none", 1),
        ({"size": 32, "crop_size": 64, "do_center_crop": True}, (64, 64), "none", 1),  # padded
        ({"size": 256, "crop_size": 224, "do_center_crop": True}, (73, 73), "center_floor", 1),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}, 73, "", 1),
    ],
)
def test_sizes(settings: dict[str, Any], resize: Any, crop: str, num_notes: int) -> None:
    preprocess, notes = read(settings)
    if settings == {}:
        resize = (64, 64)
    assert preprocess.resize == resize
    assert preprocess.crop == (crop or "center_floor")
    assert len(notes) == num_notes


def test_defaults_of_the_family() -> None:
    for model_type, interpolation in {"vit": "bilinear", "siglip": "bicubic"}.items():
        preprocess, notes = read(None, model_type)
        assert (preprocess.resize, preprocess.interpolation) == (SIZE, interpolation)
        assert not notes
    kind = {"image_processor_type": "CLIPImageProcessor", "size": 64, "crop_size": 64}
    assert read(kind)[0].mean[0] == 0.48145466


@pytest.mark.promise("M8")
def test_an_offset_of_the_rescaling_is_followed() -> None:
    """EfficientNet's processor: pixels * factor - 1, then mean and std (transformers#28180)."""
    base = {"size": 64, "rescale_factor": 1 / 127.5, "image_mean": [0.2], "image_std": [0.4]}
    found, _ = read(base | {"rescale_offset": True})
    pixels = torch.arange(0.0, 256.0, 17.0)
    expected = ((pixels / 127.5 - 1) - 0.2) / 0.4
    ours = (pixels / 255 - found.mean[0]) / found.std[0]
    assert torch.allclose(ours, expected, atol=1e-6)
    assert read(base)[0].mean != found.mean


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order is not supported"),
        ({"include_top": True}, "include_top is not supported"),
        ({"do_pad": True}, "do_pad is not supported"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "it crops by crop_pct"),
        ({"size": {"shortest_edge": 64, "longest_edge": 99}}, "expected height and width"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"image_std": [0.5, 0, 0.5]}, "std must be above 0"),
        ({"resample": "cubic"}, "resample is 'cubic'; known: 0 (nearest)"),
        ({"resample": 4}, "resample is 4; known: 0 (nearest)"),
    ],
)
def test_a_step_that_changes_pixels_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read({"size": 64} | settings)
    assert (caught.value.code, words in caught.value.message) == ("VIT-418", True)
    assert "Error(" not in caught.value.message


@pytest.mark.promise("M8")
def test_other_settings_are_noted() -> None:
    _, notes = read({"size": 64, "crop_pct": 0.875, "do_pad": False, "resample": "bicubic"})
    assert notes == ["crop_pct of preprocessor_config.json is not followed"]
    _, notes = read({"size": 64, "image_processor_type": "BeitImageProcessor"})
    assert "Beit" in notes[0]
    for settings in ({"size": 64, "resample": None}, {"size": 64}):
        assert read(settings)[0].interpolation == "bilinear"


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"image_mean": 0.25, "image_std": [0.5]}, (0.25,) * 3, (0.5,) * 3),
        ({"do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
        ({"rescale_factor": 1 / 127.5}, (0.25,) * 3, (0.25,) * 3),
        ({"do_rescale": False}, (0.5 / 255,) * 3, (0.5 / 255,) * 3),
    ],
)
def test_scale_of_the_pixels(settings: dict[str, Any], mean: Any, std: Any) -> None:
    """(p * f - m) / s is (p / 255 - m') / s'."""
    preprocess, _ = read({"size": 64, **settings})
    assert preprocess.mean == pytest.approx(mean)
    assert preprocess.std == pytest.approx(std)


def test_gray() -> None:
    preprocess, _ = read({"size": 64, "image_mean": [0.1], "image_std": [0.3]}, channels=1)
    assert preprocess.channels == 1
    written, notes = write_preprocess(preprocess)
    assert written["do_convert_rgb"] is None
    assert "RGB" in notes[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"resample": 4},
        {"resample": "cubic"},
        {"size": {"longest_edge": 64}},
        {"size": "large"},
        {"size": [64]},
        {"image_mean": ["a"]},
        {"rescale_factor": 0},
        {"image_std": [0.0, 0.5, 0.5]},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": [0.5, 0.4, 0.3, 0.2]},
        {"resample": 1.5},
        {"size": {"height": 64}},
        {"size": -3},
        {"size": 10**9, "crop_size": 64, "do_center_crop": True},
    ],
)
def test_settings_that_cannot_be_read(settings: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="preprocessor_config") as error:
        read(settings)
    assert error.value.code == "VIT-418"
    assert "KeyError" not in error.value.message


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"resize": 73, "crop": "center"}, "one pixel"),
        ({"resize": (67, 67), "crop": "center"}, "one pixel"),
        (
            {"resize": SIZE, "interpolation": "bilinear", "resizer": "tensorflow"}
            | {"antialias": False},
            "TensorFlow",
        ),
        (
            {
                "resize": 73,
                "crop": "center_floor",
                "interpolation": "area",
                "resizer": "tensorflow",
            },
            "TensorFlow",
        ),
    ],
)
def test_says_what_transformers_does_otherwise(fields: dict[str, Any], part: str) -> None:
    _, notes = write_preprocess(Preprocess(height=64, width=64, **fields))
    assert len(notes) == 1
    assert part in notes[0]


def test_an_even_rest_is_cropped_alike() -> None:
    _, notes = write_preprocess(Preprocess(height=64, width=64, resize=(72, 66), crop="center"))
    assert not notes


def test_refuses_a_crop_that_is_not_square() -> None:
    with pytest.raises(ModelError, match="not square") as error:
        write_preprocess(Preprocess(height=64, width=48, resize=70, crop="center"))
    assert error.value.code == "VIT-417"
