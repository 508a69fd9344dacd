"""What config.json and preprocessor_config.json tell otherwise than the tensors, or cannot tell, is
refused: a file that says two things is of two models.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.golden.case import CASES
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
    "do_normalize": (0, "no", []),
    "do_rescale": (1, "true"),
    "do_resize": (0, {}),
    "resample": (True, 99, "x", []),
    "image_mean": (True, [], [0.5, 0.5], "x"),
    "image_std": (False, [True], {}),
    "size": (True, 0, 16.5),
}
TIMM_WRONG: dict[str, tuple[Any, ...]] = {
    "model_args.embed_dim": (99, "24"),
    "model_args.depth": (1, 99, True),
    "model_args.reg_tokens": (3,),
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
            "hf_vit_model_pooler" if key == "pooler_act" else "hf_vit",
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
def test_a_head_of_another_size_is_read_and_said(tmp_path: Path) -> None:
    """As fine-tuning leaves it, which saves the tensors beside the old file."""
    folder = changed(tmp_path, "timm_vit_token", CONFIG, "num_classes", 1000)
    assert folder is not None
    notes = read_external(folder).notes
    assert any("num_classes 1000, the head 7 outputs" in note for note in notes)
