"""`vitrail models FILE`: what a file holds, without writing anything; exit 0 where it converts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.cli_command import run
from tests.golden.case import CASES

TORCHVISION = CASES / "torchvision_vit" / "vit_mu_8.pth"
FOLDER = CASES / "hf_vit"


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    done = run("models", TORCHVISION)
    assert done.code == 4
    for words in (
        "32 tensors, 24,135 numbers",
        "torchvision: VIT-419",
        "timm: its names are not",
        "num_heads: one of 1, 2, 4",
        "OUT --to vitrail --set num_heads=...",
    ):
        assert " ".join(words.split()) in " ".join(done.out.split()), words
    assert list(tmp_path.iterdir()) == []


def test_every_number_has_its_source() -> None:
    done = run("models", TORCHVISION, "--set", "num_heads=2", "--json")
    assert done.code == 0
    record = done.document
    facts = {fact["field"]: fact for fact in record["facts"]}
    assert [facts[name]["source"] for name in ("num_heads", "width", "gelu", "image_size")] == [
        "stated",
        "file",
        "assumed",
        "assumed",
    ]
    assert record["convertible"] is True
    assert record["command"].endswith("OUT --to vitrail --set num_heads=2")
    assert record["classes"] == {"count": 7, "names": []}
    assert record["tried"][0] == {"origin": "torchvision", "num_open": 0, "why": ""}


def test_a_folder_says_it_all() -> None:
    done = run("models", FOLDER)
    assert done.code == 0
    for words in ("huggingface: fits", "ln_eps 1e-12 (config.json)", "named class_00"):
        assert words in done.out
    assert "assumed" not in done.out


def test_both_tables_and_what_has_no_place(tmp_path: Path) -> None:
    """Each in full, and as data."""
    state = load_file(CASES / "timm_vit_token" / "model.safetensors")
    names = [f"storage_tokens_{number}" for number in range(12)]
    state |= dict.fromkeys(names, torch.ones(3))
    torch.save({"model": state, "model_ema": state}, tmp_path / "a.pth")
    done = run("models", tmp_path / "a.pth", "--set", "num_heads=2", "--json")
    assert done.code == 4
    record = done.document
    assert (record["table"], record["other_tables"]) == ("model", ["model_ema"])
    assert record["error"]["code"] == "VIT-424"
    assert sorted(item["name"] for item in record["unused"]) == sorted(names)
    assert all(
        name in run("models", tmp_path / "a.pth", "--set", "num_heads=2").out for name in names
    )


@pytest.mark.parametrize(
    ("content", "code"), [(b"GIF89a", "VIT-431"), (b"", "VIT-431"), (None, "VIT-430")]
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes | None, code: str) -> None:
    file = tmp_path / "a.pth"
    if content is not None:
        file.write_bytes(content)
    done = run("models", file)
    assert (done.code, code in done.err) == (4, True)
