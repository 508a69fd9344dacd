"""Files of big_vision: golden outputs, both ways, equal forms, FlexiViT, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
from vitrail.checkpoints.adapt.patch_resize import resize_patch
from vitrail.checkpoints.adapt.posemb_resize import resize_posemb
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.bit_npz import BIT
from vitrail.checkpoints.origins.google import GOOGLE
from vitrail.errors import ModelError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import build
from vitrail.models.vit.config import ViTConfig

CASES: dict[str, dict[str, Any]] = {
    "bv_vit_tok_learn": {"image_size": (24, 40)},
    "bv_vit_gap_rep": {"image_size": (32, 32)},
    "bv_vit_map_scan": {},
    "bv_bit_v1": {"image_size": (32, 40)},
}
VIT: dict[str, Any] = {
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
    model, _ = read(BIG_VISION, case_source(case, **CASES[case]))
    assert_outputs(model, outputs(case))


@pytest.mark.parametrize("case", [*CASES, "bv_flexivit"])
def test_round_trip(case: str) -> None:
    """Written below "params/", a block a module."""
    file = case_source(case, **CASES.get(case, {}))
    written = assert_round_trip(BIG_VISION, read(BIG_VISION, file)[0])
    if case != "bv_vit_map_scan":
        assert_same_tensors(written.values, file.values)


@pytest.mark.parametrize("case", CASES)
def test_only_this_origin_recognises_them(case: str) -> None:
    header = case_source(case, **CASES[case]).header
    assert GOOGLE.recognise(header) is None
    assert BIT.recognise(header) is None


@pytest.mark.parametrize("case", ["bv_vit_tok_learn", "bv_vit_map_scan"])
def test_negative_control(case: str) -> None:
    file = case_source(case, **CASES[case])
    model, _ = fill(with_exchanged(recognised(BIG_VISION, file)), file)
    expected = outputs(case)
    assert (model(expected["x"]) - expected["logits"]).abs().max() > 1e-2


@pytest.mark.parametrize("side", [6, 4, 3, 8])
def test_flexivit_at_every_grid(side: int) -> None:
    """Kernel and positions of the file, resized as big_vision does, give its logits."""
    found = recognised(BIG_VISION, case_source("bv_flexivit"))
    stored, _ = read(BIG_VISION, case_source("bv_flexivit"))
    data = outputs("bv_flexivit")
    assert isinstance(found.config, ViTConfig)
    assert found.config.grid == (4, 4)
    assert found.resample == "flexi"
    patch = 48 // side
    config = ViTConfig(**(found.config.model_dump() | {"image_size": 48, "patch_size": patch}))
    state = dict(stored.state_dict())
    kernel = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = resize_patch(kernel, (patch, patch), "pi")
    table = resize_posemb(state["pos_embed"], (4, 4), (side, side), 0, "flexi")
    state["pos_embed"] = table
    model = build(config)
    model.load_state_dict(state, strict=True, assign=True)
    tap: dict[str, Any] = {}
    logits = model.eval()(data["x"], tap=tap)
    assert (logits - data[f"logits_seq{side}"]).abs().max() <= 1e-5
    assert (tap["tokens"] - data[f"tokens_seq{side}"]).abs().max() <= 1e-5
    stem = data[f"stem_seq{side}"].flatten(1, 2)
    assert (tap["patches"] - stem).abs().max() <= 1e-5


def test_two_towers() -> None:
    """The text tower is left out by name, with the reason."""
    file = case_source("bv_vit_map_scan")
    text = {
        "params/t": torch.zeros(1),
        "params/txt/Embed_0/embedding": torch.zeros(9, 32),
        "params/txt/Encoder_0/encoder_norm/scale": torch.zeros(32),
    }
    both = source(dict(file.values) | text)
    found = recognised(BIG_VISION, both)
    _, report = fill(found, both)
    assert report.is_complete
    assert {name for name, _ in report.left_out} == set(text)


def test_scan_is_blocks_stacked() -> None:
    """Stacking the blocks of a file by hand gives the same model."""
    file = case_source("bv_vit_tok_learn", image_size=(24, 40))
    model, _ = read(BIG_VISION, file)
    start = "params/Transformer/encoderblock_0/"
    names = [name.removeprefix(start) for name in file.values if name.startswith(start)]
    values = {name: value for name, value in file.values.items() if "encoderblock_" not in name}
    values |= {
        f"params/Transformer/encoderblock/{name}": torch.stack(
            [file.values[f"params/Transformer/encoderblock_{i}/{name}"] for i in range(2)]
        )
        for name in names
    }
    again, _ = read(BIG_VISION, source(values, image_size=(24, 40)))
    assert_same_tensors(model.state_dict(), again.state_dict())


def test_bfloat16_becomes_float32() -> None:
    """The reader gives bfloat16 tensors: their values, widened."""
    file = case_source("bv_vit_tok_learn", image_size=(24, 40))
    halves = {name: value.bfloat16() for name, value in file.values.items()}
    model, _ = read(BIG_VISION, source(halves, image_size=(24, 40)))
    bias = halves["params/head/bias"]
    assert torch.equal(model.state_dict()["head.bias"], bias.float())
    assert model.state_dict()["head.bias"].dtype == torch.float32


def test_table_with_a_row_for_cls() -> None:
    """Early files have one here too: told by a number of rows that is a square and one."""
    config = ViTConfig(**(VIT | {"image_size": (12, 12), "patch_size": (4, 4)}))
    model = random_model(config)
    assert config.posemb_prefix
    file, _ = write(BIG_VISION, model)
    state = model.state_dict()
    values = dict(file.values)
    values |= {"params/cls": state["cls_token"], "params/pos_embedding": state["pos_embed"]}
    again, found = read(BIG_VISION, source(values))
    assert found.config == config
    assert_same_tensors(again.state_dict(), state)


def test_preprocessing() -> None:
    """A crop of the short side by area, 8/7 of the size (256 for 224); SigLIP's squash."""
    cropped = recognised(BIG_VISION, case_source("bv_vit_gap_rep")).preprocess
    assert (cropped.height, cropped.resize, cropped.crop) == (224, 256, "center_floor")
    assert (cropped.resizer, cropped.interpolation) == ("tensorflow", "area")
    squashed = recognised(BIG_VISION, case_source("bv_vit_map_scan")).preprocess
    assert (squashed.resize, squashed.interpolation) == ((32, 32), "bilinear")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"posemb_prefix": False},
        {"posemb": "none"},
        {"posemb": "learned_2d"},
        {"posemb": "sincos_2d"},
        {"pool": "gap"},
        {"pool": "map", "posemb": "sincos_2d", "representation_size": 7},
        {"pool": "map", "num_classes": 0, "channels": 1},
    ],
)
def test_equal_forms_give_equal_logits(fields: dict[str, Any]) -> None:
    config = ViTConfig(**(VIT | fields))
    model = random_model(config)
    file, _ = write(BIG_VISION, model)
    again, _ = read(BIG_VISION, file)
    images = pictures(config)
    assert torch.equal(again(images), model(images))
    assert_round_trip(BIG_VISION, again)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"gelu": "gelu"}, "gelu"),
        ({"num_registers": 2}, "num_registers"),
        ({"layer_scale": 1e-5}, "layer_scale"),
        ({"posemb": "rope_2d"}, "posemb"),
        ({"pool": "map", "cls_token": True}, "class token"),
        ({"image_size": (48, 48), "patch_size": (1, 1), "stem": "resnet"}, "stem"),
    ],
)
def test_refuses_what_the_format_cannot_hold(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named) as error:
        write(BIG_VISION, random_model(ViTConfig(**(VIT | fields))))
    assert error.value.code == "VIT-417"


@pytest.mark.parametrize(
    ("fields", "named"), [({"style": "v2"}, "style"), ({"stem": "small"}, "stem")]
)
def test_refuses_other_resnets(fields: dict[str, Any], named: str) -> None:
    bit: dict[str, Any] = {"image_size": (32, 32), "depths": (1, 1), "style": "v1_gn"}
    with pytest.raises(ModelError, match=f"{named} is") as error:
        write(BIG_VISION, random_model(BiTConfig(**(bit | {"num_classes": 3} | fields))))
    assert error.value.code == "VIT-417"


def test_a_root_of_no_width_is_refused() -> None:
    file = case_source("bv_bit_v1")
    values = dict(file.values) | {"params/conv_root/kernel": torch.zeros(7, 7, 3, 5)}
    with pytest.raises(ModelError) as error:
        recognised(BIG_VISION, source(values))
    assert error.value.code == "VIT-418"
