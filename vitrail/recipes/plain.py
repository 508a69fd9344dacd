"""Better plain ViT baselines for ImageNet-1k (arXiv 2205.01580; big_vision configs/vit_s16_i1k.py).

Command: vitrail train IMAGENET --recipe plain.vit_s16_i1k
Expected: 76.5 % at 90 epochs, 80.0 % at 300 (Table 1 of the paper); 6 to 7 hours for 90 epochs on a
TPUv3-8.
"""

from __future__ import annotations

from vitrail.config import AugmentConfig, DataConfig, OptimConfig, ScheduleConfig, TrainConfig


def vit_s16_i1k() -> TrainConfig:
    """ViT-S/16: batch 1024, lr 1e-3, RandAugment(2, 10), Mixup 0.2.

    Fixed 2-D position embedding, average pooling, tanh layer.
    """
    return TrainConfig(
        recipe="plain.vit_s16_i1k",
        epochs=90,
        batch_size=1024,
        data=DataConfig(
            image_size=(224, 224), channels=3, resize="short_side", crop_fraction=224 / 256
        ),
        model={  # type: ignore[arg-type]
            "name": "vit_s16",
            "posemb": "sincos_2d",
            "pool": "gap",
            "representation_size": 384,
            "gelu": "gelu_tanh",
        },
        augment=AugmentConfig(
            crop="inception",
            crop_scale=(0.05, 1.0),
            flip=0.5,
            policy="randaugment",
            num_ops=2,
            magnitude=10,
            mixup=0.2,
        ),
        optim=OptimConfig(lr=1e-3, weight_decay=0.1, clip=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=10_000),
    )
