"""A small classifier and real images of its classes, to export and check."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.open_data import open_data
from vitrail.data.sources.source import Source
from vitrail.export.check_images import CheckImages, read_images
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig

SMALL: dict[str, Any] = {
    "image_size": (16, 12),
    "patch_size": (4, 4),
    "channels": 3,
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 40,
    "num_classes": 10,
}


def classifier_of(config: ViTConfig | None = None, **changes: Any) -> Classifier:
    """Answers that differ from image to image: weights of the size that training gives them."""
    config = config or ViTConfig(**SMALL | changes)
    model = create_model(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.2)
    height, width = config.image_size
    means = (0.4, 0.5, 0.6)[: config.channels]
    made = Preprocess(
        height=height,
        width=width,
        resize=(height, width),
        mean=means,
        std=(0.2, 0.25, 0.3)[: len(means)],
    )
    classes = [str(index) for index in range(config.num_classes)]
    return Classifier(model, made, classes, temperature=1.5)


def coloured_digits(classifier: Classifier, most: int = 48) -> CheckImages:
    """Validation images of the built-in digits; with three channels they differ from each other."""
    source = open_data("builtin:digits").val
    assert source is not None
    found = read_images(source, classifier.preprocess, classifier.classes, split="val", most=most)
    pixels = found.pixels
    if pixels.shape[1] == 3:
        scale = np.array([1.0, 0.6, 0.3], np.float32).reshape(3, 1, 1)
        pixels = np.rint(pixels * scale).astype(np.uint8)
    return CheckImages(pixels, found.labels, found.data, found.split)


def trained_on_digits() -> Classifier:
    """A small classifier that knows the built-in digits: the same in every process."""
    return trained_on(open_data("builtin:digits").train, ViTConfig(**SMALL | {"channels": 1}), 200)


def trained_on(source: Source, config: ViTConfig, steps: int) -> Classifier:
    """After so many steps of Adam on batches of 64."""
    classifier = classifier_of(config)
    model, made = create_model(config).train(), classifier.preprocess
    read = read_images(source, made, classifier.classes, split="train", most=len(source))
    assert read.labels is not None
    images, labels = torch.from_numpy(read.pixels), torch.from_numpy(read.labels).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(0, len(labels), (64,), generator=generator)
        optimizer.zero_grad()
        shown = (images[chosen].float() / 255 - made.mean[0]) / made.std[0]
        loss = torch.nn.functional.cross_entropy(model(shown), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Classifier(model, made, source.classes)
