"""Reads the golden cases of tests/golden/cases; the README there says what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
