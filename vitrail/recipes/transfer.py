"""Fine-tuning with AdamW, for datasets too small for the learning-rate search that SGD needs.

- `adamw`: every weight, those near the images at lower rates (BEiT, arXiv 2106.08254, appendix;
  MAE, arXiv 2111.06377, Table 9: AdamW, weight decay 0.05, layer decay 0.75). What is published is
  of 12 blocks and more; a model of 4 blocks was worse with it (docs/decisions.md).
- `head`: the body stays as it is and no gradient goes through it.
- `lora`: low-rank adapters on every dense layer of the blocks (arXiv 2106.09685, Table 1 and
  section 4.2), merged into the weights at the end.

Commands: vitrail train DATA --from MODEL [--recipe transfer.adamw]
          vitrail train DATA --from MODEL --freeze body
          vitrail train DATA --from MODEL --lora-rank 8
"""

from __future__ import annotations

from vitrail.config import (
    AugmentConfig,
    LoraConfig,
    LossConfig,
    OptimConfig,
    ScheduleConfig,
    TrainConfig,
)
from vitrail.recipes.image_facts import ImageFacts


def adamw(images: ImageFacts) -> TrainConfig:
    """50 epochs, label smoothing, averaged weights; layer decay 0.75 from 12 blocks on.

    Adam's rate in proportion to 1 / width (arXiv 2203.03466): 1.3e-4 for ViT-B, 1e-3 at width 96.
    """
    return TrainConfig(
        recipe="transfer.adamw",
        epochs=50,
        ema=0.998,
        augment=AugmentConfig(crop="pad_crop", crop_pad=2, flip=0.5),
        optim=OptimConfig(
            lr=0.1 / images.width,
            weight_decay=0.05,
            clip=1.0,
            layer_decay=0.75 if images.depth >= 12 else 1.0,
        ),
        schedule=ScheduleConfig(name="cosine", warmup=0.1),
        loss=LossConfig(label_smoothing=0.1),
    )


def head() -> TrainConfig:
    """50 epochs of the head alone at a high rate."""
    return TrainConfig(
        recipe="transfer.head",
        epochs=50,
        freeze="body",
        augment=AugmentConfig(crop="pad_crop", crop_pad=2, flip=0.5),
        optim=OptimConfig(lr=1e-2, weight_decay=0.0, clip=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=0.05),
    )


def lora() -> TrainConfig:
    """50 epochs of adapters of rank 8 and the head."""
    return TrainConfig(
        recipe="transfer.lora",
        epochs=50,
        lora=LoraConfig(rank=8, alpha=16),
        augment=AugmentConfig(crop="pad_crop", crop_pad=2, flip=0.5),
        optim=OptimConfig(lr=1e-3, weight_decay=0.0, clip=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=0.1),
        loss=LossConfig(label_smoothing=0.1),
    )
