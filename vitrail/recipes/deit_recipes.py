"""DeiT (arXiv 2012.12877, Table 9) and DeiT III (arXiv 2204.07118, Table 1).

Commands: vitrail train IMAGENET --recipe deit --model vit_s16; --recipe deit3 --model vit_b16
Expected: DeiT-S 79.9 %, DeiT-B 81.8 %; DeiT III-S 81.4 %, B 83.8 % at 800 epochs and 224 px after
its fine-tuning.
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


def deit() -> TrainConfig:
    """300 epochs, batch 1024, AdamW 1e-3, no clipping.

    RandAugment(2, 9), Mixup 0.8, CutMix 1, erasing 0.25, three repeats.
    """
    return TrainConfig(
        recipe="deit",
        epochs=300,
        batch_size=1024,
        ema=0.99996,
        data=DataConfig(
            image_size=(224, 224),
            channels=3,
            resize="short_side",
            crop_fraction=0.875,
            normalize="imagenet",
        ),
        model={"name": "vit_s16", "drop_path": 0.1},  # type: ignore[arg-type]
        augment=AugmentConfig(
            crop="inception",
            crop_scale=(0.08, 1.0),
            policy="randaugment",
            num_ops=2,
            magnitude=9,
            color_jitter=0.3,
            erasing=0.25,
            mixup=0.8,
            cutmix=1.0,
            repeats=3,
        ),
        optim=OptimConfig(lr=1e-3, weight_decay=0.05, clip=0.0),
        schedule=ScheduleConfig(name="cosine", warmup=5 / 300, end_lr=1e-5),
        loss=LossConfig(label_smoothing=0.1),
    )


def deit3() -> TrainConfig:
    """800 epochs, batch 2048, LAMB 3e-3, binary cross-entropy.

    3-Augment, Mixup 0.8, CutMix 1, LayerScale 1e-4.
    """
    return TrainConfig(
        recipe="deit3",
        epochs=800,
        batch_size=2048,
        data=DataConfig(
            image_size=(192, 192),
            channels=3,
            resize="short_side",
            crop_fraction=1.0,
            normalize="imagenet",
        ),
        model={  # type: ignore[arg-type]
            "name": "vit_b16",
            "posemb_prefix": False,
            "layer_scale": 1e-4,
            "drop_path": 0.2,
            "drop_path_schedule": "constant",
        },
        augment=AugmentConfig(
            crop="inception",
            crop_scale=(0.08, 1.0),
            policy="three_augment",
            color_jitter=0.3,
            mixup=0.8,
            cutmix=1.0,
            repeats=3,
        ),
        optim=OptimConfig(name="lamb", lr=3e-3, weight_decay=0.05, clip=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=5 / 800),
        loss=LossConfig(name="bce"),
    )
