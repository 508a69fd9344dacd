"""Reads the golden cases of tests/golden/cases; the README there says what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What a golden file does not say, and a reader must be told: heads of sizes that nobody published,
# grids that are not square.
STATED: dict[str, dict[str, Any]] = {
    "fb_deit": {"num_heads": 3},
    "fb_deit3": {"num_heads": 2},
    "fb_deit_distilled": {"num_heads": 3},
    "fb_dinov2": {"num_heads": 2},
    "fb_dinov2_giant_swiglu": {"num_heads": 3},
    "fb_dinov2_reg4": {"num_heads": 2},
    "fb_dinov2_resized": {"num_heads": 2},
    "torchvision_vit": {"num_heads": 2},
    "timm_hybrid_stages": {"num_heads": 2},
    "timm_hybrid_stem": {"num_heads": 2},
    "timm_bit": {"image_size": (32, 40)},
    "bit_tf_npz": {"image_size": (48, 48)},
    "bv_bit_v1": {"image_size": (32, 40)},
    "bv_vit_gap_rep": {"image_size": (32, 32)},
    "bv_vit_tok_learn": {"image_size": (24, 40)},
    "google_vit_gap": {"image_size": (32, 48)},
}
CASES = Path(__file__).resolve().parent / "cases"


@dataclass(frozen=True)
class Case:
    """folder: the checkpoint and its neighbours; record: case.json; arrays: io.npz as tensors."""

    folder: Path
    record: dict[str, Any]
    arrays: dict[str, Tensor]

    @property
    def checkpoint(self) -> Path:
        """The file with the tensors."""
        return self.folder / str(self.record["checkpoint"])


def read_case(name: str) -> Case:
    """The case of that name."""
    folder = CASES / name
    record = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    with np.load(folder / "io.npz", allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return Case(folder, record, arrays)
