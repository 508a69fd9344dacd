"""Families of timm beside the plain ViT: what timm itself answers, and back.

How the folders were made: timm_families.md.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.check_model import random_model
from vitrail.checkpoints.adapt.adapt_model import adapt, target_config
from vitrail.checkpoints.external import ExternalCheckpoint, read_external, write_foreign
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.timm_entries import ENTRIES, Rotation
from vitrail.checkpoints.origins.timm_eva import channel_order
from vitrail.checkpoints.recognise import recognise
from vitrail.errors import ModelError
from vitrail.models.create import Model, build
from vitrail.models.vit.config import ViTConfig

FAMILIES = Path(__file__).with_name("timm_families")
NAMES = sorted(path.name for path in FAMILIES.iterdir())
# Fields that no tensor shows, beside those of every ViT.
TOLD: dict[str, dict[str, Any]] = {
    "eva_giant_patch14_224": {"posemb": "learned", "norm_after_pool": True},
    "eva02_tiny_patch14_224": {
        "posemb": "learned_rope_2d",
        "rope": "index",
        "rope_base": 1e4,
        "rope_start": 0.0,
        "rope_grid": (16, 16),
        "mlp": "swiglu",
        "pool": "gap",
    },
    "vit_base_patch16_rope_reg1_gap_256": {"posemb": "rope_2d", "rope_grid": (16, 16)},
    "vit_base_patch16_rope_ape_224": {
        "posemb": "learned_rope_2d",
        "posemb_prefix": False,
        "rope": "index",
        "rope_base": 100.0,
        "rope_grid": None,
        "pool": "cls",
    },
    "vit_small_patch16_dinov3_qkvb": {
        "posemb": "rope_2d",
        "rope": "centred",
        "rope_base": 100.0,
        "ln_eps": 1e-5,
        "pool": "gap",
        "num_registers": 4,
    },
    "vit_huge_plus_patch16_dinov3": {"posemb": "rope_2d", "mlp": "swiglu"},
    "vit_pe_core_base_patch16_224": {
        "posemb": "learned_rope_2d",
        "posemb_prefix": True,
        "rope": "index",
        "rope_start": 1.0,
        "rope_grid": (14, 14),
        "pool": "map",
        "map_heads": 4,
        "map_mlp_dim": 19,
        "map_prefix": True,
    },
    "vit_pe_lang_large_patch14_448": {"rope_grid": (32, 32), "final_norm": False, "pool": "gap"},
    "vit_so150m_patch16_reg4_map_256": {"pool": "map", "map_prefix": False, "num_registers": 4},
}


def config_of(foreign: ExternalCheckpoint) -> ViTConfig:
    assert isinstance(foreign.config, ViTConfig)
    return foreign.config


def arrays(name: str, *keys: str) -> tuple[Tensor, Tensor]:
    with np.load(FAMILIES / name / "io.npz") as file:
        first, second = keys or ("x", "expected")
        return torch.from_numpy(file[first]), torch.from_numpy(file[second])


def difference(model: Model, x: Tensor, expected: Tensor) -> float:
    """Relative to the largest logit."""
    with torch.no_grad():
        return float((model(x) - expected).abs().max() / expected.abs().max())


@pytest.mark.promise("M6")
@pytest.mark.parametrize("name", NAMES)
def test_timm_answers_the_same(name: str) -> None:
    """In float32, relative to the largest logit; back in timm's folder the same bits."""
    foreign = read_external(FAMILIES / name)
    config = config_of(foreign)
    assert {field: getattr(config, field) for field in TOLD[name]} == TOLD[name]
    assert (foreign.origin, config.num_heads, config.gelu) == ("timm", 3, "gelu")
    assert difference(foreign.model, *arrays(name)) <= 5e-6
    assert not foreign.report.unused
    assert not foreign.report.left_out


@pytest.mark.promise("M6")
@pytest.mark.parametrize("name", NAMES)
def test_timm_answers_the_same_at_another_size(name: str) -> None:
    """Grid 3 x 5 becomes 4 x 7 by timm's own `set_input_size`: the table and the rotation."""
    foreign = read_external(FAMILIES / name)
    config = config_of(foreign)
    target = target_config(config, image_size=(16, 42))
    state, _ = adapt(foreign.model.state_dict(), config, target, resample=foreign.resample)
    model = build(target).eval()
    model.load_state_dict(state, strict=True, assign=True)
    assert difference(model, *arrays(name, "larger", "resized")) <= 5e-6
    if config.rope_grid:  # a control: places that are not stretched to the grid of pre-training
        other = build(ViTConfig(**(target.model_dump() | {"rope_grid": None}))).eval()
        other.load_state_dict(state, strict=True, assign=True)
        assert difference(other, *arrays(name, "larger", "resized")) > 1e-3


@pytest.mark.promise("M6")
@pytest.mark.parametrize("name", NAMES)
def test_written_and_read_again(name: str, tmp_path: Path) -> None:
    """The same network and the same bits, rotary models too, whose channels were sorted."""
    foreign = read_external(FAMILIES / name)
    write_foreign(foreign.model, foreign.preprocess, foreign.classes, "timm", tmp_path / "out")
    again = read_external(tmp_path / "out")
    assert again.config == foreign.config
    state = again.model.state_dict()
    for key, value in foreign.model.state_dict().items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize(
    "fields",
    [
        {"posemb": "rope_2d", "pool": "map", "num_registers": 2, "qk_norm": True},
        {"posemb": "learned_rope_2d", "rope": "index", "rope_base": 50.0, "mlp": "swiglu"},
        {"posemb": "rope_2d", "pool": "gap", "norm_after_pool": True, "ln_eps": 1e-5},
        {"posemb": "rope_2d", "rope": "index", "rope_grid": (7, 4), "ln_eps": 1e-5},
        {"posemb": "rope_2d", "rope": "index", "ln_eps": 1e-5, "layer_scale": 1e-5},
    ],
    ids=str,
)
def test_a_model_of_ours_comes_back_from_timm(fields: dict[str, Any], tmp_path: Path) -> None:
    """Every field of it, though timm leaves out arguments that are None."""
    sizes: dict[str, Any] = {"image_size": (12, 30), "patch_size": (4, 6), "mlp_dim": 31}
    config = ViTConfig(**sizes, width=24, depth=2, num_heads=3, num_classes=5, **fields)
    preprocess = read_external(FAMILIES / NAMES[0]).preprocess
    write_foreign(random_model(config, dtype=torch.float32), preprocess, [], "timm", tmp_path / "w")
    assert read_external(tmp_path / "w").config == config


@pytest.mark.promise("M6")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vit_small_patch16_dinov3_qkvb", {"rope_temperature": 50.0}),
        ("vit_small_patch16_dinov3_qkvb", {"rope_rotate_half": False}),
        ("vit_base_patch16_rope_ape_224", {"rope_grid_indexing": "ij"}),
        ("vit_base_patch16_rope_ape_224", {"rope_grid_offset": 1.0}),
        ("eva02_tiny_patch14_224", {"ref_feat_shape": [16, 8]}),
        ("eva02_tiny_patch14_224", {"use_rot_pos_emb": False}),
        ("vit_pe_core_base_patch16_224", {"rope_grid_offset": 0.0}),
        ("vit_pe_core_base_patch16_224", {"attn_pool_num_heads": 6}),
        ("vit_pe_lang_large_patch14_448", {"rope_type": "dinov3", "rope_grid_offset": 0.0}),
        ("vit_so150m_patch16_reg4_map_256", {"pool_include_prefix": True}),
    ],
    ids=str,
)
def test_a_control_that_must_fail(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    """With one argument another the outputs do not agree: each of them is followed."""
    folder = with_arguments(tmp_path, name, change)
    assert difference(read_external(folder).model, *arrays(name)) > 1e-3


def with_arguments(place: Path, name: str, change: dict[str, Any]) -> Path:
    folder = place / "model"
    shutil.copytree(FAMILIES / name, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("vit_small_patch16_dinov3_qkvb", {"rope_type": "mixed"}, "kind 'mixed'"),
        ("vit_small_patch16_dinov3_qkvb", {"rope_grid_offset": 0.5}, "rope_grid_offset"),
        ("eva02_tiny_patch14_224", {"rope_grid_indexing": "yx"}, "order 'yx'"),
        ("eva02_tiny_patch14_224", {"scale_mlp": True}, "scale_mlp"),
        ("eva02_tiny_patch14_224", {"use_post_norm": True}, "use_post_norm"),
        ("eva_giant_patch14_224", {"a_new_argument": 3}, "a_new_argument"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused(
    tmp_path: Path, name: str, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        read_external(with_arguments(tmp_path, name, change))
    assert caught.value.code == "VIT-418"


@pytest.mark.promise("M8")
@pytest.mark.parametrize("name", [n for n in NAMES if n in ENTRIES and "rope_ape" not in n])
def test_without_its_config_it_is_refused(tmp_path: Path, name: str) -> None:
    """No tensor says how queries and keys turn. That they do is not seen in rope_ape, which has
    DeiT III's tensors: there it is an assumption that is printed (test_provenance.py).
    """
    shutil.copy(FAMILIES / name / "model.safetensors", tmp_path / "model.safetensors")
    given = {"num_heads": 3, "image_size": (12, 30), "ln_eps": 1e-5}
    for more in ({}, {"posemb": "rope_2d"}, {"posemb": "learned_rope_2d", "rope": "index"}):
        with pytest.raises(ModelError) as caught:  # their channels may be in another order
            read_external(tmp_path / "model.safetensors", given=given | more)
        assert caught.value.code in ("VIT-418", "VIT-420", "VIT-422")


def test_channels_by_hand() -> None:
    """8 channels: timm's neighbours (0 1) (2 3) turn by x and (4 5) (6 7) by y where x is first."""
    assert channel_order(8, Rotation(order="ij")) == [0, 2, 4, 6, 1, 3, 5, 7]
    assert channel_order(8, Rotation(order="xy")) == [4, 6, 0, 2, 5, 7, 1, 3]
    assert channel_order(8, Rotation(order="ij", is_halved=True)) == list(range(8))
    assert channel_order(8, Rotation(order="xy", is_halved=True)) == [2, 3, 0, 1, 6, 7, 4, 5]


@pytest.mark.parametrize("name", ["vit_pe_core_base_patch16_224", "eva02_tiny_patch14_224"])
def test_sorting_is_undone_by_its_inverse(name: str) -> None:
    """The rules of reading, applied backwards, give the file's own tensors."""
    state = load_file(FAMILIES / name / "model.safetensors")
    header = Header(
        f"{name}/model.safetensors",
        {key: tuple(value.shape) for key, value in state.items()},
        dict.fromkeys(state, "F32"),
        {"config.json": json.loads((FAMILIES / name / "config.json").read_text())},
    )
    rules = recognise(header, None).found.rules
    changed = 0
    for rule in rules:
        if rule.theirs and rule.ours:
            theirs = [state[key] for key in rule.theirs]
            back = rule.write(rule.read(theirs))
            assert all(torch.equal(a, b) for a, b in zip(back, theirs, strict=True)), rule.ours
            changed += not rule.keeps
    assert changed == 2 * 2  # weight and bias of query, key and value, in two blocks
