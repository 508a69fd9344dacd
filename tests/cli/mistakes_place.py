"""A folder with everything that people get wrong, and one run that went well."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.cli_command import run

SIDE = (11, 7)  # height, width in px
TRAIN = (
    "--model",
    "vit_digits",
    "--image-size",
    "8",
    "--batch-size",
    "4",
    "--precision",
    "float32",
)


def save_images(folder: Path, names: Iterable[str], seed: int = 0) -> None:
    """Small images of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for name in names:
        pixels = generator.integers(0, 256, (*SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


@contextmanager
def finished_run(place: Path) -> Iterator[Path]:
    """photos/ and a run in runs/good in `place`, as the working directory."""
    before = Path.cwd()
    os.chdir(place)
    for seed, label in enumerate(("cat", "dog")):
        save_images(place / "photos" / label, [f"{number}.png" for number in range(12)], seed)
    done = run("train", "photos", *TRAIN, "--steps", "2", "--name", "good", "--workers", "0")
    assert done.code == 0, done.err
    yield place
    os.chdir(before)


def build(place: Path) -> None:
    """Fill `place`; the working directory must be `place`."""
    names = [f"{number}.png" for number in range(12)]
    for seed, label in enumerate(("cat", "dog")):
        save_images(place / "photos" / label, names, seed)
        save_images(place / "broken" / label, names, seed)
        save_images(place / "more" / label, names, seed)
    save_images(place / "more" / "fox", names, 9)
    whole = (place / "broken" / "cat" / "3.png").read_bytes()
    (place / "broken" / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])
    (place / "broken" / "dog" / "5.png").write_text("<html>404</html>")
    save_images(place / "alone" / "cat", names)
    save_images(place / "flat", names)
    (place / "empty").mkdir()
    (place / "hollow" / "cat").mkdir(parents=True)
    (place / "hollow" / "dog").mkdir()
    (place / "columns.csv").write_text("file,kind\na.png,cat\n")
    (place / "missing.csv").write_text("path,label\nphotos/cat/0.png,cat\nphotos/dog/99.png,dog\n")
    (place / "bad.toml").write_text("epochs = = 3\n")
    (place / "key.toml").write_text("[optim]\nwight_decay = 3\n")
    (place / "model.pth").write_bytes(b"\x80\x02}q\x00.")
    (place / "notes.txt").write_text("nothing")
    (place / "only.zip").write_bytes(b"PK\x03\x04")
    done = run("train", "photos", *TRAIN, "--steps", "2", "--name", "good")
    assert done.code == 0, done.err
    good = place / "runs" / "good"
    damage(shutil.copytree(good / "model", place / "record"), "model.json", b'{"schema": 1,')
    damage(shutil.copytree(good / "model", place / "weights"), "model.safetensors", None)
    shutil.copytree(good / "model", place / "half")
    (place / "half" / "model.safetensors").unlink()
    newer = shutil.copytree(good / "model", place / "newer") / "model.json"
    newer.write_text(json.dumps({**json.loads(newer.read_text()), "schema": 99}))
    lost = shutil.copytree(good, place / "runs" / "lost")
    state = json.loads((lost / "run.json").read_text())
    (lost / "run.json").write_text(json.dumps({**state, "status": "stopped"}))
    for folder in (lost / "checkpoints").iterdir():
        damage(folder, "state.json", b"{}")
    foreign = shutil.copytree(good, place / "runs" / "foreign")
    (foreign / "run.json").write_text(json.dumps({**state, "status": "stopped"}))
    text = (foreign / "config.toml").read_text()
    (foreign / "config.toml").write_text(text.replace('path = "photos"', 'path = "more"'))


def damage(folder: Path, name: str, content: bytes | None) -> None:
    """Replace a file, or flip one bit near its end."""
    data = bytearray((folder / name).read_bytes())
    data[-5] ^= 1
    (folder / name).write_bytes(bytes(data) if content is None else content)
