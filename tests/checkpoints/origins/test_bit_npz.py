"""Released BiT files: golden outputs, both ways, TensorFlow's numbers, refusals."""

from __future__ import annotations

import re
from dataclasses import replace
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
    random_model,
    read,
    recognised,
    source,
    write,
)
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.bit_npz import BIT
from vitrail.checkpoints.origins.google import GOOGLE
from vitrail.errors import ModelError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.vit.config import ViTConfig

CASE, SIZE = "bit_tf_npz", (48, 48)


pytestmark = pytest.mark.usefixtures("no_gradients")


def test_golden() -> None:
    model, _ = read(BIT, case_source(CASE, image_size=SIZE))
    assert_outputs(model, outputs(CASE))


def test_a_written_file_is_the_file_that_was_read() -> None:
    file = case_source(CASE, image_size=SIZE)
    model, _ = read(BIT, file)
    assert_same_tensors(assert_round_trip(BIT, model).values, file.values)


def test_negative_control() -> None:
    """With the norms of a unit exchanged the logits must not agree."""
    file = case_source(CASE, image_size=SIZE)
    found = recognised(BIT, file)
    exchanged = {"/b/": "/c/", "/c/": "/b/"}
    rules = [
        replace(
            rule,
            theirs=tuple(
                re.sub("/[bc]/", lambda match: exchanged[match[0]], name)
                if "group_norm" in name
                else name
                for name in rule.theirs
            ),
        )
        for rule in found.rules
    ]
    assert rules != found.rules
    model, _ = fill(replace(found, rules=rules), file)
    expected = outputs(CASE)
    assert (model(expected["x"]) - expected["logits"]).abs().max() > 1e-2


def test_numbers_behind_layers() -> None:
    """TensorFlow counts layers of a name: standardized_conv2d_17, group_norm_3."""
    file = case_source(CASE, image_size=SIZE)
    counted = {
        re.sub("(standardized_conv2d|group_norm)/", rf"\g<1>_{number}/", name): value
        for number, (name, value) in enumerate(file.values.items(), 1)
    }
    assert len(counted) == len(file.values)
    model, _ = read(BIT, file)
    again, _ = read(BIT, source(counted, image_size=SIZE))
    assert_same_tensors(model.state_dict(), again.state_dict())


def test_image_size_and_preprocessing() -> None:
    """480 px squashed by Pillow where nothing is stated, as big_transfer fine-tunes."""
    found = recognised(BIT, case_source(CASE))
    assert found.config.image_size == (480, 480)
    assert (found.preprocess.resize, found.preprocess.interpolation) == ((480, 480), "bilinear")
    assert found.preprocess.resizer == "pillow"
    assert found.said["image_size"].source == "assumed"


@pytest.mark.parametrize("origin", [GOOGLE, BIG_VISION])
def test_only_this_origin_recognises_it(origin: Any) -> None:
    assert origin.recognise(case_source(CASE).header) is None
    assert BIT.recognise(case_source("bv_bit_v1").header) is None


@pytest.mark.parametrize("num_classes", [0, 3])
def test_units_and_head(num_classes: int) -> None:
    """Two-digit units, projections in the first of a stage only, a file without a head."""
    config = BiTConfig(
        image_size=(33, 35), depths=(11, 2), width_factor=0.5, num_classes=num_classes
    )
    model = random_model(config)
    file = assert_round_trip(BIT, model)
    assert "resnet/block1/unit11/a/standardized_conv2d/kernel" in file.values
    projections = [name for name in file.values if "/proj/" in name]
    assert [name.split("/")[1:3] for name in projections] == [
        ["block1", "unit01"],
        ["block2", "unit01"],
    ]
    assert ("resnet/head/conv2d/kernel" in file.values) == bool(num_classes)


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"style": "v1_gn"}, "style"), ({"stem": "small"}, "stem"), ({"std_eps": 1e-8}, "std_eps")],
)
def test_refuses_other_resnets(fields: dict[str, Any], named: str) -> None:
    bit: dict[str, Any] = {"image_size": (32, 32), "depths": (1,), "num_classes": 3}
    with pytest.raises(ModelError, match=f"{named} is") as error:
        write(BIT, random_model(BiTConfig(**(bit | fields))))
    assert error.value.code == "VIT-417"


def test_refuses_a_vision_transformer() -> None:
    config = ViTConfig(
        image_size=(8, 8), patch_size=(4, 4), width=8, depth=1, num_heads=2, mlp_dim=8
    )
    with pytest.raises(ModelError, match="Vision Transformer"):
        write(BIT, random_model(config))


@pytest.mark.parametrize("shape", [(3, 3, 3, 32), (7, 7, 3), (7, 7, 3, 5)])
def test_roots_that_describe_no_model(shape: tuple[int, ...]) -> None:
    file = case_source(CASE)
    name = "resnet/root_block/standardized_conv2d/kernel"
    with pytest.raises(ModelError) as error:
        recognised(BIT, source(dict(file.values) | {name: torch.zeros(shape)}))
    assert error.value.code == "VIT-418"
