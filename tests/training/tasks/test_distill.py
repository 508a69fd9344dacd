"""Learning from a teacher: losses against float64 NumPy, and what the teacher is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.classifier import Classifier
from vitrail.config import DistillConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch, normalise
from vitrail.errors import UsageError
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.training.plan.check_settings import class_columns
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.tasks.classify import Classify
from vitrail.training.tasks.distill import (
    Teacher,
    open_teacher,
    recast,
    teacher_loss,
)

CPU = torch.device("cpu")
GRAY = Preprocess(height=5, width=7, resize=(5, 7), mean=(0.3,), std=(0.2,))
COLOUR = Preprocess(height=5, width=7, resize=(5, 7), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
OTHER = COLOUR.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 1.0)})
SILENT = Teacher(torch.nn.Identity(), GRAY, 1.0, torch.arange(10))


def logits(seed: int, classes: int = 7) -> Tensor:
    return 3 * torch.randn(5, classes, generator=torch.Generator().manual_seed(seed))


def log_softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted: NDArray[np.float64] = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return shifted


def test_hard_against_numpy() -> None:
    ours, theirs = logits(1), logits(2)
    p = log_softmax(ours.double().numpy())
    expected = -p[np.arange(5), theirs.numpy().argmax(axis=1)].mean()
    found = teacher_loss(ours, theirs, DistillConfig(teacher="x", kind="hard"))
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_against_numpy(temperature: float) -> None:
    ours, theirs = logits(1), logits(2)
    p, q = (log_softmax(x.double().numpy() / temperature) for x in (ours, theirs))
    expected = temperature**2 * (np.exp(q) * (q - p)).sum(axis=1).mean()
    config = DistillConfig(teacher="x", kind="soft", temperature=temperature)
    assert float(teacher_loss(ours, theirs, config)) == pytest.approx(expected, abs=1e-5)
    assert float(teacher_loss(theirs + 4, theirs, config)) == pytest.approx(0, abs=1e-6)


def test_the_soft_gradient_does_not_fade_with_the_temperature() -> None:
    """T^2: gradients of cold and hot distributions are of one size (Hinton, arXiv 1503.02531)."""
    sizes = []
    for temperature in (50.0, 100.0):
        ours = logits(1).requires_grad_()
        config = DistillConfig(teacher="x", kind="soft", temperature=temperature)
        teacher_loss(ours, logits(2), config).backward()  # type: ignore[no-untyped-call]
        assert ours.grad is not None
        sizes.append(float(ours.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_run([("test", {"data.path": "builtin:digits", "batch_size": 5})])


def task(plan: Plan, **distill: object) -> Classify:
    """The task with a teacher whose answers the test gives."""
    changed = DistillConfig.model_validate({"teacher": "x", **distill})
    config = plan.config.model_copy(update={"distill": changed})
    return Classify(Plan(**{**vars(plan), "config": config}), CPU, None, teacher=SILENT)


@pytest.mark.parametrize("has_token", [False, True])
def test_labels_and_teacher_are_weighed(plan: Plan, has_token: bool) -> None:
    """With a distillation token each head has its own part; without one the head has both."""
    first, second, theirs = logits(1, 10), logits(3, 10), logits(2, 10)
    targets = torch.eye(10)[:5]
    found = task(plan, alpha=0.3).loss(
        lambda x: torch.stack([first, second], 1) if has_token else first,
        (torch.zeros(5, 1), targets, theirs),
    )
    p = log_softmax(first.double().numpy())
    smooth = plan.config.loss.label_smoothing
    wanted = targets.double().numpy() * (1 - smooth) + smooth / 10
    taught = log_softmax((second if has_token else first).double().numpy())
    of_labels = -(wanted * p).sum(axis=1).mean()
    of_teacher = -taught[np.arange(5), theirs.numpy().argmax(axis=1)].mean()
    assert float(found) == pytest.approx(0.7 * of_labels + 0.3 * of_teacher, abs=1e-5)


def pixels(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (2, channels, 5, 7), dtype=torch.uint8, generator=generator)


def test_teacher_sees_the_same_pixels_normalised_its_own_way() -> None:
    seen = recast(normalise(pixels(3), COLOUR), COLOUR, OTHER)
    assert (seen - normalise(pixels(3), OTHER)).abs().max() < 1e-5


def test_gray_images_for_a_teacher_of_colours_and_back() -> None:
    seen = recast(normalise(pixels(1), GRAY), GRAY, COLOUR)
    assert (seen - normalise(pixels(1).expand(-1, 3, -1, -1), COLOUR)).abs().max() < 1e-5
    luma = (pixels(3).double() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1) / 255
    seen = recast(normalise(pixels(3), COLOUR), COLOUR, GRAY)
    assert (seen[:, 0] - (luma - 0.3) / 0.2).abs().max() < 1e-5


def test_another_size_is_squashed() -> None:
    """Height and width by their own factors: a gradient along one axis stays along it."""
    large = Preprocess(height=10, width=21, resize=(10, 21), mean=(0.3,), std=(0.2,))
    ramp = (torch.arange(7, dtype=torch.uint8) * 30).expand(2, 1, 5, 7).contiguous()
    seen = recast(normalise(ramp, GRAY), GRAY, large)
    assert seen.shape == (2, 1, 10, 21)
    assert (seen - seen[:, :, :1]).abs().max() < 1e-5  # rows are equal
    assert bool((seen[0, 0, 0].diff() > -1e-6).all())
    flat = torch.full((1, 1, 5, 7), 200, dtype=torch.uint8)
    expected = (200 / 255 - 0.3) / 0.2
    assert (recast(normalise(flat, GRAY), GRAY, large) - expected).abs().max() < 1e-5


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 3 classes in another order, with dropout that must be off."""
    config = ViTConfig(
        image_size=(6, 8),
        patch_size=(2, 2),
        channels=1,
        width=8,
        depth=1,
        num_heads=2,
        mlp_dim=11,
        num_classes=3,
        dropout=0.5,
    )
    model = create_model(config, seed=1)
    model.get_parameter("head.weight").data.normal_(generator=torch.Generator().manual_seed(2))
    kept = Preprocess(height=6, width=8, resize=(6, 8), mean=(0.1,), std=(0.7,))
    folder = tmp_path_factory.mktemp("teacher") / "model"
    Classifier(model, kept, ["fox", "cat", "dog"], temperature=2.0).save(folder)
    return folder


def test_teacher_answers_for_the_students_classes(teacher: Path) -> None:
    found = open_teacher(DistillConfig(teacher=str(teacher)), ["cat", "dog"], CPU)
    known = Classifier.load(teacher)
    images = pixels(1)
    answers = found.logits(normalise(images, GRAY), GRAY)
    again = found.logits(normalise(images, GRAY), GRAY)
    with torch.no_grad():
        seen = recast(normalise(images, GRAY), GRAY, known.preprocess)
        expected = known.model(seen)[:, [1, 2]] / 2.0
    assert torch.equal(answers, expected)
    assert torch.equal(answers, again)
    assert not answers.requires_grad


def test_classes_the_teacher_does_not_know(teacher: Path) -> None:
    with pytest.raises(UsageError, match="cow") as caught:
        open_teacher(DistillConfig(teacher=str(teacher)), ["cat", "cow"], CPU)
    assert caught.value.code == "VIT-252"
    assert class_columns("x", [], 3, ["a", "b", "c"]) == [0, 1, 2]
    with pytest.raises(UsageError, match="3 outputs") as caught:
        class_columns("x", [], 3, ["a", "b"])
    assert caught.value.code == "VIT-252"


def test_mixed_images_are_mixed_for_the_teacher_too(teacher: Path, plan: Plan) -> None:
    """What it is shown is a function of the student's images alone."""
    shown: list[Tensor] = []

    class Spy(Teacher):
        def logits(self, images: Tensor, preprocess: Preprocess) -> Tensor:
            shown.append(images)
            return torch.zeros(len(images), 10)

    mixing = plan.config.augment.model_copy(update={"mixup": 0.4})
    copy = Plan(**{**vars(plan), "config": plan.config.model_copy(update={"augment": mixing})})
    spied = Classify(copy, CPU, None, Spy(**vars(SILENT)))
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    batch = Batch(images, torch.arange(5), torch.arange(5))
    parts = spied.parts(batch, 3)
    assert torch.equal(shown[0], parts[0])
    assert not torch.equal(parts[0], normalise(images, plan.preprocess))
