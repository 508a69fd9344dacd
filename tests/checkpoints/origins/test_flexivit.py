"""Published FlexiViTs: told by name, kernel and grid, at any of their ten patch sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.checkpoints.golden_case import Tensors, random_model, read, recognised, source, write
from vitrail.checkpoints.adapt.fixed_patch import fixed_model
from vitrail.checkpoints.adapt.patch_resize import resize_patch
from vitrail.checkpoints.adapt.posemb_resize import resize_posemb
from vitrail.checkpoints.external import plan_writing
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.timm import TIMM
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError, UsageError
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

SHAPE: dict[str, Any] = {
    "width": 24,
    "depth": 1,
    "num_heads": 3,
    "mlp_dim": 20,
    "num_classes": 5,
    "gelu": "gelu_tanh",
    "posemb_prefix": False,
}


def vit(**fields: Any) -> ViTConfig:
    return ViTConfig(**SHAPE | fields)


def named(file: Tensors, name: str, **metadata: Any) -> Tensors:
    return Tensors(replace(file.header, name=name, metadata=metadata), file.values)


def test_a_published_file_of_big_vision() -> None:
    """Kernel of 32 px, grid of 7 x 7: 240 px in patches of 8 to 48."""
    stored = random_model(vit(image_size=224, patch_size=32))
    file = named(write(BIG_VISION, stored)[0], "flexivit_mu_i1k.npz")
    model, found = read(BIG_VISION, file)
    config = found.config
    assert isinstance(config, ViTConfig)
    assert (config.image_size, config.patch_size, config.grid) == ((240, 240), (16, 16), (15, 15))
    assert [size for size, _ in config.patch_sizes] == [8, 10, 12, 15, 16, 20, 24, 30, 40, 48]
    assert found.preprocess.height == 240
    assert isinstance(model, ViT)
    fixed = fixed_model(model, (48, 48)).state_dict()
    kernel = stored.state_dict()["patch_embed.proj.weight"]
    table = stored.state_dict()["pos_embed"]
    assert torch.equal(fixed["patch_embed.proj.weight"], resize_patch(kernel, (48, 48), "pi"))
    assert torch.equal(fixed["pos_embed"], resize_posemb(table, (7, 7), (5, 5), 0, "flexi"))
    with pytest.raises(UsageError, match="8 10 12"):
        fixed_model(model, (32, 32))


def test_the_same_file_under_another_name_is_a_vit_as_stored() -> None:
    stored = random_model(vit(image_size=224, patch_size=32))
    found = recognised(BIG_VISION, named(write(BIG_VISION, stored)[0], "vit_mu.npz"))
    assert isinstance(found.config, ViTConfig)
    assert found.config.patch_sizes == ()
    assert found.config.grid == (7, 7)


@pytest.mark.parametrize(("architecture", "count"), [("flexivit_small", 10), ("vit_x", 0)])
def test_a_folder_of_timm(architecture: str, count: int) -> None:
    config = vit(image_size=240, patch_size=16)
    file, record = write(TIMM, random_model(config))
    described = dict(file.header.metadata["config.json"])
    arguments = described["model_args"] | {"patch_drop_rate": 0.25}
    described |= {"architecture": architecture, "model_args": arguments}
    told = {"num_heads": 3, "gelu": "gelu_tanh", "ln_eps": 1e-6}
    again = source(file.values, {"config.json": described}, **told)
    found = recognised(TIMM, again).config
    assert isinstance(found, ViTConfig)
    assert len(found.patch_sizes) == count
    assert (found.kept_kernel, found.kept_grid) == ((16, 16), (15, 15))
    assert found.patch_drop == 0.25
    assert record.files


def test_patch_dropout_is_written_for_timm() -> None:
    config = vit(image_size=32, patch_size=16, patch_drop=0.5)
    file, _ = write(TIMM, random_model(config))
    assert file.header.metadata["config.json"]["model_args"]["patch_drop_rate"] == 0.5


def test_other_formats_hold_one_size() -> None:
    config = vit(image_size=24, patch_size=8, patch_sizes=(4, 8))
    made = Preprocess(height=24, width=24, resize=(24, 24))
    with pytest.raises(ModelError, match="several sizes"):
        plan_writing(config, made, (), "timm")
