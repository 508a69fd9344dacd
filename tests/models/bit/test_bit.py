"""BiT-ResNets: the common suite, the NumPy reference in float64, export, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.models.check_model import check_export, check_model, random_images, random_model, tapped
from tests.reference import resnet_numpy
from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import create_model
from vitrail.models.layers.tap import TapDict

TINY: dict[str, Any] = {
    "image_size": (29, 19),  # maps 8 x 5 and 4 x 3: odd and even sizes
    "channels": 2,
    "depths": (1, 2),
    "width_factor": 0.5,
    "num_classes": 7,
}
CHOICES: dict[str, dict[str, Any]] = {
    "v2": {},
    "v2-small": {"stem": "small", "image_size": (5, 7), "depths": (1, 1)},
    "v2-outside": {"std_form": "outside", "std_eps": 1e-3, "channels": 1},
    "v1": {"style": "v1_gn"},
    "v1-even": {"style": "v1_gn", "image_size": (16, 24), "head_bias_init": -3.0},
    "v1-small": {"style": "v1_gn", "stem": "small", "image_size": (4, 6), "depths": (1, 1)},
}


def tiny(**changes: Any) -> BiTConfig:
    return BiTConfig(**(TINY | changes))


@pytest.mark.parametrize("choice", CHOICES)
def test_check_model(choice: str) -> None:
    check_model(tiny(**CHOICES[choice]))


@pytest.mark.parametrize("choice", CHOICES)
def test_equals_numpy_reference(choice: str) -> None:
    """Logits and every intermediate, |diff| <= 1e-10 in float64 (rung 2 of the ladder)."""
    config = tiny(**CHOICES[choice])
    model, images = random_model(config), random_images(config, 2)
    state = {name: value.detach().numpy() for name, value in model.named_parameters()}
    with torch.no_grad():
        _, store = tapped(model, images)
    expected = resnet_numpy.forward(state, config, images.numpy())
    assert set(store) == set(expected)
    for name, value in expected.items():
        diff = np.abs(store[name].numpy() - value).max()
        assert diff <= 1e-10, f"{name} differs by {diff}"


@pytest.mark.parametrize("choice", ["v2-small", pytest.param("v1", marks=pytest.mark.slow)])
def test_export_equals_eager(choice: str) -> None:
    check_export(random_model(tiny(**CHOICES[choice])))


def test_reference_tells_wrong_options_apart() -> None:
    """Negative control: with one number of the reference wrong, it must not agree."""
    config = tiny()
    model, images = random_model(config), random_images(config, 1)
    state = {name: value.detach().numpy() for name, value in model.named_parameters()}
    logits = model(images).detach().numpy()
    for change in ({"gn_eps": 1e-3}, {"std_eps": 1e-3}, {"std_form": "outside", "std_eps": 1e-3}):
        other = config.model_copy(update=change)
        wrong = resnet_numpy.forward(state, other, images.numpy())["logits"]
        assert np.abs(wrong - logits).max() > 1e-7, change


def test_a_new_model_of_style_v1_starts_as_its_shortcuts() -> None:
    """The last scale of each unit is 0: a unit without projection passes its input on."""
    model = create_model(tiny(style="v1_gn")).eval()
    assert not model.get_parameter("stages.1.blocks.1.norm3.weight").any()
    first = model.get_submodule("stages.1.blocks.0")
    x = torch.rand(1, 128, 8, 5)
    shape = first(x)
    second = model.get_submodule("stages.1.blocks.1")
    assert torch.equal(second(shape), shape)


def test_without_a_head_the_model_gives_features() -> None:
    model = random_model(tiny(num_classes=0))
    images = random_images(model.config, 3)
    assert model(images).shape == (3, 256)
    assert torch.equal(model(images), model.features(images))
    store: TapDict = {}
    model(images, tap=store)
    assert "logits" not in store


@pytest.mark.parametrize("shape", [(1, 2, 19, 29), (1, 3, 29, 19), (2, 29, 19)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    model = random_model(tiny())
    with pytest.raises(UsageError, match=r"\(B, 2, 29, 19\)") as caught:
        model(torch.zeros(shape, dtype=torch.float64))
    assert caught.value.code == "VIT-224"


def test_unknown_tap_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean stage1") as caught:
        tapped(random_model(tiny()), random_images(tiny(), 1), "stage2")
    assert caught.value.code == "VIT-223"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("style", ["v2", "v1_gn"])
def test_every_map_has_its_channels_last(channels: int, style: str) -> None:
    """Also of gray images, whose layout torch cannot tell."""
    model = random_model(tiny(channels=channels, style=style), dtype=torch.float32)
    _, store = tapped(model, random_images(model.config, 2).float())
    for name, value in store.items():
        assert value.ndim == 2 or value.is_contiguous(memory_format=torch.channels_last), name


def test_layout_of_the_images_does_not_matter() -> None:
    model = random_model(tiny())
    images = random_images(model.config, 3)
    flat = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert flat.stride() != images.stride()
    assert (model(flat) - model(images)).abs().max() <= 1e-12
