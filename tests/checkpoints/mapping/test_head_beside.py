"""A classifier beside the model that it reads is read, and what is assumed of the two is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.golden_case import SMALL, case_source, outputs, pictures, random_model
from vitrail.checkpoints.external import ExternalCheckpoint, read_external
from vitrail.checkpoints.origins.dinov2 import PAIRS as DINOV2
from vitrail.checkpoints.origins.torch_layout import Pairs, translate
from vitrail.checkpoints.origins.torchvision import PAIRS as TORCHVISION
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

CONFIG = ViTConfig(**SMALL)
GIVEN = {"num_heads": 3}
# Prefixes of the model and of the head, as wrappers have them.
PLACES = (
    ("backbone.", "head"),
    ("backbone.", "fc"),
    ("backbone.", "classifier"),
    ("backbone.", "mlp_head.1"),
    ("vit.", "linear_head.fc"),
    ("module.net.", "module.head"),
    ("module.model.encoder.", "module.classifier.0"),
    ("model._orig_mod.backbone.", "model.fc"),
    ("0.", "1"),
    ("module.0.", "module.2"),
)


def wrapped(
    prefix: str, head: str, *, pairs: Pairs = (), seed: int = 0, config: ViTConfig = CONFIG
) -> dict[str, Tensor]:
    """The tensors of a model with its classifier elsewhere."""
    return {
        (
            f"{head}.{name.removeprefix('head.')}"
            if name.startswith("head.")
            else prefix + translate(pairs, name)
        ): value.clone()
        for name, value in random_model(config, seed).state_dict().items()
    }


def read(
    tmp_path: Path, tensors: dict[str, Tensor], *, allow_unused: bool = False, table: str = ""
) -> ExternalCheckpoint:
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    return read_external(path, given=GIVEN, allow_unused=allow_unused, table=table or None)


def assert_as(foreign: ExternalCheckpoint, config: ViTConfig, seed: int = 0) -> None:
    images = pictures(config)
    with torch.no_grad():
        expected = random_model(config, seed)(images)
        assert torch.equal(foreign.model(images), expected)


@pytest.mark.promise("M8")
@pytest.mark.parametrize(("prefix", "head"), PLACES)
def test_a_head_beside_its_model_is_read_and_said(tmp_path: Path, prefix: str, head: str) -> None:
    foreign = read(tmp_path, wrapped(prefix, head))
    assert_as(foreign, CONFIG)
    assert not foreign.report.left_out
    said = {fact.field: fact for fact in foreign.facts}
    assert (said["head"].value, said["head"].source) == (head, "assumed")
    assert (said["pool"].value, said["pool"].source) == ("cls", "assumed")
    assert "--set pool=" in said["pool"].text()
    assert "--map FILE" in said["head"].text()


@pytest.mark.parametrize(
    ("pairs", "changed", "more"),
    [
        (TORCHVISION, {}, {}),
        (DINOV2, {"layer_scale": 1e-5}, {"backbone.mask_token": torch.zeros(1, 24)}),
    ],
    ids=["torchvision", "dinov2"],
)
def test_beside_the_models_of_other_libraries(
    tmp_path: Path, pairs: Pairs, changed: dict[str, object], more: dict[str, Tensor]
) -> None:
    config = ViTConfig(**CONFIG.model_dump() | changed)
    assert_as(read(tmp_path, wrapped("backbone.", "fc", pairs=pairs, config=config) | more), config)


def test_the_pooling_of_a_published_row_is_not_certain_behind_a_wrapper(tmp_path: Path) -> None:
    """The row of the model alone says what the model gives, not what the wrapper takes."""
    config = ViTConfig(
        **CONFIG.model_dump()
        | {"image_size": (32, 32), "patch_size": (16, 16), "width": 192, "depth": 12}
        | {"mlp_dim": 768}
    )
    save_file(wrapped("backbone.", "head", config=config), tmp_path / "a.safetensors")
    foreign = read_external(tmp_path / "a.safetensors")
    said = {fact.field: fact.source for fact in foreign.facts}
    assert (said["num_heads"], said["pool"]) == ("row", "assumed")
    assert_as(foreign, config)


def second_layer(tensors: dict[str, Tensor]) -> None:
    tensors["head.2.weight"] = torch.ones(3, 3)


def norm_before(tensors: dict[str, Tensor]) -> None:
    tensors |= {"head_norm.weight": torch.ones(24), "head_norm.bias": torch.ones(24)}


def other_inputs(tensors: dict[str, Tensor]) -> None:
    tensors["head.weight"] = torch.ones(3, 48)


def no_weight(tensors: dict[str, Tensor]) -> None:
    del tensors["head.weight"]


def other_bias(tensors: dict[str, Tensor]) -> None:
    tensors["head.bias"] = torch.ones(4)


def layer_between(tensors: dict[str, Tensor]) -> None:
    tensors["neck.weight"] = torch.ones(24, 24)


def head_within(tensors: dict[str, Tensor]) -> None:
    tensors |= {"backbone.head.weight": torch.ones(3, 24), "backbone.head.bias": torch.ones(3)}


def second_head(tensors: dict[str, Tensor]) -> None:
    tensors |= {"fc.weight": torch.ones(7, 24), "fc.bias": torch.ones(7)}


def tanh_layer(tensors: dict[str, Tensor]) -> None:
    tensors["backbone.pre_logits.fc.weight"] = torch.ones(24, 24)
    tensors["backbone.pre_logits.fc.bias"] = torch.ones(24)


@pytest.mark.parametrize(
    "change",
    [
        second_layer,
        norm_before,
        other_inputs,
        no_weight,
        other_bias,
        layer_between,
        head_within,
        second_head,
        tanh_layer,
    ],
)
def test_what_is_not_one_linear_on_the_model_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], None]
) -> None:
    tensors = wrapped("backbone.", "head")
    change(tensors)
    with pytest.raises(ModelError) as caught:
        read(tmp_path, tensors)
    assert caught.value.code == "VIT-424"
    assert any(name in caught.value.message for name in ("head", "neck"))


def test_of_student_and_teacher_each_has_its_own_head(tmp_path: Path) -> None:
    both = wrapped("student.backbone.", "student.head")
    both |= wrapped("teacher.backbone.", "teacher.head", seed=1)
    foreign = read(tmp_path, both)
    assert_as(foreign, CONFIG, seed=1)
    assert ("student.head.weight", "of the other model") in foreign.report.left_out
    assert_as(read(tmp_path, both, table="student.backbone"), CONFIG)


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("inputs", "pool"), [(1, "cls"), (2, "cls_gap")], ids=["one token", "token and mean"]
)
@pytest.mark.parametrize("place", ["head", "linear_head.1", "classifier"])
def test_dinov2_of_transformers_with_a_head_of_another(
    tmp_path: Path, inputs: int, pool: str, place: str
) -> None:
    """Its own classifier reads class token and mean; one of half the inputs reads one of them."""
    file = case_source("hf_dinov2")
    width = file.values["classifier.weight"].shape[1] // 2
    tensors = {
        "backbone." + name.removeprefix("dinov2."): value
        for name, value in file.values.items()
        if not name.startswith("classifier")
    }
    weight = file.values["classifier.weight"][:, : inputs * width].clone()
    tensors |= {f"{place}.weight": weight, f"{place}.bias": file.values["classifier.bias"]}
    save_file(tensors, tmp_path / "model.safetensors")
    config = json.dumps(file.header.metadata["config.json"])
    (tmp_path / "config.json").write_text(config)
    foreign = read_external(tmp_path)
    said = {fact.field: fact for fact in foreign.facts}
    is_its_own = place == "classifier" and inputs == 2
    assert is_its_own or (said["pool"].value, said["pool"].source) == (pool, "assumed")
    data = outputs("hf_dinov2")
    expected = data["pre_logits"][:, : inputs * width] @ weight.T + tensors[f"{place}.bias"]
    with torch.no_grad():
        assert (foreign.model(data["x"]) - expected).abs().max() <= 1e-5


@pytest.mark.promise("M8")
@pytest.mark.parametrize("axes", [2, 4])
@pytest.mark.parametrize(
    ("prefix", "head"),
    [("", "head.fc"), ("", "fc"), ("", "head.1"), ("backbone.", "fc"), ("0.", "1")],
)
def test_a_linear_or_a_convolution_behind_bit(
    tmp_path: Path, axes: int, prefix: str, head: str
) -> None:
    """timm's BiT has a convolution of 1 x 1 px as classifier, fine-tunes have a Linear."""
    file = case_source("timm_bit")
    tensors = {}
    for name, value in file.values.items():
        if name.startswith("head.fc."):
            turned = value.reshape(value.shape[:axes]).clone() if value.ndim > 1 else value
            tensors[f"{head}.{name.removeprefix('head.fc.')}"] = turned
        else:
            tensors[prefix + name] = value
    save_file(tensors, tmp_path / "a.safetensors")
    data = outputs("timm_bit")
    size = tuple(data["x"].shape[2:])
    foreign = read_external(tmp_path / "a.safetensors", given={"image_size": size})
    with torch.no_grad():
        assert (foreign.model(data["x"]) - data["logits"]).abs().max() <= 1e-5
