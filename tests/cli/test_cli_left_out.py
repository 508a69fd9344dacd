"""What of the data is not used is said by every verb that reads data, with counts, in its lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.cli_command import run
from tests.cli.mistakes_place import save_images
from vitrail.studies.tuning import search as searching
from vitrail.training.lr_sweep import Trials

MODEL = "--model vit_digits --image-size 8 --batch-size 4 --precision float32 --workers 0"
OTHERS = "left out: 1 file that is not an image (1 .txt); 1 hidden name (.ipynb_checkpoints)"
BAD = "left out: 1 of 25 images cannot be decoded (dog/half.png: damaged PNG file"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """d/ with 24 images, one that is cut off, a text and a hidden folder; the working directory."""
    for seed, label in enumerate(("cat", "dog")):
        save_images(tmp_path / "d" / label, [f"{number}.png" for number in range(12)], seed)
    whole = (tmp_path / "d" / "dog" / "0.png").read_bytes()
    (tmp_path / "d" / "dog" / "half.png").write_bytes(whole[:40])
    (tmp_path / "d" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "d" / ".ipynb_checkpoints").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "d"


@pytest.fixture(autouse=True)
def _no_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates and trials are not tried."""
    monkeypatch.setattr(Trials, "_train", lambda self, lr, seed: np.array([1.0]))
    monkeypatch.setattr(Trials, "untrained", lambda self, seed: 2.0)
    monkeypatch.setattr(searching, "search", lambda *given: "SIGINT")


@pytest.mark.promise("D7")
@pytest.mark.parametrize(
    "words",
    [
        f"train d {MODEL} --steps 1 --on-bad-file skip",
        f"train d {MODEL} --steps 1 --on-bad-file skip --dry-run",
        f"lr-find d {MODEL} --on-bad-file skip",
        f"tune d {MODEL} --steps 2 --on-bad-file skip",
    ],
)
def test_bad_images_that_are_skipped_are_said_too(data: Path, words: str) -> None:
    if words.startswith("tune"):
        pytest.importorskip("optuna")
    done = run(*words.split())
    assert done.code in (0, 130), done.err
    said = done.out + done.err
    assert OTHERS in said
    assert BAD in said


@pytest.mark.promise("D7")
@pytest.mark.parametrize("words", ["data split d s.csv", "data shard d s --on-bad-file skip"])
def test_what_data_is_made_of_is_said(data: Path, words: str) -> None:
    done = run(*words.split())
    assert done.code == 0, done.err
    assert OTHERS in done.err


@pytest.mark.promise("D7")
@pytest.mark.parametrize("words", [f"lr-find d {MODEL}", f"tune d {MODEL} --steps 2"])
def test_bad_images_stop_a_search_as_they_stop_a_training(data: Path, words: str) -> None:
    if words.startswith("tune"):
        pytest.importorskip("optuna")
    done = run(*words.split())
    assert done.code == 3
    assert "VIT-301: 1 of 25 images cannot be decoded" in done.err
