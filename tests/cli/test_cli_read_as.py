"""--set, --origin, --table, and the lines of what is assumed, by every verb that reads a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.cli.cli_command import run
from tests.golden.case import CASES
from vitrail.errors import UsageError

FILE = CASES / "fb_deit" / "deit_tiny_patch8_32.pth"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes, which are none of the model's: probe and train take any."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.promise("M8")
@pytest.mark.parametrize("verb", ["predict", "explain", "figures", "probe", "train"])
def test_every_verb_asks_takes_and_tells(
    verb: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands: dict[str, list[object]] = {
        "predict": ["predict", FILE, photos / "a" / "0.png"],
        "explain": ["explain", FILE, photos / "a" / "0.png", "--out", tmp_path / "maps"],
        "figures": ["explain", FILE, "--figures", "--out", tmp_path / "figures"],
        "probe": ["probe", FILE, photos, "--kind", "knn", "--k", 1, "--split", "val"],
        "train": ["train", photos, "--from", FILE, "--steps", 1, "--batch-size", 4, "--workers", 0],
    }
    refused = run(*commands[verb])
    assert (refused.code, "VIT-419" in refused.err) == (4, True), refused.err
    done = run(*commands[verb], "--set", "num_heads=3", "--origin", "deit")
    assert done.code == 0, done.err
    said = " ".join((done.out + done.err).split())
    for words in ("stated num_heads 3", "assumed gelu gelu", "assumed pool cls"):
        assert words in said, said
    if verb == "train":  # a run remembers what was stated
        text = next(tmp_path.glob("runs/*/config.toml")).read_text()
        assert 'given = "num_heads=3"' in text


def test_no_effect_on_a_model_of_ours(tmp_path: Path) -> None:
    vitrail.load(FILE, given={"num_heads": 3}).save(tmp_path / "m")
    done = run("predict", tmp_path / "m", CASES, "--set", "num_heads=4")
    assert done.code in (2, 3)
    with pytest.raises(UsageError, match="no effect"):
        vitrail.load(tmp_path / "m", table="model")
