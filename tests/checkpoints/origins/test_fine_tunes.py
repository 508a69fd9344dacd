"""What fine-tuning leaves: classifiers in a Sequential, other image sizes, rows for registers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.checkpoints.golden_case import SMALL, pictures, random_model, read, source, write
from tests.checkpoints.plain_vit import forward, images, state
from vitrail.checkpoints.external import read_external
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.timm import TIMM
from vitrail.checkpoints.origins.torch_layout import translate
from vitrail.checkpoints.origins.torchvision import PAIRS, TORCHVISION
from vitrail.checkpoints.recognise import recognise
from vitrail.errors import ModelError
from vitrail.models.create import build
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

GIVEN: dict[str, Any] = {"num_heads": 3, "pool": "cls", "gelu": "gelu"}
ORIGINS = {"timm": (TIMM, "head"), "torchvision": (TORCHVISION, "heads")}
# Where nn.Module puts the layers of a classifier, below the name that it replaces.
ONE = {
    "Linear": "",
    "Sequential(Linear)": ".0",
    "Sequential(Dropout, Linear)": ".1",
    "a module of its own": ".fc",
}


def renamed_head(origin: str, place: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model, and its tensors with the classifier at another place."""
    library, name = ORIGINS[origin]
    model = random_model(ViTConfig(**SMALL))
    file, _ = write(library, model)
    own = "head" if origin == "timm" else "heads.head"
    return model, {
        f"{name}{place}.{key.rpartition('.')[2]}" if key.startswith(f"{own}.") else key: value
        for key, value in file.values.items()
    }


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("place", ONE)
def test_one_linear_wherever_it_is(tmp_path: Path, origin: str, place: str) -> None:
    model, tensors = renamed_head(origin, ONE[place])
    assert isinstance(model, ViT)
    save_file(tensors, tmp_path / "a.safetensors")
    foreign = read_external(tmp_path / "a.safetensors", given=GIVEN)
    assert foreign.origin == origin
    images = pictures(model.config)
    with torch.no_grad():
        assert torch.equal(foreign.model(images), model(images))


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    "more",
    [
        {".0.weight": (24, 24), ".0.bias": (24,)},  # a second Linear
        {".0.weight": (24,), ".0.bias": (24,)},  # LayerNorm
        {".0.running_mean": (24,), ".0.running_var": (24,)},  # BatchNorm without weights
    ],
)
def test_more_layers_are_refused_and_said(
    tmp_path: Path, origin: str, more: dict[str, tuple[int, ...]]
) -> None:
    _, tensors = renamed_head(origin, ".2")
    name = ORIGINS[origin][1]
    tensors |= {f"{name}{key}": torch.ones(shape) for key, shape in more.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    for allow in (False, True):
        with pytest.raises(ModelError) as caught:
            read_external(tmp_path / "a.safetensors", given=GIVEN, allow_unused=allow)
        assert caught.value.code == "VIT-418"
        assert f"{name}.0" in caught.value.message
        assert f"{name}.2" in caught.value.message


@pytest.mark.parametrize("size", [(30, 30), (30, 20), (24, 29)])
def test_what_no_whole_patch_covers_is_not_seen(size: tuple[int, int]) -> None:
    """As a convolution computes it, and as it is written again."""
    config = ViTConfig(**SMALL | {"image_size": size, "drop_rest": True})
    model = random_model(config)
    assert isinstance(model, ViT)
    images, weights = pictures(config), model.state_dict()
    rows, columns = (side // 8 * 8 for side in size)
    other = images.clone()
    other[:, :, rows:] = 7
    other[:, :, :, columns:] = 7
    file, _ = write(TIMM, model)
    again, record = read(TIMM, file)
    assert record.config.image_size == size
    with torch.no_grad():
        kernel, bias = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
        expected = F.conv2d(images, kernel, bias, stride=8).flatten(2).transpose(1, 2)
        assert (model.patch_embed(images) - expected).abs().max() <= 1e-4
        assert torch.equal(model(images), model(other))
        assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("has_cls", [True, False])
def test_rows_for_registers_are_added_to_them(has_cls: bool) -> None:
    """timm without no_embed_class: the table covers class token and registers too."""
    pool = {"cls_token": has_cls, "pool": "cls" if has_cls else "gap"}
    model = random_model(ViTConfig(**SMALL | pool | {"num_registers": 3}))
    assert isinstance(model, ViT)
    state = dict(model.state_dict())
    rows = torch.randn(1, 3, 24, generator=torch.Generator().manual_seed(5))
    first = int(has_cls)
    table = state["pos_embed"]
    theirs = state | {
        "pos_embed": torch.cat([table[:, :first], rows, table[:, first:]], dim=1),
        "reg_token": state["reg_token"] - rows,
    }
    again, found = read(TIMM, source(theirs, num_heads=3, pool=pool["pool"], gelu="gelu"))
    assert found.config.image_size == (16, 16)
    images = pictures(model.config)
    with torch.no_grad():
        assert (again(images) - model(images)).abs().max() <= 1e-5


def test_a_table_that_may_be_of_two_sizes_is_asked_for() -> None:
    """16 rows and 7 before the patches: 4 x 4 without, or 3 x 3 with them."""
    model = random_model(ViTConfig(**SMALL | {"num_registers": 6, "image_size": (24, 24)}))
    state = dict(model.state_dict())
    state["pos_embed"] = torch.zeros(1, 16, 24)
    with pytest.raises(ModelError, match="32x32 or 24x24") as caught:
        read(TIMM, source(state, num_heads=3))
    assert caught.value.code == "VIT-420"
    again, _ = read(TIMM, source(state, num_heads=3, image_size=(24, 24)))
    assert again.config.num_patches == 9  # type: ignore[union-attr]


def torchvision_shapes(width: int) -> Header:
    """A torchvision model of that width with 12 layers of 16 px patches, without values."""
    model = build(
        ViTConfig(
            image_size=(224, 224),
            patch_size=(16, 16),
            width=width,
            depth=12,
            num_heads=3,
            mlp_dim=4 * width,
            num_classes=5,
        )
    )
    shapes = {translate(PAIRS, name): tuple(v.shape) for name, v in model.state_dict().items()}
    return Header("vit.pth", shapes)


def test_a_published_size_keeps_its_heads_under_torchvisions_names() -> None:
    """ViT-Ti is timm's and DeiT's, and trained with torchvision's class too; of ViT-S two published
    models have other heads, so that it is asked for."""
    config = recognise(torchvision_shapes(192), None).found.config
    assert isinstance(config, ViTConfig)
    assert config.num_heads == 3
    with pytest.raises(ModelError) as caught:
        recognise(torchvision_shapes(384), None)
    assert caught.value.code == "VIT-419"


@pytest.mark.promise("M8")
def test_a_file_without_its_last_norm_is_asked_about() -> None:
    """A norm that is missing is more likely lost than left out by the model's author."""
    tensors = {name: value for name, value in state().items() if not name.startswith("norm.")}
    with pytest.raises(ModelError, match="final_norm") as caught:
        read(TIMM, source(tensors, num_heads=3))
    assert caught.value.code == "VIT-419"
    model, _ = read(TIMM, source(tensors, num_heads=3, final_norm=False))
    with torch.no_grad():
        assert (model(images()) - forward(tensors, images(), 3)).abs().max() <= 1e-5
