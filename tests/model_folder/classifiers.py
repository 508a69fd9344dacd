"""A small classifier with random weights, images for it, and its folder as others change it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from vitrail.classifier import Classifier, load
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.model_folder import bundle
from vitrail.model_folder.description import Meta
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig

CLASSES = ["cat", "dog", "<script>", "\u05d0\u05d1\u05d2", "e"]
CONFIG = ViTConfig(
    image_size=(10, 14),
    patch_size=(5, 7),
    width=12,
    depth=2,
    num_heads=3,
    mlp_dim=17,
    num_classes=5,
)
PREPROCESS = Preprocess(height=10, width=14, resize=(10, 14))
META = Meta(
    name="vit_ti5",
    trained_on={"data": "photos", "pictures": 7, "note": "a | b\n---\nc"},
    metrics={"test": {"n": 180, "top1": 0.9611, "top1_interval": [0.922, 0.981], "nll": 0.14}},
)


def some_model(config: ViTConfig = CONFIG, seed: int = 0) -> torch.nn.Module:
    model = create_model(config)
    generator = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.3
    return model


def classifier_of() -> Classifier:
    return Classifier(some_model(), PREPROCESS, CLASSES, temperature=1.5, meta=META)


def pictures(n: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (13, 17, 3), dtype=np.uint8) for _ in range(n)]


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def rewrite(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Other weights with their sha256 in model.json."""
    save_file(weights, folder / "model.safetensors")
    reseal(folder)


def reseal(folder: Path) -> None:
    change(folder, lambda d: d.update(sha256=bundle.sha256_of(folder / "model.safetensors")))


def change(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    how(document)
    document.pop("digest", None)  # as of a change on purpose: the rest is looked at too
    (folder / "model.json").write_text(json.dumps(document), encoding="utf-8")


def refuses(path: Path, code: str, *texts: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(path)
    assert caught.value.code == code, caught.value
    assert caught.value.hint
    for text in texts:
        assert text in str(caught.value)
    return caught.value
