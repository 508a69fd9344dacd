"""Recipes of transfer: the tables of their sources, and which one is chosen for what."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from vitrail.config import TrainConfig, config_hash, flatten
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.recipes.image_facts import ImageFacts
from vitrail.recipes.registry import BY_IMAGES, recipe
from vitrail.settings.layers import DURATIONS, build
from vitrail.settings.toml_file import to_toml
from vitrail.training.optim.schedule import StepSchedule, check_schedule, lr_on
from vitrail.training.plan.auto import recipe_name
from vitrail.training.plan.facts import Facts
from vitrail.training.plan.starting_model import Start

SIZES = [300, 1020, 3680, 19_999, 20_000, 50_000, 499_999, 500_000, 1_281_167]


def hyperrule_supports(num_train: int) -> list[int]:
    """big_transfer `bit_hyperrule.py`: get_schedule."""
    if num_train < 20_000:
        return [100, 200, 300, 400, 500]
    if num_train < 500_000:
        return [500, 3000, 6000, 9000, 10_000]
    return [500, 6000, 12_000, 18_000, 20_000]


def hyperrule_lr(step: int, num_train: int, base_lr: float = 0.003) -> float:
    """The same file: get_lr; steps from 0."""
    supports = hyperrule_supports(num_train)
    if step < supports[0]:
        return base_lr * step / supports[0]
    for support in supports[1:]:
        if support < step:
            base_lr /= 10
    return base_lr


@pytest.mark.parametrize("num_train", [4096, 19_999, 20_000, 500_000])
def test_hyperrule_against_the_papers_code(num_train: int) -> None:
    """Every step but the two before a stair: theirs counts from 0 and compares strictly."""
    config = recipe("bit.hyperrule", ImageFacts(num_train, (375, 500)))
    supports = hyperrule_supports(num_train)
    total = (config.examples or 0) // int(config.batch_size)
    assert total == supports[-1]
    edges = {edge + late for edge in supports for late in (0, 1)}
    for step in range(1, total + 1):
        if step not in edges:
            ours = lr_on(StepSchedule.of(total), step, config.optim.lr, config.schedule)
            theirs = hyperrule_lr(step - 1 if step > supports[0] else step, num_train)
            assert ours == pytest.approx(theirs, rel=1e-9), step
    assert config.augment.mixup == (0.0 if num_train < 20_000 else 0.1)
    assert (config.optim.name, config.optim.momentum) == ("sgd", 0.9)
    assert (config.optim.weight_decay, config.optim.clip) == (0.0, 0.0)
    check_schedule(config.schedule, total)


@pytest.mark.parametrize(
    ("size", "start", "expected"),
    [
        ((95, 97), (224, 224), 128),  # 9,215 px
        ((96, 96), (224, 224), 480),
        ((32, 32), None, 128),
        ((375, 500), (224, 224), 480),
        ((28, 28), (28, 28), 28),
    ],
)
def test_hyperrule_resolution(
    size: tuple[int, int], start: tuple[int, int] | None, expected: int
) -> None:
    config = recipe("bit.hyperrule", ImageFacts(5000, size, start))
    assert config.data.image_size == (expected, expected)
    enlarged = {128: 160, 480: 512, 28: 35}[expected]
    assert config.augment.crop_enlarge * expected == pytest.approx(enlarged)


def test_resolutions_are_multiples() -> None:
    patch14 = ImageFacts(5000, (375, 500), (224, 224), (14, 16))
    assert recipe("bit.hyperrule", patch14).data.image_size == (476, 480)
    assert recipe("paper.finetune", patch14).data.image_size == (364, 368)


@pytest.mark.parametrize("name", ["bit.hyperrule", "paper.finetune"])
@pytest.mark.parametrize("num_train", SIZES)
def test_small_data_sees_as_many_images_in_smaller_batches(name: str, num_train: int) -> None:
    config = recipe(name, ImageFacts(num_train, (375, 500)))
    large = recipe(name, ImageFacts(max(num_train, 512), (375, 500)))
    batch = int(config.batch_size)
    assert config.examples == large.examples
    assert batch == 512 or batch <= num_train < 2 * batch
    assert config.optim.lr / batch == pytest.approx(large.optim.lr / 512)
    assert config.schedule == large.schedule


@pytest.mark.parametrize(
    ("num_train", "steps", "lr", "warmup"),
    [(6_552, 500, 0.03, 100), (49_000, 10_000, 0.03, 500), (1_281_167, 20_000, 0.03, 500)],
)
def test_the_papers_fine_tuning(num_train: int, steps: int, lr: float, warmup: int) -> None:
    """Table 4; vision_transformer `configs/common.py`; big_vision `configs/transfer.py`."""
    config = recipe("paper.finetune", ImageFacts(num_train, (375, 500), (224, 224), (16, 16)))
    assert config.examples == steps * 512
    assert float(config.schedule.warmup) * steps == pytest.approx(warmup)
    optim = config.optim
    assert (optim.name, optim.momentum, optim.weight_decay, optim.clip) == ("sgd", 0.9, 0.0, 1.0)
    assert (optim.lr, config.schedule.name) == (lr, "cosine")
    assert (config.augment.crop, config.augment.flip) == ("inception", 0.5)
    assert config.augment.crop_scale == (0.05, 1.0)
    assert recipe("paper.finetune", ImageFacts(500, (28, 28))).augment.crop_scale == (0.35, 1.0)
    assert config.data.image_size == (368, 368)  # 375 px are fewer than 384


@pytest.mark.parametrize(
    ("size", "start", "expected"),
    [
        ((500, 700), (224, 224), (384, 384)),
        ((28, 28), (28, 28), (28, 28)),
        ((20, 20), (28, 28), (28, 28)),
        ((40, 300), (32, 32), (40, 40)),
        ((500, 700), None, "auto"),
    ],
)
def test_higher_resolution_as_far_as_the_images_go(size: Any, start: Any, expected: Any) -> None:
    pictures = ImageFacts(5000, size, start, (4, 4))
    assert recipe("paper.finetune", pictures).data.image_size == expected


@pytest.mark.parametrize(
    ("width", "depth", "lr", "decay"), [(768, 12, 1.302e-4, 0.75), (96, 4, 1.0417e-3, 1.0)]
)
def test_adamw_by_the_size_of_the_model(width: int, depth: int, lr: float, decay: float) -> None:
    pictures = ImageFacts(500, (28, 28), (28, 28), (4, 4), width, depth)
    config = recipe("transfer.adamw", pictures)
    assert config.optim.lr == pytest.approx(lr, rel=1e-3)
    assert config.optim.layer_decay == decay


def test_masked_patches() -> None:
    config = recipe("paper.masked_patches", ImageFacts(10_000_000, (375, 500)))
    assert (config.objective, config.optim.lr, config.batch_size) == ("masked_patches", 2e-4, 4096)
    assert config.schedule.name == "cosine"


@pytest.mark.parametrize("name", sorted(BY_IMAGES))
@pytest.mark.parametrize("num_train", SIZES)
def test_complete_and_survives_toml(name: str, num_train: int) -> None:
    config = recipe(name, ImageFacts(num_train, (28, 37), (28, 28), (4, 4)))
    assert config.recipe == name
    assert sum(getattr(config, duration) is not None for duration in DURATIONS) == 1
    again = build(flatten(tomllib.loads(to_toml(config))), {})
    assert again == config
    assert config_hash(again) == config_hash(config)


def start(config: ModelConfig, classes: tuple[str, ...] = ("a",)) -> Start:
    kept = Preprocess(height=32, width=32, resize=(32, 32))
    return Start("x", "", "vit_ti16", config, kept, classes, "", "google", {})


@pytest.mark.parametrize(
    ("num_train", "model", "settings", "expected"),
    [
        (500, "vit_ti16", {}, "transfer.adamw"),
        (20_000, "vit_ti16", {}, "paper.finetune"),
        (20_000, "bit_r26x1_small", {}, "bit.hyperrule"),
        (500, "bit_r26x1_small", {}, "bit.hyperrule"),
        (500, "vit_ti16", {"freeze": "body"}, "transfer.head"),
        (500, "vit_ti16", {"lora": {"rank": 4}}, "transfer.lora"),
        (500, "vit_ti16", {"recipe": "deit"}, "deit"),
        (500, "vit_ti16", {"objective": "masked_patches"}, "paper.masked_patches"),
    ],
)
def test_recipe_that_is_chosen(
    num_train: int, model: str, settings: dict[str, Any], expected: str
) -> None:
    facts = Facts(num_train, "arrays", (32, 32), 3, (0.5,), (0.2,), None)
    config = resolve_model(model, num_classes=1, image_size=32)
    name, why = recipe_name(TrainConfig.model_validate(settings), facts, start(config))
    assert name == expected
    assert why


def test_a_model_without_labels_gets_more_than_a_little_tuning() -> None:
    facts = Facts(60_000, "arrays", (32, 32), 3, (0.5,), (0.2,), None)
    encoder = resolve_model("vit_ti16", num_classes=0, image_size=32)
    assert recipe_name(TrainConfig(), facts, start(encoder, ()))[0] == "transfer.adamw"
