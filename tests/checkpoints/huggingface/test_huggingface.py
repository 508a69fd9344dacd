"""Folders of transformers: golden outputs, both ways, both schemas of names, forms, refusals.

What transformers itself makes of written folders: test_huggingface_parity.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.golden_case import (
    assert_outputs,
    assert_round_trip,
    assert_same_tensors,
    case_source,
    fill,
    outputs,
    pictures,
    random_model,
    read,
    recognised,
    source,
    with_exchanged,
    write,
)
from vitrail.checkpoints.huggingface.layout import HUGGINGFACE
from vitrail.errors import ModelError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.vit.config import ViTConfig

CASES = ("hf_vit", "hf_vit_model_pooler", "hf_deit_distilled", "hf_dinov2", "hf_dinov2_registers")
VIT: dict[str, Any] = {
    "image_size": (12, 12),
    "patch_size": (4, 4),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 48,
    "num_classes": 5,
}
# transformers 5 in memory; ViT and DeiT, then DINOv2.
NEW_VIT = {
    r"encoder\.layer\.": "layers.",
    r"attention\.attention\.query": "attention.q_proj",
    r"attention\.attention\.key": "attention.k_proj",
    r"attention\.attention\.value": "attention.v_proj",
    r"attention\.output\.dense": "attention.o_proj",
    r"intermediate\.dense": "mlp.fc1",
    r"(\d)\.output\.dense": r"\1.mlp.fc2",
}
NEW_DINO = {pattern: new for pattern, new in NEW_VIT.items() if "attention" in pattern}


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    model, _ = read(HUGGINGFACE, case_source(case))
    data = outputs(case)
    if "pooler_output" in data:  # the tanh layer is ours before a head
        data["pre_logits"] = data["pooler_output"]
    assert_outputs(model, data)


@pytest.mark.parametrize("case", CASES)
def test_a_written_folder_is_the_folder_that_was_read(case: str) -> None:
    """Tensors but for the mask token, which is zero; config.json and the processor's as read."""
    file = case_source(case)
    model, found = read(HUGGINGFACE, file)
    written, record = write(HUGGINGFACE, model, found.preprocess, found.classes)
    values = {
        name: torch.zeros_like(value) if name.endswith("mask_token") else value
        for name, value in file.values.items()
    }
    assert_same_tensors(written.values, values)
    theirs = dict(file.header.metadata["config.json"])
    ours = json.loads(record.files["config.json"])
    assert {name: theirs[name] for name in ours} == ours
    again = recognised(HUGGINGFACE, written)
    assert (again.config, again.preprocess) == (found.config, found.preprocess)
    assert again.classes == found.classes
    assert_round_trip(HUGGINGFACE, model)


@pytest.mark.parametrize("case", CASES)
def test_names_of_version_5_in_memory(case: str) -> None:
    new = NEW_DINO if "dino" in case else NEW_VIT
    file = case_source(case)
    values = {}
    for name, value in file.values.items():
        for pattern, text in new.items():
            name = re.sub(pattern, text, name)
        values[name] = value
    assert len(values) == len(file.values)
    assert set(values) != set(file.values)
    model, _ = read(HUGGINGFACE, file)
    again, _ = read(HUGGINGFACE, source(values, file.header.metadata))
    assert_same_tensors(model.state_dict(), again.state_dict())


@pytest.mark.parametrize("case", ["hf_vit", "hf_deit_distilled", "hf_dinov2_registers"])
def test_negative_control(case: str) -> None:
    file = case_source(case)
    model, _ = fill(with_exchanged(recognised(HUGGINGFACE, file)), file)
    expected = outputs(case)
    assert (model(expected["x"]) - expected["logits"]).abs().max() > 1e-2


def test_classes_and_scores() -> None:
    file = case_source("hf_vit")
    found = recognised(HUGGINGFACE, file)
    assert found.classes == tuple(f"class_{i:02d}" for i in range(7))
    assert found.scores == "softmax"

    def classes(labels: Any, **more: Any) -> tuple[tuple[str, ...], str]:
        config = {**file.header.metadata["config.json"], "id2label": labels, **more}
        changed = source(file.values, {**file.header.metadata, "config.json": config})
        result = recognised(HUGGINGFACE, changed)
        return result.classes, result.scores

    unnamed = {str(i): f"LABEL_{i}" for i in range(7)}
    assert classes(unnamed)[0] == ()
    assert classes({"0": "one of seven"})[0] == ()
    assert classes(None)[0] == ()
    cranes = {str(i): "crane" if i in (1, 6) else f"c{i}" for i in range(7)}
    assert classes(cranes)[0] == ("c0", "crane (1)", "c2", "c3", "c4", "c5", "crane (6)")
    assert classes(unnamed, problem_type="multi_label_classification")[1] == "sigmoid"


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "vit": ({}, "ViTForImageClassification"),
    "vit, no rows": ({"posemb_prefix": False, "gelu": "gelu_tanh"}, "ViTForImageClassification"),
    "vit, sines": ({"posemb": "sincos_2d", "ln_eps": 1e-5}, "ViTForImageClassification"),
    "vit, factors": ({"posemb": "learned_2d", "gelu": "quick_gelu"}, "ViTForImageClassification"),
    "vit, no positions": ({"posemb": "none", "channels": 1}, "ViTForImageClassification"),
    "vit, oblong": (
        {"image_size": (12, 18), "patch_size": (4, 6), "mlp_dim": 31},
        "ViTForImageClassification",
    ),
    "vit, bare": ({"num_classes": 0}, "ViTModel"),
    "vit, tanh": ({"num_classes": 0, "representation_size": 7}, "ViTModel"),
    "deit": ({"distillation_token": True}, "DeiTForImageClassificationWithTeacher"),
    "deit, no rows": (
        {"distillation_token": True, "posemb_prefix": False, "image_size": (8, 12)},
        "DeiTForImageClassificationWithTeacher",
    ),
    "deit, one head": ({"num_registers": 1}, "DeiTForImageClassification"),
    "deit, one head, sines": (
        {"num_registers": 1, "posemb": "sincos_2d"},
        "DeiTForImageClassification",
    ),
    "dino": (
        {"layer_scale": 1e-5, "pool": "cls_gap", "drop_path_schedule": "constant"},
        "Dinov2ForImageClassification",
    ),
    "deit 3": ({"layer_scale": 1e-4, "posemb_prefix": False}, "Dinov2ForImageClassification"),
    "cls and mean": ({"pool": "cls_gap"}, "Dinov2ForImageClassification"),
    "mean beside cls": ({"pool": "gap", "cls_token": True}, "Dinov2ForImageClassification"),
    "swiglu": ({"mlp": "swiglu", "mlp_dim": 64}, "Dinov2ForImageClassification"),
    "registers": (
        {"num_registers": 4, "pool": "cls_gap", "layer_scale": 1e-5},
        "Dinov2WithRegistersForImageClassification",
    ),
    "registers, cls": ({"num_registers": 2}, "Dinov2WithRegistersForImageClassification"),
    "dino, bare": ({"num_classes": 0, "layer_scale": 1e-5}, "Dinov2Model"),
    "mean": ({"pool": "gap", "mlp_dim": 31}, "SiglipForImageClassification"),
    "mean, sines": (
        {"pool": "gap", "posemb": "sincos_2d", "gelu": "gelu_tanh"},
        "SiglipForImageClassification",
    ),
    "map": ({"pool": "map", "num_classes": 0, "gelu": "gelu_tanh"}, "SiglipVisionModel"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_equal_logits(form: str) -> None:
    """The sums are the same; beside zero columns a matrix product may add them in another order."""
    fields, architecture = FORMS[form]
    config = ViTConfig(**(VIT | fields))
    model = random_model(config)
    file, record = write(HUGGINGFACE, model)
    assert json.loads(record.files["config.json"])["architectures"] == [architecture]
    again, _ = read(HUGGINGFACE, file)
    images = pictures(config).double()
    expected = model.double()(images)
    assert expected.std() > 1e-3
    assert (again.double()(images) - expected).abs().max() <= 1e-12
    assert_round_trip(HUGGINGFACE, again.float())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "qk_norm": ({"qk_norm": True}, "qk_norm"),
    "pre_norm": ({"pre_norm": True}, "pre_norm"),
    "rope": ({"posemb": "rope_2d"}, "posemb"),
    "relative": ({"posemb": "relative"}, "posemb"),
    "norm after pool": ({"pool": "gap", "norm_after_pool": True}, "norm_after_pool"),
    "tanh and head": ({"representation_size": 7}, "tanh"),
    "map and head": ({"pool": "map"}, "mean"),
    "mean, registers": ({"pool": "gap", "num_registers": 2}, "num_registers"),
    "mean, layer scale": ({"pool": "gap", "layer_scale": 0.1}, "layer_scale"),
    "dist, layer scale": ({"distillation_token": True, "layer_scale": 0.1}, "layer_scale"),
    "dist, registers": ({"distillation_token": True, "num_registers": 1}, "num_registers"),
    "dist, bare": ({"distillation_token": True, "num_classes": 0}, "class token"),
    "dino, oblong": ({"layer_scale": 0.1, "image_size": (12, 16)}, "image_size"),
    "mean, oblong": ({"pool": "gap", "image_size": (12, 16)}, "image_size"),
    "mean, oblong patch": ({"pool": "gap", "patch_size": (2, 4)}, "patch_size"),
    "dino, mlp": ({"layer_scale": 0.1, "mlp_dim": 47}, "mlp_dim"),
    "dino, swiglu": ({"mlp": "swiglu", "mlp_dim": 47}, "mlp_dim"),
    "dino, bare mean": ({"num_classes": 0, "pool": "cls_gap"}, "class token"),
    "cct": ({"stem": "conv", "pool": "seq", "patch_size": (1, 1)}, "stem"),
    "hybrid": ({"stem": "resnet", "image_size": (48, 48), "patch_size": (1, 1)}, "stem"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_refuses_what_no_class_computes(form: str) -> None:
    fields, named = REFUSED[form]
    with pytest.raises(ModelError, match=named) as error:
        write(HUGGINGFACE, random_model(ViTConfig(**(VIT | fields))))
    assert error.value.code == "VIT-417"


def test_refuses_a_resnet() -> None:
    config = BiTConfig(image_size=(32, 32), depths=(1,), num_classes=2)
    with pytest.raises(ModelError, match="ResNet"):
        write(HUGGINGFACE, random_model(config))


@pytest.mark.parametrize(
    ("case", "names", "reason"),
    [
        ("hf_vit", ["vit.pooler.dense.weight", "vit.embeddings.mask_token"], "pooler"),
        ("hf_dinov2", [], "masked"),
    ],
)
def test_what_a_classifier_does_without_is_left_out(
    case: str, names: list[str], reason: str
) -> None:
    """Google's own ViT folders still hold a pooler."""
    file = case_source(case)
    values = dict(file.values) | {name: torch.zeros(2, 2) for name in names}
    both = source(values, file.header.metadata)
    _, report = fill(recognised(HUGGINGFACE, both), both)
    assert report.is_complete
    assert set(names) <= {name for name, _ in report.left_out}
    assert any(reason in text for _, text in report.left_out)


def test_queries_without_bias() -> None:
    """`qkv_bias: false`: zeros are implied."""
    file = case_source("hf_vit")
    values = {
        name: value
        for name, value in file.values.items()
        if not re.search(r"attention\.(query|key|value)\.bias", name)
    }
    config = file.header.metadata["config.json"]
    beside = {**file.header.metadata, "config.json": {**config, "qkv_bias": False}}
    model, _ = read(HUGGINGFACE, source(values, beside))
    assert not model.state_dict()["blocks.1.attn.qkv.bias"].any()


def test_deit_without_a_second_head() -> None:
    """DeiTForImageClassification: the distillation token becomes a register, with its row."""
    file = case_source("hf_deit_distilled")
    values: dict[str, Tensor] = {
        name.replace("cls_classifier", "classifier"): value
        for name, value in file.values.items()
        if not name.startswith("distillation_classifier")
    }
    model, found = read(HUGGINGFACE, source(values, file.header.metadata))
    assert isinstance(found.config, ViTConfig)
    assert (found.config.pool, found.config.num_registers) == ("cls", 1)
    data = outputs("hf_deit_distilled")
    assert (model(data["x"]) - data["logits_cls"]).abs().max() <= 1e-5
    assert_round_trip(HUGGINGFACE, model)


def config_of(case: str, **changes: Any) -> Any:
    file = case_source(case)
    config = {**file.header.metadata["config.json"], **changes}
    return source(file.values, {**file.header.metadata, "config.json": config})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "swin"}, "swin"),
        ({"hidden_act": "swish"}, "swish"),
        ({"num_attention_heads": 5}, "num_heads"),
        ({"num_attention_heads": "two"}, "num_attention_heads"),
        ({"layer_norm_eps": -1}, "ln_eps"),
        ({"image_size": 7}, "7"),
    ],
)
def test_configs_that_describe_no_model(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named) as error:
        recognised(HUGGINGFACE, config_of("hf_vit", **changes))
    assert error.value.code == "VIT-418"


def test_tensors_without_a_config_are_refused() -> None:
    """The number of heads is nowhere else."""
    with pytest.raises(ModelError, match=r"config\.json") as error:
        HUGGINGFACE.recognise(source(case_source("hf_vit").values).header)
    assert error.value.code == "VIT-418"


def test_a_config_without_the_tensors_is_refused() -> None:
    metadata = case_source("hf_vit").header.metadata
    with pytest.raises(ModelError, match="Vision Transformer"):
        HUGGINGFACE.recognise(source({"conv1.weight": torch.zeros(1)}, metadata).header)


def test_other_files_are_not_its_own() -> None:
    timm = {"config.json": {"architecture": "vit_tiny_patch16_224"}}
    assert HUGGINGFACE.recognise(source({"cls_token": torch.zeros(1)}, timm).header) is None
    assert HUGGINGFACE.recognise(case_source("google_vit_token").header) is None


def test_missing_tensors_are_named() -> None:
    file = case_source("hf_vit")
    name = "vit.encoder.layer.1.attention.attention.key.weight"
    values = {key: value for key, value in file.values.items() if key != name}
    partial = source(values, file.header.metadata)
    with pytest.raises(ModelError, match=re.escape(name)):
        fill(recognised(HUGGINGFACE, partial), partial)
    kernel = "vit.embeddings.patch_embeddings.projection.weight"
    flat = source(dict(file.values) | {kernel: torch.zeros(3)}, file.header.metadata)
    with pytest.raises(ModelError, match="4 axes"):
        recognised(HUGGINGFACE, flat)


def test_rule_of_position_embeddings() -> None:
    """transformers antialiases those of register models, and of no other."""
    for case, rule in {"hf_dinov2_registers": "dino_registers", "hf_dinov2": ""}.items():
        assert recognised(HUGGINGFACE, case_source(case)).resample == rule
    assert HUGGINGFACE.resample == "huggingface"


def test_given_values_replace_those_of_the_file() -> None:
    """A table of 4 x 4 patches may also be one of 2 x 8."""
    file = case_source("hf_vit", image_size=(16, 64))
    _, found = read(HUGGINGFACE, file)
    assert isinstance(found.config, ViTConfig)
    assert found.config.grid == (2, 8)
