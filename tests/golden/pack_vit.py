"""Packs golden cases of Vision Transformers into one small file each for tests/models.

    python tests/golden/pack_vit.py GOLDEN_FOLDER

A case is a folder with `model.safetensors` in timm's names and `io.npz` with images `x` and
`logits_f64`, made by timm itself (huggingface/pytorch-image-models @aa4b585) with every parameter
random. Two of its images are kept; the whole configuration is in the metadata.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent / "vit"
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
    "timm_clip_prenorm": {"pre_norm": True, "gelu": "quick_gelu", "ln_eps": 1e-5},
}
COMMITTED = ("timm_siglip_map", "timm_dinov2_swiglu")  # together under 400 kB


def read_case(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """Fields of ViTConfig, parameters by timm's names, and the arrays of `io.npz`."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))["config"]
    fields = {
        "image_size": case["input_size"],
        "patch_size": case["patch_size"],
        "width": case["width"],
        "depth": case["depth"],
        "num_heads": case["heads"],
        "mlp_dim": case["mlp_hidden"],
        "num_classes": case["num_classes"],
        "pool": POOL[case["global_pool"]],
    }
    with np.load(folder / "io.npz", allow_pickle=False) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return fields | CASES[folder.name], load_file(folder / "model.safetensors"), data


def pack(golden: Path, name: str) -> None:
    """Writes tests/golden/vit/NAME.safetensors."""
    fields, parameters, data = read_case(golden / name)
    tensors = {f"model.{key}": value for key, value in parameters.items()}
    tensors |= {key: data[key][:2].contiguous() for key in ("x", "logits_f64")}
    source = "timm @aa4b585, random parameters"
    path = HERE / f"{name}.safetensors"
    save_file(tensors, path, {"config": json.dumps(fields), "source": source})
    path.chmod(0o644)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for case_name in COMMITTED:
        pack(Path(sys.argv[1]), case_name)
