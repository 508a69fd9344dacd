"""The recipe of "An Image is Worth 16x16 Words" (arXiv 2010.11929, Table 3 and appendix B.1).

Command: vitrail train IMAGENET --recipe paper.imagenet1k --model vit_b16
Expected: ViT-B/16 near 74.8 % before fine-tuning at 384 px, 77.9 % after it (vision_transformer
issue 62; Table 5).
Hardware: the paper's batch of 4096 wants an accelerator with much memory, or --optim.accumulate.
"""

from __future__ import annotations

from vitrail.config import AugmentConfig, DataConfig, OptimConfig, ScheduleConfig, TrainConfig


def imagenet1k() -> TrainConfig:
    """ImageNet-1k from scratch: Adam, 300 epochs, batch 4096, lr 3e-3 cosine.

    Weight decay 0.3, dropout 0.1, gradients clipped at norm 1.
    """
    return TrainConfig(
        recipe="paper.imagenet1k",
        epochs=300,
        batch_size=4096,
        data=DataConfig(
            image_size=(224, 224), channels=3, resize="short_side", crop_fraction=224 / 256
        ),
        model={"name": "vit_b16", "dropout": 0.1, "gelu": "gelu_tanh"},  # type: ignore[arg-type]
        augment=AugmentConfig(crop="inception", crop_scale=(0.05, 1.0), flip=0.5),
        optim=OptimConfig(lr=3e-3, betas=(0.9, 0.999), weight_decay=0.3, clip=1.0),
        schedule=ScheduleConfig(name="cosine", warmup=10_000),
    )
