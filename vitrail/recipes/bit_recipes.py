"""BiT-HyperRule (arXiv 1912.11370, section 3.3; big_transfer `bit_hyperrule.py`).

| training images | steps of 512 | warm-up | a tenth from | Mixup |
|---|---|---|---|---|
| below 20,000 | 500 | 100 | 200, 300, 400 | none |
| below 500,000 | 10,000 | 500 | 3,000, 6,000, 9,000 | 0.1 |
| more | 20,000 | 500 | 6,000, 12,000, 18,000 | 0.1 |

SGD with momentum 0.9 at 0.003, no weight decay. Images below 96 x 96 px are resized to 160 and
cropped to 128, others 512 and 480. A batch below 512 keeps the number of images seen and gets a
rate in proportion, as in big_transfer's TensorFlow notebook.

Differences: a model that was trained on images below 96 px keeps their size, because the rule was
made for models of 224 px; counting steps from 1, a stair begins up to two steps earlier.

Command: vitrail train DATA --from BIT_MODEL --recipe bit.hyperrule
Expected (BiT-M R50x1): CIFAR-10 97.4 %, CIFAR-100 86.6 %, ImageNet 80.7 %.
"""

from __future__ import annotations

from vitrail.config import AugmentConfig, DataConfig, OptimConfig, ScheduleConfig, TrainConfig
from vitrail.recipes.image_facts import SMALL_SIDE, ImageFacts, Size

BATCH = 512


def steps_of(num_train: int) -> int:
    """Steps of 512 images; shared with the ViT paper's fine-tuning."""
    return 500 if num_train < 20_000 else 10_000 if num_train < 500_000 else 20_000


def hyperrule(images: ImageFacts) -> TrainConfig:
    """SGD, three stairs, steps and Mixup by the number of images, resolution by their area."""
    steps, batch = steps_of(images.num_train), images.batch(BATCH)
    few = images.num_train < 20_000
    return TrainConfig(
        recipe="bit.hyperrule",
        examples=steps * BATCH,
        batch_size=batch,
        data=DataConfig(image_size=_image_size(images)),
        augment=AugmentConfig(
            crop="resize_crop",
            crop_enlarge=160 / 128 if images.is_small else 512 / 480,
            flip=0.5,
            mixup=0.0 if few else 0.1,
        ),
        optim=OptimConfig(
            name="sgd", lr=0.003 * batch / BATCH, momentum=0.9, weight_decay=0.0, clip=0.0
        ),
        schedule=ScheduleConfig(
            name="stair",
            warmup=(100 if few else 500) / steps,
            stair_at=(0.4, 0.6, 0.8) if few else (0.3, 0.6, 0.9),
            stair_factors=(0.1, 0.01, 0.001),
        ),
    )


def _image_size(images: ImageFacts) -> Size:
    if images.start_size is not None and min(images.start_size) < SMALL_SIDE:
        return images.start_size
    side = 128 if images.is_small else 480
    return images.fitting(side, side)
