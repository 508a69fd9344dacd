"""Parity with timm (rung 3 of the ladder): its names, its files, its logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from torch import Tensor

from tests.golden.pack_vit import CASES, COMMITTED, read_case
from vitrail.models.configs import ViTConfig
from vitrail.models.create import build
from vitrail.models.tap import TapDict
from vitrail.models.vit import ViT

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "vit"


def load(config: ViTConfig, parameters: dict[str, Tensor]) -> ViT:
    """A model with timm's parameters under their own names."""
    model = build(config)
    model.load_state_dict(parameters, strict=True, assign=True)
    return model.eval()


def read(name: str) -> tuple[dict[str, Tensor], ViTConfig]:
    """Parameters, `x` and `logits_f64` of a committed file, and its architecture."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        config = ViTConfig(**json.loads(file.metadata()["config"]))
        names = list(file.keys())
        return {key.removeprefix("model."): file.get_tensor(key) for key in names}, config


@pytest.mark.parametrize("name", COMMITTED)
def test_timm_files_give_timm_logits(name: str) -> None:
    tensors, config = read(name)
    images, expected = tensors.pop("x"), tensors.pop("logits_f64")
    model = load(config, tensors)
    assert (model(images).double() - expected).abs().max() <= 1e-5
    assert (model.double()(images.double()) - expected).abs().max() <= 1e-12


def test_negative_control() -> None:
    """With q, k and v in another order the logits must not agree."""
    tensors, config = read(COMMITTED[0])
    images, expected = tensors.pop("x"), tensors.pop("logits_f64")
    tensors["blocks.0.attn.qkv.weight"] = tensors["blocks.0.attn.qkv.weight"].roll(config.width, 0)
    assert (load(config, tensors)(images) - expected).abs().max() > 1e-3


@pytest.mark.data
@pytest.mark.parametrize("name", CASES)
def test_every_golden_case(name: str, shared_data: Path) -> None:
    """Logits, the sequence after embedding and blocks, and attention, of every case at hand."""
    folder = shared_data.parent / "golden" / name
    if not folder.is_dir():
        pytest.skip(f"the golden cases are not at hand: {folder} is absent")
    fields, parameters, data = read_case(folder)
    model = load(ViTConfig(**fields), parameters)
    assert (model(data["x"]) - data["logits"]).abs().max() <= 1e-5
    store: TapDict = {}
    logits = model.double()(data["x"].double(), tap=store)
    assert (logits - data["logits_f64"]).abs().max() <= 1e-12
    found = {"embedded": store["embedded"], "tokens": store["tokens"]}
    for index in range(fields["depth"]):
        found[f"blocks/{index}"] = store[f"block{index:02d}/output"]
        found[f"attn/{index}"] = store[f"block{index:02d}/attention"]
    for key, value in found.items():
        array, _, index_text = key.partition("/")
        expected = data[array][int(index_text)] if index_text else data[array]
        assert value is not None
        # The recorded arrays are float32: 2e-5 is some ten roundings of their largest values.
        assert (value - expected).abs().max() <= 2e-5, key
    if "attn_pool" in data:
        weights = store["pool/attention"]
        assert weights is not None
        assert (weights - data["attn_pool"]).abs().max() <= 1e-6
