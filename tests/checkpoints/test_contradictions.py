"""What config.json and preprocessor_config.json tell otherwise than the tensors, or cannot tell, is
refused: a file that says two things is of two models.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.golden_case import case_source, source
from tests.golden.case import CASES
from vitrail.checkpoints import external
from vitrail.checkpoints.external import read_external
from vitrail.errors import ModelError

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WRONG: dict[str, tuple[Any, ...]] = {
    "hidden_size": (99, "24", True),
    "num_hidden_layers": (1, 99, True),
    "intermediate_size": (99, 1.5),
    "num_channels": (1, True),
    "patch_size": (7, [8, 32], "x"),
    "num_attention_heads": (True, "4", 1.0, []),
    "pooler_act": ("relu", 3, []),
    "qkv_bias": (False,),
    "use_swiglu_ffn": (True,),
    "num_register_tokens": (2,),
    "problem_type": ("regression",),
    "do_normalize": (0, "no", []),
    "do_rescale": (1, "true"),
    "do_resize": (0, {}),
    "resample": (True, 99, "x", []),
    "image_mean": (True, [], [0.5, 0.5], "x"),
    "image_std": (False, [True], {}),
    "size": (True, 0, 16.5),
}
CASE_OF = {
    "pooler_act": "hf_vit_model_pooler",
    "use_swiglu_ffn": "hf_dinov2",
    "num_register_tokens": "hf_dinov2_registers",
}
TIMM_WRONG: dict[str, tuple[Any, ...]] = {
    "model_args.embed_dim": (99, "24"),
    "model_args.depth": (1, 99, True),
    "model_args.reg_tokens": (3,),
    "model_args.class_token": (False,),
    "model_args.pre_norm": (True,),
    "model_args.init_values": (1e-5,),
    "model_args.qk_norm": (True,),
    "model_args.qkv_bias": (False,),
    "model_args.no_embed_class": (True,),
    "model_args.mlp_ratio": (3,),
    "model_args.fc_norm": (True,),
    "model_args.final_norm": (False,),
    "model_args.temperature": (2.0,),
    "pretrained_cfg.crop_pct": (0, 1.5, "x", True),
    "pretrained_cfg.interpolation": ("x", 3, []),
    "pretrained_cfg.mean": ([], [0.5, 0.5], "x", 0.5),
    "pretrained_cfg.std": ([True, 1, 1], {}),
}


def changed(tmp_path: Path, case: str, name: str, key: str, value: object) -> Path | None:
    """A copy of a golden folder with one setting of one file changed; None where it has it so."""
    folder = tmp_path / case
    shutil.copytree(CASES / case, folder)
    document = json.loads((folder / name).read_text())
    *inner, last = key.split(".")
    table = document
    for part in inner:
        table = table.setdefault(part, {})
    if table.get(last) == value and type(table.get(last)) is type(value):
        return None
    table[last] = value
    (folder / name).write_text(json.dumps(document))
    return folder


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("case", "name", "key", "value"),
    [
        (
            CASE_OF.get(key, "hf_vit"),
            PROCESSOR if key.startswith(("do_", "image_", "resample")) or key == "size" else CONFIG,
            key,
            value,
        )
        for key, values in WRONG.items()
        for value in values
    ]
    + [("timm_vit_token", CONFIG, key, v) for key, values in TIMM_WRONG.items() for v in values],
)
def test_one_setting_that_cannot_be(
    tmp_path: Path, case: str, name: str, key: str, value: object
) -> None:
    folder = changed(tmp_path, case, name, key, value)
    assert folder is not None
    with pytest.raises(ModelError) as caught:
        read_external(folder)
    assert caught.value.code == "VIT-418"
    assert key.rpartition(".")[2] in caught.value.message or "a side of" in caught.value.message


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    "architecture",
    ["vit_base_patch16_clip_224", "vit_small_patch14_dinov2", "vit_base_patch16_siglip_224"],
)
def test_an_entry_that_makes_other_tensors(tmp_path: Path, architecture: str) -> None:
    """timm's own code would refuse the file: a norm, layer scales or a token would be missing."""
    folder = changed(tmp_path, "timm_vit_token", CONFIG, "architecture", architecture)
    assert folder is not None
    with pytest.raises(ModelError, match="config.json has"):
        read_external(folder)


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("case", "given"),
    [
        ("timm_vit_token", {}),
        ("timm_dinov2_reg4", {}),
        ("hf_vit_model_pooler", {}),
        ("hf_dinov2_registers", {}),
        ("google_vit_token", {}),
        ("bv_vit_map_scan", {}),
        ("fb_deit3", {"num_heads": 2}),
    ],
)
@pytest.mark.parametrize("change", ["without", "axes reversed"])
def test_every_tensor_that_is_missing_or_turned(
    monkeypatch: pytest.MonkeyPatch, case: str, given: dict[str, Any], change: str
) -> None:
    """One tensor of a checkpoint is absent, or has its axes in the other order: refused, or it is
    said that a table of positions is not there, or the tensor is of training alone.
    """
    file = case_source(case)
    for name, value in file.values.items():
        values = dict(file.values)
        if change == "without":
            del values[name]
        elif value.shape == value.permute(*reversed(range(value.ndim))).shape:
            continue
        else:
            values[name] = value.permute(*reversed(range(value.ndim))).contiguous()
        changed_file = Open(source(values, file.header.metadata))
        monkeypatch.setattr(external, "open_tensors", lambda *_, f=changed_file, **__: f)
        try:
            found = read_external(Path("file"), given=given)
        except ModelError:
            continue
        is_said = any(f.field == "posemb" and f.source == "assumed" for f in found.facts)
        assert "mask_token" in name or ("pos_embedding" in name and is_said), name


class Open:
    """An open file of tensors in memory."""

    def __init__(self, tensors: Any) -> None:
        self.header, self.read = tensors.header, tensors.read

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.promise("M8")
@pytest.mark.parametrize("name", ["preprocessor_config.json", None])
def test_the_processor_within_another(tmp_path: Path, name: str | None) -> None:
    """transformers 5 writes processor_config.json, and takes it where there are both."""
    folder = changed(tmp_path, "hf_vit", PROCESSOR, "image_std", [0.25] * 3)
    assert folder is not None
    inner = json.loads((folder / PROCESSOR).read_text()) | {"image_std": [0.125] * 3}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    if name is None:
        (folder / PROCESSOR).unlink()
    found = read_external(folder)
    assert found.preprocess.std == (0.125,) * 3
    assert {f.where for f in found.facts if f.field == "preprocess"} == {"processor_config.json"}


@pytest.mark.promise("M8")
def test_a_head_of_another_size_is_read_and_said(tmp_path: Path) -> None:
    """As fine-tuning leaves it, which saves the tensors beside the old file."""
    folder = changed(tmp_path, "timm_vit_token", CONFIG, "num_classes", 1000)
    assert folder is not None
    notes = read_external(folder).notes
    assert any("num_classes 1000, the head 7 outputs" in note for note in notes)
