"""Training from scratch on small data and small images: residual networks, and ViTs.

Both by Muon, whose rate the search of benchmarks/budget chose (docs/budgets.md). ViTs after Compact
Transformers (arXiv 2104.05704): small patches, narrow models, weight decay 0.05, label smoothing
0.1; after better plain ViT baselines (arXiv 2205.01580): fixed 2-D position embeddings and average
pooling, which matter most in a short training. Fashion-MNIST, validation top-1: cls token and
learned embeddings 0.821 after three passes, these two 0.852 after half.

Command: vitrail train DATA --recipe small.scratch
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


def residual() -> TrainConfig:
    """A residual network by Muon: linear warm-up and decay, label smoothing, a shift and a flip."""
    return TrainConfig(
        recipe="small.residual",
        epochs=60,
        data=DataConfig(normalize="dataset"),
        augment=AugmentConfig(crop="pad_crop", crop_pad=2, flip=0.5),
        optim=OptimConfig(name="muon", lr=2e-2, momentum=0.95, weight_decay=0.3, clip=1.0),
        schedule=ScheduleConfig(name="linear", warmup=0.05),
        loss=LossConfig(label_smoothing=0.1),
    )


def scratch() -> TrainConfig:
    """A ViT by Muon, in the same way, at half the rate."""
    return TrainConfig(
        recipe="small.scratch",
        model={"name": "auto", "pool": "gap", "posemb": "sincos_2d"},  # type: ignore[arg-type]
        epochs=60,
        data=DataConfig(normalize="dataset"),
        augment=AugmentConfig(crop="pad_crop", crop_pad=2, flip=0.5),
        optim=OptimConfig(name="muon", lr=1e-2, momentum=0.95, weight_decay=0.3, clip=1.0),
        schedule=ScheduleConfig(name="linear", warmup=0.15),
        loss=LossConfig(label_smoothing=0.1),
    )
