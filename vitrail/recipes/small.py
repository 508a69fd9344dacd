"""Training from scratch on small data and small pictures.

After Compact Transformers (arXiv 2104.05704): small patches, narrow models, AdamW near 1e-3, weight
decay 0.05, label smoothing 0.1. Command: vitrail train DATA --recipe small.scratch
"""

from __future__ import annotations

from vitrail.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimConfig,
    ScheduleConfig,
    TrainConfig,
)


def scratch() -> TrainConfig:
    """AdamW, cosine, label smoothing, a shifted crop and a flip, averaged weights."""
    return TrainConfig(
        recipe="small.scratch",
        epochs=60,
        ema=0.998,
        data=DataConfig(normalize="dataset"),
        augment=AugmentConfig(crop="pad_crop", crop_pad=2, flip=0.5),
        optim=OptimConfig(lr=1e-3, weight_decay=0.05, clip=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=0.05),
        loss=LossConfig(label_smoothing=0.1),
    )
