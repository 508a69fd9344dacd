"""Masked patch prediction: shares by counting, targets by hand, the forward pass by NumPy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.training.running import StopAt, records, resume, train, weights
from vitrail.classifier import load
from vitrail.errors import ModelError, UsageError
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.training.plan.pinned_model import load_pinned
from vitrail.training.plan.plan_run import plan_run
from vitrail.training.tasks.masked_patches import (
    KEEP,
    MASK,
    REPLACE,
    MaskedPatches,
    colour_targets,
    corruption_of_images,
    corruption_of_step,
    num_corrupted,
    patch_loss,
)

MPP: dict[str, Any] = {
    "recipe": "paper.masked_patches",
    "augment__policy": "none",
    "augment__mixup": 0.0,
    "model__dropout": 0.1,
}


def test_shares_by_counting() -> None:
    """50 % of the patches; of those 80, 10 and 10 %, each within five standard deviations."""
    B, P = 613, 35
    places, roles, partners = corruption_of_step(3, 17, B, P)
    assert places.shape == roles.shape == partners.shape == (B, 18)
    for share, role in ((0.8, MASK), (0.1, REPLACE), (0.1, KEEP)):
        n = roles.numel()
        assert abs(int((roles == role).sum()) - share * n) < 5 * math.sqrt(n * share * (1 - share))
    assert all(len(set(row)) == 18 for row in places.tolist())
    counts = torch.bincount(places.flatten(), minlength=P).double()
    assert (counts - B * 18 / P).abs().max() < 5 * math.sqrt(B * 0.25)
    assert bool((partners != places).all())  # another patch
    assert int(partners.min()) >= 0
    assert int(partners.max()) < P
    counts = torch.bincount(partners.flatten(), minlength=P).double()
    assert (counts - B * 18 / P).abs().max() < 5 * math.sqrt(B * 18 / P)


@given(patches=st.integers(1, 300))
def test_half_of_the_patches(patches: int) -> None:
    assert num_corrupted(patches) == max(1, round(patches / 2))
    places = corruption_of_step(0, 1, 2, patches).places
    assert places.shape == (2, num_corrupted(patches))
    assert int(places.max()) < patches


def test_a_function_of_seed_step_and_place() -> None:
    again, first = (corruption_of_step(5, 9, 7, 13) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    longer = corruption_of_step(5, 9, 11, 13)  # the same rows whatever the batch
    assert all(torch.equal(a, b[:7]) for a, b in zip(first, longer, strict=True))
    for other in (corruption_of_step(5, 10, 7, 13), corruption_of_step(6, 9, 7, 13)):
        assert not torch.equal(first.places, other.places)
    assert len({tuple(row) for row in first.places.tolist()}) > 3  # images differ


def test_held_out_images_are_asked_the_same_in_any_batch() -> None:
    whole = corruption_of_images(5, torch.arange(11), 13)
    part = corruption_of_images(5, torch.tensor([8, 3]), 13)
    assert torch.equal(part.places, whole.places[[8, 3]])
    assert torch.equal(part.roles, whole.roles[[8, 3]])


def test_targets_by_hand() -> None:
    """2 x 3 patches of 2 x 1 pixels; red counts most, and 3 bits are cut, not rounded."""
    red = [[0, 31, 32, 255, 63, 255], [0, 32, 32, 255, 64, 0]]
    image = torch.zeros(1, 3, 4, 3, dtype=torch.uint8)
    for row in range(2):
        for col in range(3):
            for part in range(2):
                image[0, 0, 2 * row + part, col] = red[part][3 * row + col]
    image[0, 1, :2, 0], image[0, 2, 2:, 2] = 255, 128
    levels = [0, 31.5 // 32, 1, 7, 63.5 // 32, 127.5 // 32]
    expected = [64 * int(level) for level in levels]
    expected[0] += 8 * 7
    expected[5] += 128 // 32
    assert colour_targets(image, (2, 3)).tolist() == [expected]
    assert colour_targets(image[:, :1], (2, 3)).tolist() == [[int(level) for level in levels]]
    white = torch.full((1, 3, 4, 3), 255, dtype=torch.uint8)
    assert colour_targets(white, (2, 3)).tolist() == [[511] * 6]


def tiny(**changes: object) -> MaskedPatches:
    values = {"image_size": (6, 10), "patch_size": (3, 2), "channels": 1, "width": 16, "depth": 2}
    values |= {"num_heads": 2, "mlp_dim": 17, "pool": "gap"}
    network = MaskedPatches(
        create_model(ViTConfig.model_validate(values | changes), seed=1), seed=3
    )
    generator = torch.Generator().manual_seed(5)
    network.predict.weight.data.normal_(generator=generator)
    network.mask_token.data.normal_(generator=generator)
    return network.double().eval()


@pytest.mark.parametrize("changes", [{}, {"pool": "cls"}, {"posemb": "rope_2d"}])
def test_forward_replaces_embeddings_before_position(changes: dict[str, object]) -> None:
    """One image at a time, by loops: mask token, another patch, or the patch itself."""
    network = tiny(**changes)
    encoder = network.encoder
    images = torch.randn(3, 1, 6, 10, dtype=torch.float64).clamp(-1, 1)
    corruption = corruption_of_step(1, 1, 3, 10)
    logits = network(images, *corruption)
    assert logits.shape == (3, 5, 8)
    for b in range(3):
        patches = encoder.patch_embed(images[b : b + 1])
        new = patches.clone()
        for place, role, partner in zip(*(part[b].tolist() for part in corruption), strict=True):
            if role == MASK:
                new[0, place] = network.mask_token[0, 0]
            elif role == REPLACE:
                new[0, place] = patches[0, partner]
        tokens = encoder.encode(encoder.arrange(new))[0, encoder.config.num_prefix :]
        expected = network.predict(tokens[corruption.places[b]])
        assert (logits[b] - expected).abs().max() < 1e-12


def test_every_parameter_learns_but_the_unread() -> None:
    network = tiny().train()
    images = torch.randn(3, 1, 6, 10, dtype=torch.float64)
    corruption = corruption_of_step(1, 1, 3, 10)
    patch_loss(network(images, *corruption), torch.zeros(3, 5, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]
    without = [name for name, value in network.named_parameters() if value.grad is None]
    assert without == []


def test_loss_against_numpy() -> None:
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1, 6, 0], [2, 2, 5]])
    x = logits.double().numpy().reshape(6, 7)
    chosen = x[np.arange(6), targets.flatten().numpy()]
    expected = (np.log(np.exp(x).sum(axis=1)) - chosen).mean()
    assert float(patch_loss(logits, targets)) == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("straight"), with_report=True, **MPP).run_dir


def test_run_leaves_an_encoder(straight: Path) -> None:
    model = load(straight)
    assert model.classes == []
    assert load_pinned(str(straight), "", "")[1].num_classes == 0
    assert not [name for name in model.model.state_dict() if "mask" in name or "predict" in name]
    card = (straight / "model" / "README.md").read_text()
    assert "without a head" in card
    assert "accuracy" not in card
    run = json.loads((straight / "run.json").read_text())
    assert set(run["results"]) == {"val"}
    assert set(run["baselines"]) == {"most frequent colour"}
    assert not (straight / "eval").exists()
    assert "of hidden patches" in (straight / "report.html").read_text()
    assert "of hidden patches" in (straight / "report.md").read_text()


def test_an_encoder_is_no_classifier(straight: Path) -> None:
    encoder = load(straight)
    with pytest.raises(ModelError) as caught:
        encoder.predict(np.zeros((8, 8, 1), np.uint8))
    assert caught.value.code == "VIT-443"
    with pytest.raises(ModelError) as caught:
        encoder.evaluate("builtin:digits")
    assert caught.value.code == "VIT-443"


def test_first_loss_is_ln_of_the_colours(tmp_path: Path) -> None:
    run = train(tmp_path, **{**MPP, "steps": 1}).run_dir
    assert records(run)[0]["train/loss"] == pytest.approx(math.log(8), abs=1e-6)


@pytest.mark.promise("R1")
@pytest.mark.parametrize("stop_at", [2, 7])
def test_stopped_and_resumed_equals_straight(straight: Path, tmp_path: Path, stop_at: int) -> None:
    stopped = train(tmp_path, reporter=StopAt(stop_at), **MPP)
    assert stopped.stopped == "SIGINT"
    resume(stopped.run_dir)
    assert records(stopped.run_dir) == records(straight)
    assert weights(stopped.run_dir) == weights(straight)


def data_set(folder: Path, labels: Any, test: int) -> Path:
    """Images of two bars; `test` fills the test split, which nothing may look at."""
    images = np.random.default_rng(3).integers(0, 256, (67, 12, 8, 3), dtype=np.uint8)
    values: dict[str, Any] = {"train_images": images[:53], "val_images": images[53:60]}
    values |= {"train_labels": labels[:53], "val_labels": labels[53:60]}
    values |= {"test_images": np.full((7, 12, 8, 3), test, np.uint8), "test_labels": labels[60:]}
    folder.mkdir()
    np.savez(folder / "data.npz", **values)
    return folder / "data.npz"


def test_neither_labels_nor_the_test_split_are_looked_at(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**MPP, "batch_size": 11, "steps": 5, "model__name": "vit_ti4"}
    first = data_set(tmp_path / "a", np.arange(67) % 3, 0)
    other = data_set(tmp_path / "b", np.arange(67) % 2, 255)
    runs = [
        train(tmp_path / path.parent.name, data__path=str(path), **settings).run_dir
        for path in (first, other)
    ]
    assert records(runs[0]) == records(runs[1])
    assert weights(runs[0]) == weights(runs[1])


def test_one_folder_of_images_is_enough(tmp_path: Path) -> None:
    (tmp_path / "photos" / "all").mkdir(parents=True)
    generator = np.random.default_rng(5)
    for number in range(31):
        pixels = generator.integers(0, 256, (17, 13, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "all" / f"{number}.png")
    settings = {**MPP, "batch_size": 5, "steps": 2, "model__name": "vit_ti8"}
    settings |= {"data__image_size": 16, "data__workers": 0, "data__path": str(tmp_path / "photos")}
    run = train(tmp_path, **settings).run_dir
    assert json.loads((run / "model" / "model.json").read_text())["classes"] == []


def test_learns_colours_from_their_neighbours(tmp_path: Path) -> None:
    """Images of one colour each: what is hidden is what is seen."""
    colours = np.random.default_rng(5).integers(0, 8, (61, 1, 1, 1)) * 32 + 16
    images = np.broadcast_to(colours, (61, 8, 8, 1)).astype(np.uint8)
    labels = np.arange(61) % 2
    np.savez(
        tmp_path / "data.npz",
        train_images=images[:48],
        train_labels=labels[:48],
        val_images=images[48:],
        val_labels=labels[48:],
    )
    changes = {**MPP, "augment__crop": "none", "model__dropout": 0.0}
    result = train(
        tmp_path,
        data__path=str(tmp_path / "data.npz"),
        batch_size=16,
        model__name="vit_ti2",
        lr=1e-2,
        with_report=True,
        **{**changes, "steps": 90, "eval_every_epochs": 30},
    )
    assert result.best["val/top1"] > 0.9
    assert max(result.baselines.values()) < 0.4


@pytest.mark.parametrize(
    ("settings", "lr"),
    [
        ({"model.name": "vit_b16", "image_size": 16}, 2e-4),
        ({"model.name": "vit_s16", "image_size": 16}, 4e-4),
        ({"model.width": 96, "model.num_heads": 3}, 1.6e-3),
        ({"model.width": 96, "model.num_heads": 3, "lr": 3e-4}, 3e-4),
    ],
)
def test_the_papers_rate_is_of_the_papers_width(settings: dict[str, Any], lr: float) -> None:
    layer = {"data.path": "builtin:digits", "recipe": "paper.masked_patches", "batch_size": 2}
    assert plan_run([("test", {**layer, **settings})]).config.optim.lr == pytest.approx(lr)


@pytest.mark.parametrize(
    "setting",
    [{"augment.mixup": 0.3}, {"loss.label_smoothing": 0.1}, {"start.head": "by_name", "from": ""}],
)
def test_settings_without_a_meaning_are_refused(setting: dict[str, object], straight: Path) -> None:
    layer = {"data.path": "builtin:digits", "recipe": "paper.masked_patches", **setting}
    if "from" in layer:
        layer["from"] = str(straight)
    with pytest.raises(UsageError) as caught:
        plan_run([("test", layer)])
    assert caught.value.code == "VIT-251"


def test_a_resnet_has_no_patches() -> None:
    layer = {"data.path": "builtin:digits", "objective": "masked_patches", "seed": 3}
    layer |= {"recipe": "transfer.head", "freeze": "none", "model.name": "bit_r26x1_small"}
    with pytest.raises(UsageError, match="bit") as caught:
        plan_run([("test", {**layer, "image_size": 32})])
    assert caught.value.code == "VIT-251"


def test_the_questions_of_an_evaluation_stay_for_ever() -> None:
    """A figure of a run that is finished is compared with one of a run to come."""
    found = corruption_of_images(3, torch.tensor([0, 5, 11]), 7)
    assert found.places.tolist() == [[0, 2, 3, 6], [1, 3, 5, 6], [0, 1, 3, 6]]
    assert found.roles.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
