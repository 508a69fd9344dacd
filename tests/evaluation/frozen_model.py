"""A model whose features are simple to predict, and images whose classes they tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.open_data import ArraySource, Splits
from vitrail.runtime.torch_runtime import TorchRuntime

CLASSES = ("cat", "dog", "fox")
HEIGHT, WIDTH = 5, 7
PREPROCESS = Preprocess(
    height=HEIGHT, width=WIDTH, resize=(HEIGHT, WIDTH), mean=(0.5,), std=(0.25,)
)


class Config(BaseModel):
    """Stands for an architecture's."""

    scale: float = 2.0


class Rows(nn.Module):
    """Features (B, H): the mean of each row of the image times `scale`; counts its images."""

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.config = Config()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.seen = 0

    def features(self, images: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen += len(images)
        return images.mean(dim=(1, 3)) * self.scale  # (B, H)


def runtime_of(model: Rows, precision: str = "float32") -> TorchRuntime:
    """`model` on the CPU."""
    return TorchRuntime(model, PREPROCESS.input_size, precision)


def expected(images: Any, scale: float = 2.0) -> Any:
    """Features (n, H) of uint8 images (n, H, W, 1) in float64."""
    return ((images[:, :, :, 0] / 255 - 0.5) / 0.25).mean(axis=2) * scale


def pictures(n: int, seed: int, num_classes: int = 3) -> ArraySource:
    """n images: row c of class c is brighter than noise by 70."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % num_classes
    images = rng.integers(0, 150, (n, HEIGHT, WIDTH, 1), np.uint8)
    images[np.arange(n), labels] += 70
    return ArraySource(f"made:{seed}", CLASSES[:num_classes], labels, images, part=f"part-{seed}")


def made_splits(*, val: bool = True, train: int = 101) -> Splits:
    """Training, validation and test images."""
    return Splits(
        name="made",
        classes=CLASSES,
        train=pictures(train, 1),
        val=pictures(29, 2) if val else None,
        test=pictures(53, 3),
        how="made",
        kind="arrays",
    )


def save_folder(folder: Path, source: ArraySource) -> None:
    """The images as FOLDER/CLASS/NUMBER.png."""
    for index in range(len(source)):
        pixels, label = source.read(index)
        path = folder / source.classes[int(label)] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0]).save(path)
