"""What pre-training cost in "An Image is Worth 16x16 Words" (arXiv 2010.11929, Tables 3 and 6).

Images and epochs are those of section 4.1 and Table 3; exaFLOPs those of Table 6, which are of JFT.
A training step costs three forward passes, and a multiply-add is two operations: by this rule our
multiply-adds give Table 6 to 0.2 %, but for ViT-B/32 (56.3; tests/recipes/test_pretraining.py).
"""

from __future__ import annotations

from dataclasses import dataclass

OPERATIONS = 6  # of training, for each multiply-add of the forward pass
REACHED = 4e14  # operations a second of a GPU: 40 % of the 989 TFLOP/s of an H100 in bfloat16
TABLE_6 = {  # (model, epochs on JFT): exaFLOPs
    ("vit_b32", 7): 55,
    ("vit_b16", 7): 224,
    ("vit_l32", 7): 196,
    ("vit_l16", 7): 783,
    ("vit_l16", 14): 1567,
    ("vit_h14", 14): 4262,
}


@dataclass(frozen=True)
class Pretraining:
    """A line of Table 3: a recipe on a dataset."""

    recipe: str
    data: str
    images: float
    epochs: int


IMAGENET21K = Pretraining("paper.imagenet21k", "ImageNet-21k", 14e6, 90)
JFT = Pretraining("paper.jft", "JFT-300M", 303e6, 7)
JFT_LONG = Pretraining("paper.jft", "JFT-300M", 303e6, 14)
PRETRAININGS = (IMAGENET21K, JFT, JFT_LONG)


def exaflops(macs: int, training: Pretraining) -> float:
    """Operations / 1e18 of a model with so many multiply-adds an image."""
    return OPERATIONS * macs * training.images * training.epochs / 1e18


def gpu_hours(operations: float, rate: float = REACHED) -> float:
    """Hours of one GPU for so many exaFLOPs. rate: operations a second that training reaches."""
    return operations * 1e18 / rate / 3600
