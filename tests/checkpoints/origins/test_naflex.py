"""Models of variable resolution of timm and Hugging Face: read, written, and as the originals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vitrail
from tests.checkpoints.golden_case import source
from tests.golden.case import read_case
from tests.models.check_model import random_model
from vitrail.checkpoints.external import read_external
from vitrail.checkpoints.mapping.rules import patch_rows, read_state, write_state
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.classifier import Classifier, of_foreign
from vitrail.data.images.packing import EMPTY
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.create import Model
from vitrail.models.layers.tap import TapDict
from vitrail.models.vit.config import ViTConfig

CASES = ("timm_naflexvit_gap", "timm_naflexvit_map", "hf_siglip2_naflex")
BASE: dict[str, Any] = {
    "image_size": (15, 15),
    "patch_size": (5, 5),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 48,
    "max_patches": 14,
}
GAP = {"pool": "gap", "num_registers": 2, "norm_after_pool": True, "num_classes": 7}
MAP = {"pool": "map", "num_registers": 1, "map_prefix": False, "num_classes": 5}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "timm gap": ("timm", GAP | {"posemb_resize": "bicubic", "layer_scale": 1e-5}),
    "timm map": ("timm", MAP | {"gelu": "gelu_tanh"}),
    "timm not square": ("timm", GAP | {"image_size": (10, 20)}),
    "siglip2 tower": ("huggingface", {"pool": "map", "gelu": "gelu_tanh"}),
    "siglip2 classifier": ("huggingface", {"pool": "gap", "num_classes": 7}),
}


def model_of(fields: dict[str, Any]) -> Model:
    return random_model(ViTConfig(**BASE | fields), dtype=torch.float32)


def preprocess_of(config: ViTConfig) -> Preprocess:
    return Preprocess(
        height=config.image_size[0],
        width=config.image_size[1],
        resize=config.image_size,
        interpolation="bilinear",
        mean=(0.25, 0.5, 0.75),
        max_patches=config.max_patches,
        patch_size=config.patch_size,
    )


@pytest.mark.parametrize("case", CASES)
def test_golden_outputs(case: str, shared_data: Path) -> None:
    """Within 1e-5 of the reference implementation: each image alone, and all in one batch."""
    folder = shared_data.parent / "golden" / case
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    found = vitrail.load(folder)
    with np.load(folder / "io.npz", allow_pickle=False) as file:
        arrays = dict(file)
    expected = torch.from_numpy(arrays["logits" if "logits" in arrays else "pooled"])
    batch = reference_batch(arrays)
    store: TapDict = {"tokens": None}
    with torch.inference_mode():
        assert (found.model(batch) - expected).abs().max() <= 1e-5
        found.model(batch, tap=store)
        for index, values in enumerate(expected):
            image = torch.from_numpy(arrays[f"image_{index}"])[None]
            assert (found.model(image)[0] - values).abs().max() <= 1e-5
    tokens, valid = store["tokens"], torch.from_numpy(arrays["valid"])
    if "tokens" in arrays:
        assert tokens is not None
        longest = tokens.shape[1]  # ours ends with the longest image
        expected = torch.from_numpy(arrays["tokens"])[:, :longest]
        assert (tokens - expected)[valid[:, :longest]].abs().max() <= 1e-5


def reference_batch(arrays: dict[str, Any]) -> Tensor:
    """Their packed batch as ours: values by channel first, and -1 for places of no patch."""
    patches, valid = arrays["patches"], arrays["valid"][..., None]
    B, L, _ = patches.shape
    values = patches.reshape(B, L, 8, 8, 3).transpose(0, 1, 4, 2, 3).reshape(B, L, -1)
    places = np.where(valid, arrays["coords"], EMPTY)
    return torch.from_numpy(np.concatenate([places, values], axis=2).astype(np.float32))


@pytest.mark.parametrize("name", MODELS)
def test_written_and_read_again(name: str, tmp_path: Path) -> None:
    """Tensors, architecture, preprocessing and classes: the same bits."""
    origin, fields = MODELS[name]
    model = model_of(fields)
    config = model.config
    assert isinstance(config, ViTConfig)
    classes = [f"class {n}" for n in range(config.num_classes)]
    preprocess = preprocess_of(config)
    layout = ORIGINS[origin].write(config, preprocess, classes)
    written = write_state(model.state_dict(), layout.rules)
    metadata = {key: json.loads(value) for key, value in layout.files.items()}
    found = ORIGINS[origin].recognise(source(written, metadata).header)
    assert found is not None
    assert found.preprocess == preprocess
    assert isinstance(found.config, ViTConfig)
    kept = config.model_dump() | {"drop_path_schedule": found.config.drop_path_schedule}
    if config.layer_scale is not None:
        kept["layer_scale"] = found.config.model_dump()["layer_scale"]
    assert found.config.model_dump() == kept
    assert list(found.classes) == classes
    state, _ = read_state(source(written, metadata), found.rules, model_shapes(model))
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def model_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("origin", sorted(set(ORIGINS) - {"timm", "huggingface"}))
def test_other_formats_refuse(origin: str) -> None:
    config = model_of(GAP).config
    assert isinstance(config, ViTConfig)
    with pytest.raises(ModelError) as caught:
        ORIGINS[origin].write(config, preprocess_of(config), ())
    assert caught.value.code == "VIT-417"


def test_patches_are_turned() -> None:
    """Rows, then columns, then channels, by counting; the inverse brings the same bits back."""
    theirs = torch.arange(2 * 5 * 3 * 4.0).reshape(2, 5 * 3 * 4)
    turn = patch_rows(4, (5, 3))
    ours = turn.read(theirs)
    assert ours.shape == (2, 4, 5, 3)
    assert ours[1, 2, 4, 1] == theirs[1, (4 * 3 + 1) * 4 + 2]
    assert torch.equal(turn.write(ours), theirs)


ARGUMENTS = [
    ({"pos_embed": "factorized"}, "pos_embed"),
    ({"rope_type": "axial"}, "rope_type"),
    ({"pos_embed_ar_preserving": True}, "pos_embed_ar_preserving"),
    ({"pos_embed_interp_mode": "nearest"}, "pos_embed_interp_mode"),
    ({"patch_size": 7}, "patches of 7 px"),
    ({"global_pool": "avg", "pool_include_prefix": True}, "pool_include_prefix"),
]


@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS)
def test_other_positions_of_timm_are_refused(arguments: dict[str, Any], words: str) -> None:
    model = model_of(GAP)
    config = model.config
    assert isinstance(config, ViTConfig)
    layout = ORIGINS["timm"].write(config, preprocess_of(config), ())
    described = json.loads(layout.files["config.json"])
    described["model_args"] |= arguments
    tensors = source(write_state(model.state_dict(), layout.rules), {"config.json": described})
    with pytest.raises(ModelError, match=words) as caught:
        ORIGINS["timm"].recognise(tensors.header)
    assert caught.value.code == "VIT-418"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"patch_size": 7}, "patch_size"),
        ({"max_num_patches": "many"}, "max_num_patches"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(settings: dict[str, Any], words: str) -> None:
    config = model_of({"pool": "map"}).config
    assert isinstance(config, ViTConfig)
    layout = ORIGINS["huggingface"].write(config, preprocess_of(config), ())
    metadata = {key: json.loads(value) for key, value in layout.files.items()}
    metadata["preprocessor_config.json"] |= settings
    tensors = write_state(model_of({"pool": "map"}).state_dict(), layout.rules)
    with pytest.raises(ModelError, match=words) as caught:
        ORIGINS["huggingface"].recognise(source(tensors, metadata).header)
    assert caught.value.code == "VIT-418"


def test_a_model_folder_goes_round(tmp_path: Path) -> None:
    model = model_of(GAP)
    config = model.config
    assert isinstance(config, ViTConfig)
    ours = Classifier(model, preprocess_of(config), list("abcdefg"))
    ours.save(tmp_path / "model")
    again = vitrail.load(tmp_path / "model")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (31, 97, 3), dtype=np.uint8)
    assert again.predict(image) == ours.predict(image)
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    record["preprocess"]["max_patches"] = 13
    (tmp_path / "model" / "model.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="13 patches"):
        vitrail.load(tmp_path / "model")


@pytest.mark.parametrize("case", ["timm_vit_token", "hf_vit", "google_vit_token"])
def test_any_learned_table_can_be_shown_other_shapes(case: str) -> None:
    """--set max_patches=...: of an image of the table's size the same answer, to rounding."""
    found = read_case(case)
    path = found.folder if (found.folder / "config.json").is_file() else found.checkpoint
    plain, variable = vitrail.load(path), vitrail.load(path, given={"max_patches": 29})
    assert variable.preprocess.max_patches == 29
    size = plain.preprocess.input_size
    images = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (variable.model(images) - plain.model(images)).abs().max() <= 1e-5
    shown = variable.explain(np.zeros((31, 97, 3), np.uint8), "rollout")
    assert shown.grid.shape == (3, 9)


def test_budget_can_be_stated(shared_data: Path) -> None:
    """--set max_patches=...: fewer patches for speed, of any reader."""
    folder = shared_data.parent / "golden" / "hf_siglip2_naflex"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    found = of_foreign(read_external(folder, given={"max_patches": 9}))
    assert found.preprocess.max_patches == 9
    assert found.prepare(np.zeros((31, 97, 3), np.uint8)).shape == (9, 2 + 3 * 64)  # type: ignore[union-attr]
