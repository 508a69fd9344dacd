"""What BatchNorm means for a run: its running values are part of the exact state, averaged with the
weights, left alone with a frozen body, moved once a pass; that a batch has parts is said first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.training.running import STEM, records, weights
from vitrail.config import TrainConfig
from vitrail.errors import UsageError
from vitrail.models.names import resolve_model
from vitrail.settings.layers import build
from vitrail.training import loop
from vitrail.training.network import create_network
from vitrail.training.optim.batch_statistics import sentences
from vitrail.training.optim.ema import Ema
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.ranks.share import cut
from vitrail.training.ranks.spread import Alone
from vitrail.training.reporter import RunResult, SilentReporter
from vitrail.training.state import start_state
from vitrail.training.step import update

COMMON: dict[str, Any] = {
    "data.path": "builtin:digits",
    "steps": 5,
    "batch_size": 30,
    "precision": "float32",
    "eval_every_epochs": 1.0,
    "threads": 1,
}
RESNET: dict[str, Any] = {
    "model": "resnet_ti",
    "model.stem_width": 5,
    "model.stem_stride": 1,
    "model.widths": "6,8",
}
BOTH = pytest.mark.parametrize(
    "model", [RESNET, pytest.param(STEM, marks=pytest.mark.slow)], ids=["resnet", "stem"]
)


class Notices(SilentReporter):
    """Keeps what is said before the first step."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.has_begun = False

    def notice(self, text: str) -> None:
        self.said += [] if self.has_begun else [text]

    def step(self, record: object) -> None:
        self.has_begun = True


def train(
    folder: Path, name: str, *layers: dict[str, Any], reporter: SilentReporter | None = None
) -> RunResult:
    given = [("test", layer) for layer in (COMMON, *layers)]
    return loop.train(given, runs_dir=folder, name=name, reporter=reporter, with_report=False)


def shipped(run_dir: Path) -> dict[str, Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


def is_running(name: str) -> bool:
    return name.endswith(("running_mean", "running_var"))


def test_averages_include_the_running_values() -> None:
    """Closed form: the average of what the layer held after each pass."""
    model = create_network(TrainConfig(), resolve_model("resnet_ti", num_classes=3))
    ema = Ema(model, 0.75)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    for seed in range(3):
        model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))
        ema.update(model)
        for name, value in model.state_dict().items():
            expected[name] = 0.75 * expected[name] + 0.25 * value
    moved = [name for name in expected if is_running(name)]
    assert moved
    for name in moved:
        assert torch.allclose(ema.shadow[name], expected[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(ema.shadow[name], model.state_dict()[name])


def test_a_run_ships_the_averaged_running_values(tmp_path: Path) -> None:
    run = train(tmp_path, "ema", RESNET, {"ema": 0.9}).run_dir
    newest = run / "checkpoints" / "step-00000005"
    plain, averaged = load_file(newest / "model.safetensors"), load_file(newest / "ema.safetensors")
    sent = shipped(run)
    assert plain.keys() == averaged.keys() == sent.keys()
    for name in filter(is_running, sent):
        assert torch.equal(sent[name], averaged[name])
        assert not torch.equal(sent[name], plain[name])


@BOTH
def test_a_frozen_body_keeps_its_running_values(model: dict[str, Any], tmp_path: Path) -> None:
    """And says so; all that changes is the head."""
    first = train(tmp_path, "first", model).run_dir
    said = Notices()
    start = {"from": str(first), "freeze": "body", "optim.lr": 0.1}
    second = train(tmp_path, "second", start, reporter=said).run_dir
    before, after = shipped(first), shipped(second)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith("head") for name in changed)
    assert any("BatchNorm keeps the means and variances" in text for text in said.said)


@BOTH
def test_recomputed_activations_change_no_bit(model: dict[str, Any], tmp_path: Path) -> None:
    plain = train(tmp_path, "plain", model).run_dir
    other = train(tmp_path, "recomputed", model, {"checkpoint_activations": True}).run_dir
    assert weights(plain) == weights(other)
    assert records(plain) == records(other)


def test_an_update_in_parts_is_that_of_each_part_normalised_alone() -> None:
    """Mean gradients and twice moved running values, against the two passes by hand; SGD."""
    model = resolve_model("resnet_ti", num_classes=3, image_size=(9, 7))
    flat = {"optim.name": "sgd", "optim.momentum": 0.0, "optim.lr": 0.1, "optim.accumulate": 2}
    config = build(
        flat | {"optim.clip": 0.0, "optim.weight_decay": 0.0, "precision": "float32"}, {}
    )
    state = start_state(config, model, Schedule.of(1), torch.device("cpu"))
    hand = create_network(config, model)
    generator = torch.Generator().manual_seed(1)
    for network in (state.model, hand):
        network.double().train()
        with torch.no_grad():
            network.get_parameter("head.fc.weight").normal_(generator=generator.manual_seed(2))
    images = torch.randn(6, 3, 9, 7, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])

    def loss(forward: Any, parts: Any) -> Tensor:
        return torch.nn.functional.cross_entropy(forward(parts[0]), parts[1])

    parts = cut((images, labels), range(config.optim.accumulate))
    update(Alone(state.model), state, parts, loss, config)
    passes = [loss(hand, (images[a:b], labels[a:b])) for a, b in ((0, 3), (3, 6))]
    torch.autograd.backward(torch.stack(passes).mean())
    for value in hand.parameters():
        assert value.grad is not None
        value.data -= 0.1 * value.grad
    for name, value in hand.state_dict().items():
        assert (value - state.model.state_dict()[name]).abs().max() <= 1e-12, name


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optim.accumulate": 6}, "BatchNorm sees 5 images at a time, each of the 6 parts"),
        ({"optim.accumulate": 30}, "BatchNorm sees 1 image at a time, each of the 30 parts"),
        ({"batch_size": 7}, "BatchNorm sees 7 images at a time, few for a mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_layer_sees(changes: dict[str, Any], text: str) -> None:
    model = resolve_model("resnet_s", num_classes=10)
    (said,) = sentences(build({"batch_size": 30} | changes, {}), model)
    assert said.startswith(text)
    assert said.endswith("--model.norm group")


def test_one_image_a_batch_is_said_before_training(tmp_path: Path) -> None:
    said = Notices()
    result = train(tmp_path, "run", RESNET, {"batch_size": 1}, reporter=said)
    assert any(text.startswith("BatchNorm sees 1 image at a time") for text in said.said)
    assert all(value.isfinite().all() for value in shipped(result.run_dir).values())


def test_where_nothing_is_to_be_said() -> None:
    """A whole batch, GroupNorm, no such layer; a stem has another setting."""
    resnet = resolve_model("resnet_s", num_classes=10)
    group = resolve_model("resnet_s", num_classes=10, overrides={"norm": "group"})
    stem = resolve_model("vit_ti4", num_classes=10, overrides={"stem": "residual", "patch_size": 4})
    parts = build({"batch_size": 64, "optim.accumulate": 4}, {})
    assert not sentences(build({"batch_size": 64}, {}), resnet)
    assert not sentences(parts, group)
    assert not sentences(parts, resolve_model("vit_s16", num_classes=10))
    assert not sentences(parts, resolve_model("bit_r50x1", num_classes=10))
    assert "--model.norm group" in sentences(parts, resnet)[0]
    assert "--model.stem_norm group" in sentences(parts, stem)[0]


@pytest.mark.slow
def test_group_norm_computes_the_same_in_any_parts(tmp_path: Path) -> None:
    """Up to rounding; with BatchNorm the losses differ, which is what is said."""
    for norm, is_same in (("group", True), ("batch", False)):
        settings = RESNET | {"model.norm": norm}
        whole = records(train(tmp_path, f"{norm}-whole", settings).run_dir)
        parts = records(train(tmp_path, f"{norm}-parts", settings, {"optim.accumulate": 5}).run_dir)
        losses = [
            [row["train/loss"] for row in rows if "train/loss" in row][-1]
            for rows in (whole, parts)
        ]
        assert (losses[0] == pytest.approx(losses[1], rel=2e-5)) == is_same


def test_files_train_the_same_whatever_the_workers(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(17):
            pixels = generator.integers(0, 256, (29, 37, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    settings = RESNET | {
        "data.path": str(tmp_path / "photos"),
        "batch_size": 7,
        "data.image_size": "13x16",
    }
    runs = [train(tmp_path, f"w{w}", settings, {"data.workers": w}).run_dir for w in (0, 2)]
    assert weights(runs[0]) == weights(runs[1])
    assert records(runs[0]) == records(runs[1])


def test_masked_patches_and_adapters_behind_a_stem(tmp_path: Path) -> None:
    """Masked patches move the running values; adapters leave them alone."""
    masked = {"objective": "masked_patches", "augment.mixup": 0.0, "augment.cutmix": 0.0}
    first = train(tmp_path, "masked", STEM, {"loss.label_smoothing": 0.0}, masked).run_dir
    before = shipped(first)
    moved = [name for name in before if name.endswith("running_mean")]
    assert moved
    assert all(before[name].any() for name in moved)
    start = {"from": str(first), "lora.rank": 2}
    after = shipped(train(tmp_path, "adapters", start).run_dir)
    assert all(torch.equal(after[name], before[name]) for name in filter(is_running, before))
    assert not torch.equal(after["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])


def test_a_residual_network_learns_from_another(tmp_path: Path) -> None:
    """The teacher is in evaluation: none of its values moves."""
    teacher = train(tmp_path, "teacher", RESNET).run_dir
    file = teacher / "model" / "model.safetensors"
    before = file.read_bytes()
    run = train(tmp_path, "student", RESNET, {"distill.teacher": str(teacher)}).run_dir
    assert weights(run) != weights(teacher)
    assert file.read_bytes() == before


REFUSED = [
    ({"objective": "masked_patches"}, "VIT-251"),
    ({"lora.rank": 2, "from": "FIRST"}, "VIT-250"),
    ({"compile": True, "checkpoint_activations": True}, "VIT-255"),
]


@pytest.mark.parametrize(("changes", "code"), REFUSED, ids=[code for _, code in REFUSED])
def test_what_such_a_network_cannot_do_is_refused(
    changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    first = train(tmp_path, "first", RESNET).run_dir
    given = {key: str(first) if value == "FIRST" else value for key, value in changes.items()}
    with pytest.raises(UsageError) as caught:
        train(tmp_path, "second", *([] if "from" in given else [RESNET]), given)
    assert caught.value.code == code
