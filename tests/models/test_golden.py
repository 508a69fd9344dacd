"""Parity with timm (rung 3 of the ladder): its names, its weights, its logits.

The cases were made by timm itself (huggingface/pytorch-image-models @aa4b585), every parameter
random. Here the model is built from literal fields; that the files are recognised without them is
for tests/checkpoints.
"""

from __future__ import annotations

from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.case import Case, read_case
from vitrail.models.bit.config import BiTConfig
from vitrail.models.bit.model import BiTResNet
from vitrail.models.create import build
from vitrail.models.layers.tap import TapDict
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

# timm's stems standardise and normalise with other numbers than Flax's.
TIMM_STEM = {"stem": "resnet", "stem_width": 32, "std_form": "inside", "std_eps": 1e-8}
TIMM_STEM |= {"gn_eps": 1e-5}
POOL = {"token": "cls", "avg": "gap", "map": "map"}
# What a case's own record does not say in our words.
CASES: dict[str, dict[str, Any]] = {
    "timm_vit_token": {},
    "timm_vit_gap": {},
    "timm_deit3": {"layer_scale": 1.0, "posemb_prefix": False},
    "timm_vit_qk_norm": {"qk_norm": True},
    "timm_siglip_map": {},
    "timm_dinov2_reg4": {"layer_scale": 1.0, "num_registers": 4, "posemb_prefix": False},
    "timm_dinov2_swiglu": {"layer_scale": 1.0, "mlp": "swiglu", "mlp_dim": 64},
    "timm_deit_distilled": {"distillation_token": True},
    "timm_vit_avg_fcnorm": {"cls_token": True, "norm_after_pool": True},
    "timm_hybrid_stem": TIMM_STEM,
    "timm_hybrid_stages": TIMM_STEM | {"stem_stages": (1, 1)},
    "timm_clip_prenorm": {"pre_norm": True, "gelu": "quick_gelu", "ln_eps": 1e-5},
}


def load(case: Case, parameters: dict[str, Tensor]) -> ViT:
    """A model with timm's parameters under their own names."""
    said = case.record["config"]
    fields = {
        "image_size": said["input_size"],
        "patch_size": said["patch_size"],
        "width": said["width"],
        "depth": said["depth"],
        "num_heads": said["heads"],
        "mlp_dim": said["mlp_hidden"],
        "num_classes": said["num_classes"],
        "pool": POOL[said["global_pool"]],
    }
    model = build(ViTConfig(**(fields | CASES[case.folder.name])))
    assert isinstance(model, ViT)
    model.load_state_dict(parameters, strict=True, assign=True)
    return model.eval()


def bit(case: Case, **changes: Any) -> BiTResNet:
    """The model of the case timm_bit."""
    said = case.record["config"]
    fields = {"image_size": said["image_size"], "depths": said["layers"], "std_eps": 1e-8}
    fields |= {"width_factor": said["stem_chs"] / 64, "num_classes": said["num_classes"]}
    model = build(BiTConfig(**(fields | changes)))
    assert isinstance(model, BiTResNet)
    model.load_state_dict(load_file(case.checkpoint), strict=True, assign=True)
    return model.eval()


def test_bit() -> None:
    """Logits, and every map in float64 beside timm's in float32; with 1e-5 for 1e-8 it is off."""
    case = read_case("timm_bit")
    model, data = bit(case), case.arrays
    assert (model(data["x"]) - data["logits"]).abs().max() <= 1e-5
    store: TapDict = {}
    logits = model.double()(data["x"].double(), tap=store)
    assert (logits - data["logits_f64"]).abs().max() <= 1e-12
    for name in ("stem", "stage0", "stage1", "feature_map", "pre_logits"):
        value = store[name]
        assert value is not None
        # 2e-6 of the largest value is some ten roundings.
        assert (value - data[name]).abs().max() <= 2e-6 * data[name].abs().max(), name
    wrong = bit(case, std_eps=1e-5).double()(data["x"].double())
    assert (wrong - data["logits_f64"]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("timm_vit_avg_fcnorm", {"norm_after_pool": False}),
        ("timm_hybrid_stem", {"gn_eps": 1e-6}),
        ("timm_hybrid_stages", {"std_form": "outside"}),
    ],
)
def test_wrong_fields_are_seen(
    name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: the logits of another configuration must not agree."""
    case = read_case(name)
    parameters = load_file(case.checkpoint)
    if "norm_after_pool" in changes:
        for kind in ("weight", "bias"):
            parameters[f"norm.{kind}"] = parameters.pop(f"fc_norm.{kind}")
    monkeypatch.setitem(CASES, name, CASES[name] | changes)
    model = load(case, parameters).double()
    assert (model(case.arrays["x"].double()) - case.arrays["logits_f64"]).abs().max() > 1e-9


def test_negative_control() -> None:
    """With q, k and v in another order the logits must not agree."""
    case = read_case("timm_siglip_map")
    parameters = load_file(case.checkpoint)
    weight = parameters["blocks.0.attn.qkv.weight"]
    parameters["blocks.0.attn.qkv.weight"] = weight.roll(weight.shape[1], 0)
    logits = load(case, parameters)(case.arrays["x"])
    assert (logits - case.arrays["logits"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_every_golden_case(name: str) -> None:
    """Logits, the sequence after embedding and blocks, and attention."""
    case = read_case(name)
    model, data = load(case, load_file(case.checkpoint)), case.arrays
    assert (model(data["x"]) - data["logits"]).abs().max() <= 1e-5
    store: TapDict = {}
    logits = model.double()(data["x"].double(), tap=store)
    assert (logits - data["logits_f64"]).abs().max() <= 1e-12
    found = {"embedded": store["embedded"], "tokens": store["tokens"]}
    for index in range(case.record["config"]["depth"]):
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
