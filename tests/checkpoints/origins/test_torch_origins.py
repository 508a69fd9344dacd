"""timm, torchvision, DeiT and DINOv2: golden outputs, both ways, a control that must fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.checkpoints.golden_case import CASES as FOLDERS
from tests.checkpoints.golden_case import (
    Tensors,
    assert_outputs,
    assert_round_trip,
    assert_same_tensors,
    case_source,
    outputs,
    pictures,
    random_model,
    read,
    recognised,
    source,
    write,
)
from tests.golden.case import STATED
from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.mapping.origin import Origin
from vitrail.checkpoints.origins.deit_names import DEIT
from vitrail.checkpoints.origins.dinov2 import DINOV2
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.checkpoints.origins.timm import TIMM
from vitrail.checkpoints.origins.torchvision import TORCHVISION
from vitrail.errors import ModelError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

# What a file does not say: sizes that nobody publishes.
HEADS: dict[str, Any] = {"num_heads": 2}
CASES: dict[str, tuple[Origin, dict[str, Any]]] = {
    "timm_vit_token": (TIMM, {}),
    "timm_vit_gap": (TIMM, {}),
    "timm_vit_avg_fcnorm": (TIMM, {}),
    "timm_vit_qk_norm": (TIMM, {}),
    "timm_siglip_map": (TIMM, {}),
    "timm_clip_prenorm": (TIMM, {}),
    "timm_deit3": (TIMM, {}),
    "timm_deit_distilled": (TIMM, {}),
    "timm_dinov2_reg4": (TIMM, {}),
    "timm_dinov2_swiglu": (TIMM, {}),
    "timm_hybrid_stages": (TIMM, HEADS),
    "timm_hybrid_stem": (TIMM, HEADS),
    "timm_bit": (TIMM, {"image_size": (32, 40)}),
    "torchvision_vit": (TORCHVISION, STATED["torchvision_vit"]),
    "fb_deit": (DEIT, STATED["fb_deit"]),
    "fb_deit3": (DEIT, STATED["fb_deit3"]),
    "fb_deit_distilled": (DEIT, STATED["fb_deit_distilled"]),
    "fb_dinov2": (DINOV2, STATED["fb_dinov2"]),
    "fb_dinov2_giant_swiglu": (DINOV2, {"num_heads": 3}),
    "fb_dinov2_reg4": (DINOV2, STATED["fb_dinov2_reg4"]),
}
CONTROLS = ("timm_vit_token", "torchvision_vit", "fb_deit3", "fb_dinov2")
PLAIN: dict[str, Any] = {
    "image_size": (12, 18),
    "patch_size": (4, 6),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 20,
    "num_classes": 5,
}
SQUARE = PLAIN | {"image_size": (15, 15), "patch_size": (5, 5)}
STEM: dict[str, Any] = {
    "stem": "resnet",
    "std_eps": 1e-8,
    "std_form": "inside",
    "gn_eps": 1e-5,
    "stem_width": 64,
}
BIT: dict[str, Any] = {
    "image_size": (37, 50),
    "depths": (1, 2),
    "num_classes": 5,
    "std_eps": 1e-8,
    "width_factor": 0.5,
}


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    """Logits, features, tokens, attention; and no other origin takes the file for its own."""
    origin, given = CASES[case]
    file = case_source(case, **given)
    model, found = read(origin, file)
    data = outputs(case)
    if not found.config.num_classes:
        data = {"pooled" if key == "features" else key: value for key, value in data.items()}
        data = {key.replace("features_", "pooled_"): value for key, value in data.items()}
        data = {key: value for key, value in data.items() if not key.startswith(HEAD_ARRAYS)}
    assert_outputs(model, data)
    taker = next(name for name, other in ORIGINS.items() if other.recognise(file.header))
    assert taker == origin.name


HEAD_ARRAYS = ("logits", "pre_logits")


@pytest.mark.parametrize("case", CONTROLS)
def test_negative_control(case: str) -> None:
    """With two rules' tensors exchanged the logits must not agree."""
    origin, given = CASES[case]
    given = HEADS | given
    file = case_source(case, **given)
    found = recognised(origin, file)
    pairs = [
        (rule, other)
        for rule in found.rules
        for other in found.rules
        if rule.ours
        and other.ours
        and "norm1.weight" in rule.ours[0]
        and other.ours[0] == rule.ours[0].replace("norm1", "norm2")
    ]
    assert pairs
    first, second = (rule.theirs[0] for rule in pairs[0])
    values = dict(file.values)
    values[first], values[second] = values[second], values[first]
    model, _ = read(origin, source(values, file.header.metadata, **given))
    data = outputs(case)
    expected = data["logits"] if found.config.num_classes else data["features"]
    assert (model(data["x"]) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_a_written_file_is_the_file_that_was_read(case: str) -> None:
    """Bit for bit; DINOv2's mask token is no part of a classifier and comes back as zeros."""
    origin, given = CASES[case]
    file = case_source(case, **given)
    model, _ = read(origin, file)
    written, _ = write(origin, model)
    expected = dict(file.values)
    if "mask_token" in expected:
        expected["mask_token"] = torch.zeros_like(expected["mask_token"])
    assert_same_tensors(written.values, expected)


@pytest.mark.parametrize("case", ["fb_dinov2", "fb_dinov2_reg4"])
def test_dinov2_with_its_linear_head(case: str) -> None:
    """The head beside the backbone, under the names of torch.hub's classifiers."""
    file = joined(case)
    model, found = read(DINOV2, file)
    assert isinstance(found.config, ViTConfig)
    assert found.config.pool == "cls_gap"
    assert_outputs(model, {k: v for k, v in outputs(case).items() if not k.startswith("features")})
    written, _ = write(DINOV2, model)
    mask = {"backbone.mask_token": torch.zeros(1, file.values["backbone.norm.bias"].numel())}
    assert_same_tensors(written.values, {**file.values, **mask})


def joined(case: str) -> Tensors:
    """Backbone and head as torch.hub's classifier names them."""
    head = open_tensors(next((FOLDERS / case).glob("*linear_head.pth")))
    values = {f"linear_head.{name}": head.read(name) for name in head.header.shapes}
    head.close()
    body = case_source(case).values
    return source(values | {f"backbone.{name}": value for name, value in body.items()}, num_heads=2)


def test_a_head_of_four_layers_is_refused() -> None:
    file = joined("fb_dinov2")
    wide = torch.zeros(7, 5 * 24)
    with pytest.raises(ModelError, match="linear4_head"):
        DINOV2.recognise(source({**file.values, "linear_head.weight": wide}, num_heads=2).header)


def test_blocks_of_chunks() -> None:
    """DINOv2's training files number blocks as blocks.CHUNK.BLOCK."""
    file = case_source("fb_dinov2")
    chunked = {name.replace("blocks.", "blocks.0."): v for name, v in file.values.items()}
    model, _ = read(DINOV2, source(chunked, num_heads=2))
    plain, _ = read(DINOV2, source(file.values, num_heads=2))
    assert_same_tensors(model.state_dict(), plain.state_dict())


def test_old_names_of_torchvision() -> None:
    file = case_source("torchvision_vit")
    names = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
    old = {}
    for name, value in file.values.items():
        for new, before in names.items():
            name = name.replace(new, before)
        old[name] = value
    assert set(old) != set(file.values)
    model, _ = read(TORCHVISION, source(old, num_heads=2))
    data = outputs("torchvision_vit")
    assert (model(data["x"]) - data["logits"]).abs().max() <= 1e-5


def test_old_names_and_absent_biases_of_timm() -> None:
    """pre_logits.fc of 2021; models made without a bias of query, key and value."""
    model = random_model(ViTConfig(**(PLAIN | {"representation_size": 7})))
    values = {
        name.replace("pre_logits.", "pre_logits.fc."): value
        for name, value in model.state_dict().items()
        if not name.endswith("qkv.bias")
    }
    again, found = read(TIMM, source(values, num_heads=3, image_size=(12, 18)))
    for name, value in model.state_dict().items():
        expected = torch.zeros_like(value) if name.endswith("qkv.bias") else value
        assert torch.equal(again.state_dict()[name], expected)
    assert [rule.ours for rule in found.rules if not rule.theirs] == [
        ("blocks.0.attn.qkv.bias",),
        ("blocks.1.attn.qkv.bias",),
    ]


HOLDS: dict[str, tuple[Origin, dict[str, Any]]] = {
    "timm": (TIMM, PLAIN),
    "timm gap": (TIMM, PLAIN | {"pool": "gap"}),
    "timm gap beside cls": (TIMM, PLAIN | {"pool": "gap", "cls_token": True}),
    "timm fc_norm": (TIMM, PLAIN | {"pool": "gap", "cls_token": True, "norm_after_pool": True}),
    "timm map": (TIMM, PLAIN | {"pool": "map"}),
    "timm map with registers": (TIMM, PLAIN | {"pool": "map", "num_registers": 2}),
    "timm no head": (TIMM, PLAIN | {"num_classes": 0}),
    "timm tanh gelu": (TIMM, PLAIN | {"gelu": "gelu_tanh", "mlp_dim": 29}),
    "timm clip": (TIMM, PLAIN | {"pre_norm": True, "gelu": "quick_gelu", "ln_eps": 1e-5}),
    "timm no positions": (TIMM, PLAIN | {"posemb": "none"}),
    "timm swiglu": (TIMM, PLAIN | {"mlp": "swiglu", "layer_scale": 1e-5}),
    "timm rows apart": (TIMM, PLAIN | {"posemb_prefix": False, "num_registers": 3}),
    "timm two tokens": (TIMM, PLAIN | {"distillation_token": True}),
    "timm one channel": (TIMM, PLAIN | {"channels": 1}),
    "timm qk norm": (TIMM, PLAIN | {"qk_norm": True}),
    "timm stages": (
        TIMM,
        PLAIN | STEM | {"image_size": (24, 48), "patch_size": (1, 2), "stem_stages": (1, 2)},
    ),
    "timm root": (TIMM, PLAIN | STEM | {"image_size": (32, 48), "patch_size": (2, 3)}),
    "torchvision": (TORCHVISION, SQUARE),
    "torchvision pre_logits": (TORCHVISION, SQUARE | {"representation_size": 11}),
    "deit": (DEIT, SQUARE),
    "deit distilled": (DEIT, SQUARE | {"distillation_token": True}),
    "deit3": (DEIT, SQUARE | {"layer_scale": 1e-4, "posemb_prefix": False}),
    "dinov2": (DINOV2, SQUARE | {"layer_scale": 1e-5, "num_classes": 0}),
    "dinov2 head": (DINOV2, SQUARE | {"layer_scale": 1e-5, "pool": "cls_gap"}),
    "dinov2 registers": (
        DINOV2,
        SQUARE | {"layer_scale": 1e-5, "num_classes": 0, "num_registers": 4},
    ),
    "dinov2 swiglu": (DINOV2, SQUARE | {"layer_scale": 1e-5, "mlp": "swiglu", "num_classes": 0}),
}
FIELDS_WITHOUT_TENSORS = {"layer_scale"}  # the value that training started with


@pytest.mark.parametrize("name", HOLDS)
def test_models_come_back_as_they_were(name: str) -> None:
    """Tensors bit for bit, every field of the architecture, the same logits."""
    origin, fields = HOLDS[name]
    model = random_model(ViTConfig(**fields))
    assert_round_trip_with_heads(origin, model)


def test_bit_comes_back_as_it_was() -> None:
    for fields in (BIT, BIT | {"stem": "small", "num_classes": 0, "channels": 1}):
        assert_round_trip(TIMM, random_model(BiTConfig(**fields)))


def assert_round_trip_with_heads(origin: Origin, model: Any) -> None:
    config: ModelConfig = model.config
    file, record = write(origin, model)
    assert isinstance(config, ViTConfig)
    given = {"image_size": config.image_size, "num_heads": config.num_heads}
    metadata = {**file.header.metadata, "given": given, "origin": origin.name}
    again, found = read(origin, source(file.values, metadata))
    assert_same_tensors(model.state_dict(), again.state_dict())
    before, after = config.model_dump(), found.config.model_dump()
    differs = {key for key in before if before[key] != after[key]} - FIELDS_WITHOUT_TENSORS
    assert differs == set()
    images = pictures(config)
    assert torch.equal(model(images), again(images))
    twice, _ = write(origin, again)
    assert_same_tensors(file.values, twice.values)
    if record.files:  # config.json says everything by itself
        described = {"config.json": file.header.metadata["config.json"]}
        alone, _ = read(origin, source(file.values, described))
        assert_same_tensors(model.state_dict(), alone.state_dict())
        assert torch.equal(model(images), alone(images))


FORMS = [
    (TIMM, {"posemb": "sincos_2d"}),
    (TIMM, {"posemb": "learned_2d", "pool": "gap"}),
    (TIMM, {"posemb": "sincos_2d", "pre_norm": True, "ln_eps": 1e-5}),
    (TORCHVISION, {"posemb": "sincos_2d"}),
    (TORCHVISION, {"posemb_prefix": False}),
    (TORCHVISION, {"posemb": "none"}),
    (DEIT, {"posemb_prefix": False}),
    (DEIT, {"posemb": "learned_2d", "distillation_token": True}),
    (DEIT, {"layer_scale": 1e-4}),
    (DINOV2, {"layer_scale": 1e-4, "posemb_prefix": False, "num_classes": 0}),
]


@pytest.mark.parametrize(("origin", "fields"), FORMS)
def test_equal_forms(origin: Origin, fields: dict[str, Any]) -> None:
    """Positions in the format's own form: the same logits."""
    model = random_model(ViTConfig(**(SQUARE | fields)))
    file, _ = write(origin, model)
    metadata = {**file.header.metadata, "given": HEADS | {"num_heads": 3}, "origin": origin.name}
    again, _ = read(origin, source(file.values, metadata))
    images = pictures(model.config)  # type: ignore[arg-type]
    assert (model(images) - again(images)).abs().max() <= 1e-5


REFUSALS = [
    (TIMM, {"pool": "cls_gap"}, "pool"),
    (TIMM, {"posemb": "relative"}, "posemb"),
    (TIMM, {"posemb": "rope_2d", "gelu": "relu"}, "gelu"),
    (TIMM, {"posemb": "rope_2d", "pool": "cls_gap"}, "pool"),
    (TIMM, {"posemb": "rope_2d", "ln_eps": 1e-3}, "ln_eps"),
    (TIMM, {"posemb": "learned_rope_2d", "num_registers": 1}, "position row for registers"),
    (TIMM, {"posemb": "rope_2d", "rope": "index", "ln_eps": 1e-5}, "layer scale and rope_grid"),
    (TIMM, {"pool": "map", "map_heads": 1}, "map_heads"),
    (DEIT, {"posemb": "rope_2d"}, "posemb"),
    (TORCHVISION, {"posemb": "learned_rope_2d"}, "posemb"),
    (TIMM, {"representation_size": 8}, "representation_size"),
    (TIMM, {"ln_eps": 1e-12}, "ln_eps"),
    (TIMM, {"distillation_token": True, "posemb_prefix": False}, "position table"),
    (TIMM, {"distillation_token": True, "num_registers": 1}, "num_registers"),
    (
        TIMM,
        STEM | {"std_form": "outside", "image_size": (32, 32), "patch_size": (2, 2)},
        "std_form",
    ),
    (TORCHVISION, {"gelu": "gelu_tanh"}, "gelu"),
    (TORCHVISION, {"pool": "gap"}, "pool"),
    (TORCHVISION, {"num_classes": 0}, "no head"),
    (TORCHVISION, {"image_size": (10, 15)}, "10 x 15"),
    (TORCHVISION, {"channels": 1}, "1 input channel;"),
    (TORCHVISION, {"layer_scale": 1e-5}, "layer_scale"),
    (TORCHVISION, {"num_registers": 1}, "num_registers"),
    (DEIT, {"pool": "map"}, "pool"),
    (DEIT, {"mlp": "swiglu"}, "mlp"),
    (DEIT, {"ln_eps": 1e-5}, "ln_eps"),
    (DEIT, {"layer_scale": 1e-4, "distillation_token": True}, "distillation_token"),
    (DINOV2, {"num_classes": 0}, "layer scale"),
    (DINOV2, {"layer_scale": 1e-5}, "pool"),
    (DINOV2, {"layer_scale": 1e-5, "pool": "gap"}, "cls_token"),
]


@pytest.mark.parametrize(("origin", "fields", "words"), REFUSALS)
def test_what_a_format_cannot_hold(origin: Origin, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        write(origin, random_model(ViTConfig(**(SQUARE | fields))))
    assert caught.value.code == "VIT-417"


@pytest.mark.parametrize(
    ("origin", "words"), [(TORCHVISION, "ResNets"), (DEIT, "ResNet"), (DINOV2, "ResNet")]
)
def test_a_resnet_is_no_vit(origin: Origin, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        write(origin, random_model(BiTConfig(**BIT)))
    with pytest.raises(ModelError, match="style"):
        write(TIMM, random_model(BiTConfig(**(BIT | {"style": "v1_gn"}))))
