"""196 architectures of timm by their headers: what would be built of each, against the facts.

`tests/golden/timm_layouts.json.gz` has config.json, names and shapes of tensors, and facts of the
built module (heads, eps, activation, block, pooling, rotary positions). No weights are allocated.
Read as a folder of the hub and as a bare file, every one is as the facts say, or refused.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import pytest
from torch import nn

from tests.golden.case import CASES
from vitrail.checkpoints.adapt.request import tensor_shapes
from vitrail.checkpoints.catalogue.published_row import ROWS
from vitrail.checkpoints.mapping.origin import Recognised
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins import torch_layout
from vitrail.checkpoints.recognise import recognise
from vitrail.errors import ModelError
from vitrail.models.create import Model, build
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

FILE = CASES.parent / "timm_layouts.json.gz"
GELUS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu"}
POOLS = {"token": "cls", "avg": "gap", "map": "map"}
BLOCKS = {"pre": ("Block", "EvaBlock"), "branch": ("ResPostBlock",)}
ATTENTIONS = ("Attention", "EvaAttention", "AttentionRope")
# How many are read; the others have layers that no model of ours has: relative positions (BEiT,
# SAM), rotary ones with learned frequencies, parallel and differential blocks, RMS norms. Rotary
# models are read by the name of their entry only.
CODES = ("VIT-413", "VIT-418", "VIT-419", "VIT-420", "VIT-422")
LEAST_READ = {True: 178, False: 124}


@cache
def layouts() -> dict[str, dict[str, Any]]:
    with gzip.open(FILE) as file:
        found: dict[str, dict[str, Any]] = json.load(file)["layouts"]
    return found


@pytest.fixture(autouse=True)
def _built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a configuration once for both readings, without initial values: most of the time
    would go into these.
    """
    for kind in (nn.Linear, nn.LayerNorm, nn.Conv2d):
        monkeypatch.setattr(kind, "reset_parameters", lambda self: None)
    monkeypatch.setattr(torch_layout, "build", built)


BUILT: dict[str, Model] = {}


def built(config: ModelConfig) -> Model:
    key = config.model_dump_json(exclude={"gelu", "ln_eps"})
    if key not in BUILT:
        BUILT[key] = build(config)
    return BUILT[key]


def header_of(name: str, *, is_folder: bool) -> Header:
    layout = layouts()[name]
    shapes = {key: tuple(shape) for key, shape in layout["tensors"].items()}
    beside = {"config.json": layout["config"]} if is_folder else {}
    title = f"{name}/model.safetensors" if is_folder else "model.safetensors"
    return Header(title, shapes, dict.fromkeys(shapes, "F32"), beside)


def read(name: str, *, is_folder: bool) -> Recognised | None:
    """None where it is refused, also for a tensor without a place or of another shape."""
    header = header_of(name, is_folder=is_folder)
    try:
        match = recognise(header, None)
    except ModelError as error:
        if error.code not in CODES or not error.hint:
            raise
        return None
    found, shapes = match.found, match.view.header.shapes
    model = found.model or built(found.config)
    ours = tensor_shapes(model)
    theirs = {name for rule in found.rules for name in rule.theirs}
    same = [rule for rule in found.rules if rule.keeps]
    fits = all(ours[r.ours[0]] == shapes.get(r.theirs[0]) for r in same)
    return found if fits and theirs == set(shapes) else None


def differences(found: Recognised, facts: dict[str, Any]) -> list[str]:
    config = found.config
    assert isinstance(config, ViTConfig)
    pairs = {
        "heads": (config.num_heads, facts["heads"]),
        "eps": (config.ln_eps, facts["eps"]),
        "pool": (config.pool, POOLS[facts["pool"]]),
        "rope": (config.is_rotary, facts["rope"]),
        "block": (True, facts["block"] in BLOCKS[config.block]),
        "attention": (True, facts["attn"] in ATTENTIONS),
        "norm": ("LayerNorm", facts["norm"]),
        "prefix": (config.num_prefix, facts["num_prefix_tokens"]),
    }
    if config.mlp == "gelu":
        pairs["activation"] = (config.gelu, GELUS.get(facts["act"]))
    if config.pool == "map" and config.num_prefix:  # timm's Eva has no such switch: it sees all
        seen = facts["pool_include_prefix"] is not False
        pairs["pooled prefix"] = (config.map_prefix, seen)
    return [
        f"{key} {ours}, not {theirs}" for key, (ours, theirs) in pairs.items() if ours != theirs
    ]


@pytest.mark.promise("M8")
@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "bare"])
def test_none_is_misread(is_folder: bool) -> None:
    misread, num_read = {}, 0
    for name, layout in layouts().items():
        found = read(name, is_folder=is_folder)
        if found is not None:
            num_read += 1
            if wrong := differences(found, layout["facts"]):
                misread[name] = wrong
    assert misread == {}
    assert num_read >= LEAST_READ[is_folder]


@pytest.mark.parametrize(
    ("name", "is_folder", "words"),
    [
        ("vit_base_patch16_rope_mixed_224", True, "frequencies are learned"),
        ("vit_base_patch16_rope_224", False, "rotary positions"),
        ("vit_base_patch16_rope_ape_224", False, "deit_3_base_224_1k"),
        ("vit_small_patch16_dinov3", False, "rotary positions"),
        ("vit_pe_core_base_patch16_224", False, "Perception Encoder"),
        ("beit_base_patch16_224", False, "relative positions"),
        ("samvit_base_patch16_224", False, "relative positions"),
        ("vit_base_patch16_clip_quickgelu_224", False, "gelu quick_gelu"),
        ("vit_base_patch16_gap_224", False, "num_heads 16"),
        ("test_vit4", False, "RMS norms"),
        ("naflexvit_base_patch16_gap", False, "variable resolution"),
        ("vit_base_patch16_xp_224", False, "parallel branches"),
        ("vit_pwee_patch16_reg1_gap_256", False, "parallel branches"),
        ("vit_dlittle_patch16_reg1_gap_256", False, "differential attention"),
    ],
)
def test_what_is_refused_is_named(name: str, is_folder: bool, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        recognise(header_of(name, is_folder=is_folder), None)
    assert words in caught.value.message


@pytest.mark.promise("M8")
@pytest.mark.parametrize("name", ["vit_base_patch16_new_224", "my_vit", ""])
def test_an_entry_that_nobody_checked_is_asked_for(name: str) -> None:
    header = header_of("vit_base_patch16_224", is_folder=True)
    header.metadata["config.json"]["architecture"], before = (
        name,
        header.metadata["config.json"]["architecture"],
    )
    try:
        with pytest.raises(ModelError, match="num_heads, gelu, ln_eps") as caught:
            recognise(header, None)
    finally:
        header.metadata["config.json"]["architecture"] = before
    assert caught.value.code == "VIT-419"


def test_rows_that_share_shapes_differ_in_what_can_be_stated() -> None:
    """Otherwise nothing would be asked, and one of them would be misread."""
    for one in ROWS:
        for other in ROWS:
            if one is not other and (one.size, one.form) == (other.size, other.form):
                assert one.function != other.function, (one.names, other.names)
                assert one.more == other.more or "posemb" in {
                    field for field in one.function if one.function[field] != other.function[field]
                }, (one.names, other.names)
