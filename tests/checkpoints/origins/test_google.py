"""Files of vision_transformer: golden outputs, both ways, equal forms, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.checkpoints.golden_case import (
    as_double,
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
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.bit_npz import BIT
from vitrail.checkpoints.origins.google import GOOGLE
from vitrail.errors import ModelError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import build
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.models.vit.config import ViTConfig

CASES: dict[str, dict[str, Any]] = {
    "google_vit_token": {},
    "google_vit_gap": {"image_size": (32, 48)},
    "google_vit_pre_logits": {},
    "google_hybrid_stages": {},
    "google_hybrid_stem": {},
}
FLAX: dict[str, Any] = {
    "image_size": (12, 18),
    "patch_size": (4, 6),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 20,
    "num_classes": 5,
    "gelu": "gelu_tanh",
}


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    model, _ = read(GOOGLE, case_source(case, **CASES[case]))
    assert_outputs(model, outputs(case))


@pytest.mark.parametrize("case", CASES)
def test_a_written_file_is_the_file_that_was_read(case: str) -> None:
    """But for (1, 1, 1, C) of old GroupNorms, which vision_transformer squeezes on reading."""
    file = case_source(case, **CASES[case])
    model, _ = read(GOOGLE, file)
    written = assert_round_trip(GOOGLE, model)
    squeezed = {
        name: value.flatten() if value.shape[:3] == (1, 1, 1) else value
        for name, value in file.values.items()
    }
    assert_same_tensors(written.values, squeezed)


def test_negative_control() -> None:
    file = case_source("google_vit_token")
    model, _ = fill(with_exchanged(recognised(GOOGLE, file)), file)
    expected = outputs("google_vit_token")
    assert (model(expected["x"]) - expected["logits"]).abs().max() > 1e-2


def test_what_is_not_stored_is_flax() -> None:
    """The same file with another GELU, eps or standardisation gives other logits."""
    case = "google_hybrid_stages"
    data = outputs(case)
    for field, value in {"gelu": "gelu", "ln_eps": 1e-3, "std_eps": 1e-2, "gn_eps": 1e-3}.items():
        model, _ = read(GOOGLE, case_source(case, **{field: value}))
        difference = as_double(model)(data["x"].double()) - data["logits_f64"]
        assert difference.abs().max() > 1e-5, field


@pytest.mark.parametrize("case", CASES)
def test_only_this_origin_recognises_them(case: str) -> None:
    header = case_source(case, **CASES[case]).header
    assert BIG_VISION.recognise(header) is None
    assert BIT.recognise(header) is None


@pytest.mark.parametrize("root", ["opt/target/", "params/"])
def test_roots(root: str) -> None:
    """Tensors below a root, an optimiser's beside them."""
    file = case_source("google_vit_token")
    model, _ = read(GOOGLE, file)
    beside = {
        "opt/state/step": torch.zeros(1),
        "opt/state/embedding/kernel": torch.zeros(1, 2, 3, 4),
    }
    rooted = source({f"{root}{name}": value for name, value in file.values.items()} | beside)
    again, found = read(GOOGLE, rooted)
    assert_same_tensors(model.state_dict(), again.state_dict())
    assert {rule.theirs[0] for rule in found.rules if not rule.ours} == set(beside)


def test_preprocessing_and_scores() -> None:
    """Squashed by TensorFlow without antialias, floats kept; 21,843 classes have a sigmoid each."""
    found = recognised(GOOGLE, case_source("google_vit_token"))
    record = found.preprocess
    assert (record.resize, record.crop, record.interpolation) == ((32, 32), "none", "bilinear")
    assert (record.resizer, record.antialias, record.keep_floats) == ("tensorflow", False, True)
    assert (record.mean, record.std) == ((0.5,) * 3, (0.5,) * 3)
    assert found.scores == "softmax"
    file = case_source("google_vit_token")
    values = dict(file.values) | {
        "head/kernel": torch.zeros(32, 21843),
        "head/bias": torch.zeros(21843),
    }
    assert recognised(GOOGLE, source(values)).scores == "sigmoid"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"posemb_prefix": False},
        {"posemb": "none"},
        {"posemb": "learned_2d"},
        {"posemb": "sincos_2d"},
        {"pool": "gap"},
        {"pool": "gap", "posemb": "sincos_2d"},
        {"pool": "gap", "posemb": "learned_2d", "num_classes": 0},
        {"num_classes": 0, "representation_size": 7},
        {"channels": 1, "dropout": 0.1, "drop_path": 0.1, "head_bias_init": -10.0},
        {"image_size": (66, 130), "patch_size": (1, 3), "stem": "resnet", "stem_stages": (1, 2, 1)}
        | {"stem_width": 32},
        {"image_size": (34, 60), "patch_size": (3, 5), "stem": "resnet", "stem_width": 32},
    ],
)
def test_equal_forms_give_equal_logits(fields: dict[str, Any]) -> None:
    """Positions in the form of the format: the same sums, so the same bits."""
    config = ViTConfig(**(FLAX | fields))
    model = random_model(config)
    file, _ = write(GOOGLE, model)
    again, _ = read(GOOGLE, file)
    images = pictures(config)
    logits = model(images)
    assert logits.isfinite().all()
    assert logits.std() > 1e-3
    assert torch.equal(again(images), logits)
    assert_round_trip(GOOGLE, again)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"gelu": "gelu"}, "gelu"),
        ({"ln_eps": 1e-5}, "ln_eps"),
        ({"num_registers": 2}, "num_registers"),
        ({"layer_scale": 1e-5}, "layer_scale"),
        ({"qk_norm": True}, "qk_norm"),
        ({"mlp": "swiglu", "gelu": "gelu"}, "gelu"),
        ({"posemb": "rope_2d"}, "posemb"),
        ({"posemb": "relative"}, "posemb"),
        ({"pool": "map"}, "pool"),
        ({"pool": "cls_gap"}, "pool"),
        ({"pool": "gap", "cls_token": True}, "class token"),
        ({"pool": "gap", "norm_after_pool": True}, "norm_after_pool"),
        ({"distillation_token": True}, "distillation_token"),
        ({"pre_norm": True}, "pre_norm"),
        (
            {"image_size": (48, 48), "patch_size": (1, 1), "stem": "resnet", "gn_eps": 1e-5},
            "gn_eps",
        ),
    ],
)
def test_refuses_what_the_format_cannot_hold(fields: dict[str, Any], named: str) -> None:
    config = ViTConfig(**(FLAX | fields))
    with pytest.raises(ModelError, match=named) as error:
        write(GOOGLE, random_model(config))
    assert error.value.code == "VIT-417"


def test_refuses_a_resnet() -> None:
    config = BiTConfig(image_size=(32, 32), depths=(1,), num_classes=2)
    with pytest.raises(ModelError, match="ResNet"):
        write(GOOGLE, random_model(config))


def test_says_what_an_npz_does_not_hold() -> None:
    model = random_model(ViTConfig(**FLAX))
    _, record = write(GOOGLE, model, classes=("ant", "bee", "cat", "dog", "eel"))
    assert [note.split()[0] for note in record.notes] == ["class", "the", "the"]
    assert "12 x 18" in record.notes[-1]
    assert record.container == "npz"
    assert not record.files


@pytest.mark.parametrize(
    ("drop", "add", "code"),
    [
        ("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel", {}, "VIT-418"),
        ("Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel", {}, "VIT-418"),
        ("", {"head/kernel": torch.zeros(3)}, "VIT-418"),
        ("", {"Transformer/posembed_input/pos_embedding": torch.zeros(1, 16, 32)}, "VIT-420"),
        ("", {"embedding/kernel": torch.zeros(8, 8, 3, 31)}, "VIT-418"),
        ("", {"conv_root/kernel": torch.zeros(7, 7, 3, 5)}, "VIT-418"),
    ],
)
def test_headers_that_describe_no_model(drop: str, add: dict[str, Any], code: str) -> None:
    file = case_source("google_vit_token")
    values = {name: value for name, value in file.values.items() if name != drop} | add
    with pytest.raises(ModelError) as error:
        recognised(GOOGLE, source(values))
    assert error.value.code == code


def test_other_files_are_not_its_own() -> None:
    for names in ([], ["embedding/bias"], ["patch_embed.proj.weight"], ["conv_root/kernel"]):
        assert GOOGLE.recognise(source({name: torch.zeros(1) for name in names}).header) is None


@pytest.mark.parametrize(
    "name", ["vit_b16", "r50_vit_b16", "r26_vit_s32", "r_vit_ti16", "r50_vit_l32", "vit_h14"]
)
def test_published_sizes_are_told_from_shapes(name: str) -> None:
    """The header that each published size would have gives the configuration back."""
    config: ModelConfig = resolve_model(name, num_classes=1000, overrides={"gelu": "gelu_tanh"})
    with torch.device("meta"):
        file, _ = write(GOOGLE, build(config))
    file.header.metadata.clear()  # type: ignore[attr-defined]
    assert recognised(GOOGLE, file).config == config
