"""A model folder of a small ViT with random weights, and images of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.models.check_model import random_model
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.vit.config import ViTConfig


def save_place(folder: Path, images: int, **fields: Any) -> Path:
    """model/ for 21 x 15 px and data/CLASS/*.png, so many a class; fields: of the ViT."""
    given: dict[str, Any] = {"image_size": (21, 15), "patch_size": 3, "width": 12, "num_heads": 3}
    config = ViTConfig(**given, **fields, mlp_dim=7, num_classes=3)
    preprocess = Preprocess(height=21, width=15, resize=(21, 15))
    model = random_model(config, dtype=torch.float32)
    Classifier(model, preprocess, ["a", "b", "c"]).save(folder / "model")
    rng = np.random.default_rng(0)
    for name in "abc":
        (folder / "data" / name).mkdir(parents=True)
        for index in range(images):
            pixels = rng.integers(0, 256, (23, 19, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / f"{index}.png")
    return folder
