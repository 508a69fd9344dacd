"""The residual network for small images, alone and as a ViT's stem: the common suite, the NumPy
reference in float64 in evaluation and in training, BatchNorm, cost, names, export, refusals."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.models.check_model import check_export, check_model, random_images, random_model, tapped
from tests.models.tiny_configs import BASE, STEMS
from tests.reference import residual_numpy
from vitrail.errors import UsageError
from vitrail.models.cost import macs, parameters, running_values
from vitrail.models.create import create_model
from vitrail.models.layers.tap import TapDict
from vitrail.models.names import known_names, resolve_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.resnet.conv_norm import BatchNorm
from vitrail.models.resnet.model import ResNet
from vitrail.models.vit.config import ViTConfig

TINY: dict[str, Any] = {
    "image_size": (13, 10),
    "channels": 2,
    "stem_width": 6,
    "widths": (8, 12),
    "pool": "max",
    "num_classes": 7,
}
# Every value of these with every value of another, in the choices below.
PAIRED = ("norm", "block", "opening", "relu", "pool")
CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "all-other": {
        "block": "bottleneck",
        "opening": "projection",
        "relu": "sum",
        "pool": "mean",
        "norm_momentum": 0.3,
        "norm_eps": 1e-3,
        "stem_stride": 1,
        "image_size": (7, 11),
        "strides": (3, 2),
    },
    "group": {"norm": "group", "relu": "sum", "pool": "mean", "depths": (2, 0), "channels": 1},
    "group-other": {"norm": "group", "block": "bottleneck", "opening": "projection"},
    "standardised": {
        "norm": "group_std",
        "opening": "projection",
        "pool": "mean",
        "widths": (10, 22),
        "stem_stride": 3,
        "depths": (1, 2),
    },
    "standardised-other": {
        "norm": "group_std",
        "block": "bottleneck",
        "relu": "sum",
        "head_bias_init": -3.0,
    },
    "projection-mean": {"norm": "group", "opening": "projection", "pool": "mean"},
    "bottleneck-mean": {"block": "bottleneck", "pool": "mean"},
    "projection-sum": {"opening": "projection", "relu": "sum", "widths": (6, 6), "strides": (1, 1)},
    "one-stage": {"widths": (9,), "strides": (4,), "depths": (0,), "image_size": (29, 19)},
    "three-stages": {"widths": (8, 4, 8), "strides": (2, 1, 2), "depths": (1, 0, 1)},
}


def tiny(**changes: Any) -> ResNetConfig:
    return ResNetConfig(**(TINY | changes))


def arrays(model: torch.nn.Module) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def test_every_pair_of_options_is_chosen() -> None:
    values = {
        option: sorted({getattr(tiny(**choice), option) for choice in CHOICES.values()})
        for option in PAIRED
    }
    assert [len(values[option]) for option in PAIRED] == [3, 2, 2, 2, 2]
    for one, other in itertools.combinations(PAIRED, 2):
        found = {
            (getattr(tiny(**choice), one), getattr(tiny(**choice), other))
            for choice in CHOICES.values()
        }
        assert found == set(itertools.product(values[one], values[other])), (one, other)


@pytest.mark.parametrize("choice", CHOICES)
def test_check_model(choice: str) -> None:
    check_model(tiny(**CHOICES[choice]))


@pytest.mark.parametrize("stem", ["residual", "convolutions"])
def test_check_model_behind_a_stem(stem: str) -> None:
    check_model(ViTConfig(**(BASE | STEMS[stem])))


@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("choice", CHOICES)
def test_equals_numpy_reference(choice: str, is_training: bool) -> None:
    """Logits, every intermediate, and what becomes of the running values: |diff| <= 1e-10 in
    float64 (rung 2 of the ladder)."""
    config = tiny(**CHOICES[choice])
    model, images = random_model(config).train(is_training), random_images(config, 3)
    before = arrays(model)
    expected, moved = residual_numpy.forward(
        before, config, images.numpy(), is_training=is_training
    )
    with torch.no_grad():
        _, store = tapped(model, images)
    assert set(store) == set(expected)
    for name, value in expected.items():
        diff = np.abs(store[name].numpy() - value).max()
        assert diff <= 1e-10, f"{name} differs by {diff}"
    after = arrays(model)
    assert bool(moved) == (is_training and config.norm == "batch")
    for name, value in (before | moved).items():
        assert np.abs(after[name] - value).max() <= 1e-10, name
        assert (name in moved) == bool(np.any(after[name] != before[name])), name


def test_reference_tells_wrong_options_apart() -> None:
    """Negative control: with one number of the reference wrong, it must not agree."""
    config = tiny()
    model, images = random_model(config), random_images(config, 3)
    state = arrays(model)
    logits = model(images).detach().numpy()
    for change in ({"norm_eps": 1e-3}, {"relu": "sum"}, {"pool": "mean"}, {"norm": "group"}):
        other = config.model_copy(update=change)
        wrong, _ = residual_numpy.forward(state, other, images.numpy())
        assert np.abs(wrong["logits"] - logits).max() > 1e-7, change
    _, moved = residual_numpy.forward(state, config, images.numpy(), is_training=True)
    other = config.model_copy(update={"norm_momentum": 0.2})
    _, wrong = residual_numpy.forward(state, other, images.numpy(), is_training=True)
    assert all(np.abs(moved[name] - wrong[name]).max() > 1e-7 for name in moved)


def test_a_single_value_a_channel_takes_the_running_values() -> None:
    """One image whose last map has one position: that layer normalises as in evaluation, and its
    running values stay; the layers before it learn."""
    config = tiny(image_size=(3, 4), stem_stride=2, widths=(8,), strides=(2,), depths=(1,))
    assert config.stem_conv.out_size == (2, 2)
    assert config.map_size == (1, 1)
    model, images = random_model(config).train(), random_images(config, 1)
    before = arrays(model)
    expected, moved = residual_numpy.forward(before, config, images.numpy(), is_training=True)
    assert {name.rsplit(".", 2)[0] for name in moved} == {"stem"}
    logits = model(images)
    assert np.abs(logits.detach().numpy() - expected["logits"]).max() <= 1e-10
    after = arrays(model)
    assert all(np.array_equal(after[name], before[name]) for name in set(before) - set(moved))
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_frozen_weights_keep_their_running_values() -> None:
    """As of a body that `--freeze body` leaves alone: training computes what evaluation does."""
    model = random_model(tiny())
    images = random_images(model.config, 3)
    logits, before = model(images), arrays(model)
    for name, value in model.named_parameters():
        value.requires_grad_(name.startswith("head"))
    model.train()
    assert torch.equal(model(images), logits)
    assert all(np.array_equal(value, before[name]) for name, value in arrays(model).items())


def test_parts_of_a_batch_are_batches_of_their_own() -> None:
    """What accumulation means: each part has its mean and variance, and moves the running values
    once; GroupNorm does not see how a batch was divided."""
    for norm, is_same in (("batch", False), ("group", True)):
        model = random_model(tiny(norm=norm)).train()
        images = random_images(model.config, 6)
        parts = copy.deepcopy(model)
        whole = model(images)
        halves = torch.cat([parts(images[:3]), parts(images[3:])])
        assert ((whole - halves).abs().max() <= 1e-12) == is_same
        for name, value in model.state_dict().items():
            assert torch.equal(value, parts.state_dict()[name]) == ("running" not in name)


def test_evaluation_folds_the_norm_into_the_kernel() -> None:
    """Convolutions with their ReLUs, and no norm: also what is exported."""
    model = random_model(tiny())
    program = torch.export.export(model, (random_images(model.config, 2),))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names.count("aten.conv2d.default") == len(tiny().convs)
    assert not [name for name in names if "norm" in name]


@pytest.mark.parametrize("choice", ["default", "standardised"])
def test_export_equals_eager(choice: str) -> None:
    check_export(random_model(tiny(**CHOICES[choice])))


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_export_equals_eager_for_every_choice(choice: str) -> None:
    check_export(random_model(tiny(**CHOICES[choice])))


def test_export_equals_eager_behind_a_stem() -> None:
    check_export(random_model(ViTConfig(**(BASE | STEMS["residual"]))))


@pytest.mark.parametrize("choice", CHOICES)
def test_multiply_adds_are_those_that_torch_counts(choice: str) -> None:
    """Exactly: of convolutions and head, for one image, by torch's own counter."""
    model = random_model(tiny(**CHOICES[choice]))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(random_images(model.config, 1))
    assert counter.get_total_flops() == 2 * macs(model.config)


def test_counts_by_hand() -> None:
    """Stem of 2 channels on 5 x 3 pixels at stride 2; a stage of one convolution and one unit."""
    config = tiny(
        image_size=(5, 3), stem_width=2, widths=(4,), strides=(1,), depths=(1,), num_classes=5
    )
    weights = [9 * 2 * 2, 9 * 2 * 4, 9 * 4 * 4, 9 * 4 * 4]
    channels = 2 + 4 + 4 + 4
    assert parameters(config) == sum(weights) + 2 * channels + 5 * 4 + 5
    assert running_values(config) == 2 * channels
    assert macs(config) == 6 * sum(weights) + 4 * 5  # maps of 3 x 2
    assert running_values(config.model_copy(update={"norm": "group"})) == 0


def test_initial_values() -> None:
    """He-normal kernels to 4 standard errors; norms 1 and 0; running values 0 and 1; a head of
    zeros, so that the first loss is the logarithm of the number of classes."""
    config = resolve_model("resnet_ti", num_classes=11)
    model = create_model(config, seed=3)
    start = model.state_dict()
    kernel = start["stages.1.blocks.1.conv2.conv.weight"]
    deviation = math.sqrt(2 / kernel[0].numel())
    error = 4 / math.sqrt(2 * kernel.numel())
    assert kernel.square().mean().sqrt().item() == pytest.approx(deviation, rel=error)
    expected = {"norm.weight": 1, "norm.bias": 0, "running_mean": 0, "running_var": 1, "head": 0}
    for part, number in expected.items():
        found = [value for name, value in start.items() if part in name]
        assert found
        assert all((value == number).all() for value in found), part
    logits = model(torch.randn(3, 3, 32, 32))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 4, 10]))
    assert loss.item() == pytest.approx(math.log(11), abs=1e-6)
    stem = create_model(ViTConfig(**(BASE | STEMS["residual"]))).state_dict()
    kernel = stem["patch_embed.backbone.stages.0.blocks.1.conv1.conv.weight"]
    error = 4 / math.sqrt(2 * kernel.numel())
    assert kernel.square().mean().sqrt().item() == pytest.approx(math.sqrt(2 / 72), rel=error)
    assert (stem["patch_embed.backbone.stem.norm.running_var"] == 1).all()


@pytest.mark.parametrize("name", ["resnet_s", "ResNet-S", "resnet-S"])
def test_names(name: str) -> None:
    config = resolve_model(name, num_classes=10, image_size=(24, 36), overrides={"norm": "group"})
    assert isinstance(config, ResNetConfig)
    assert (config.image_size, config.norm, config.stem_width) == ((24, 36), "group", 24)
    assert config.widths == (48, 96)


@pytest.mark.parametrize(
    ("side", "stem_stride", "strides"),
    [(16, 1, (1, 2)), (28, 1, (2, 2)), (45, 1, (2, 2)), (46, 2, (2, 2)), (96, 2, (2, 2, 2))],
)
def test_a_small_image_keeps_its_pixels_in_the_stem(
    side: int, stem_stride: int, strides: tuple[int, ...]
) -> None:
    config = resolve_model("resnet_s", num_classes=10, image_size=(side, side))
    assert isinstance(config, ResNetConfig)
    assert (config.stem_stride, config.strides) == (stem_stride, strides)
    assert max(config.map_size) <= 12


def test_sizes_grow_and_are_listed() -> None:
    names = ["resnet_ti", "resnet_s", "resnet_m", "resnet_b"]
    assert [name for name in known_names() if name.startswith("resnet")] == names
    counts = [parameters(resolve_model(name, num_classes=10)) for name in names]
    assert counts == sorted(counts)
    assert isinstance(create_model("resnet_s", num_classes=10), ResNet)


def test_text_is_read_as_on_the_command_line() -> None:
    stages = {"widths": "8,16,24", "strides": "1,2,2", "depths": "1,1,0"}
    config = resolve_model("resnet_s", num_classes=10, overrides=stages)
    assert isinstance(config, ResNetConfig)
    assert (config.widths, config.strides, config.depths) == ((8, 16, 24), (1, 2, 2), (1, 1, 0))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"widths": (8, 12, 16)}, "widths, strides and depths need a number for each stage"),
    ({"opening": "projection", "depths": (1, 0)}, "needs a unit in each stage"),
    ({"block": "bottleneck", "widths": (8, 10)}, "multiples of 4"),
    ({"norm": "group", "norm_momentum": 0.2}, "norm_momentum has no effect"),
    ({"head_bias_init": -1.0, "num_classes": 0}, "head_bias_init has no effect"),
    ({"block": "bottleneck", "depths": (0, 0)}, "block='bottleneck' has no effect"),
    ({"relu": "sum", "depths": (0, 0)}, "relu='sum' has no effect"),
    ({"widths": (16_384,) * 6, "strides": (1,) * 6, "depths": (64,) * 6}, "billion"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_impossible_combinations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        tiny(**changes)
    assert caught.value.code == "VIT-222"


STEM_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stem_strides": (1,)}, "stem_widths, stem_strides and stem_depths need a number"),
    ({"stem_stages": (1,)}, "stem_stages has no effect with stem='residual'"),
    ({"stem": "conv", "stem_widths": ()}, "no effect with stem='conv'"),
    ({"drop_rest": True}, "drop_rest has no effect"),
]


@pytest.mark.parametrize(("changes", "message"), STEM_REFUSED, ids=[t for _, t in STEM_REFUSED])
def test_impossible_stems_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ViTConfig(**(BASE | STEMS["residual"] | changes))
    assert caught.value.code == "VIT-222"


def test_without_a_head_the_model_gives_features() -> None:
    model = random_model(tiny(num_classes=0))
    images = random_images(model.config, 3)
    assert model(images).shape == (3, 12)
    assert torch.equal(model(images), model.features(images))
    store: TapDict = {}
    model(images, tap=store)
    assert "logits" not in store


@pytest.mark.parametrize("shape", [(1, 2, 10, 13), (1, 3, 13, 10), (2, 13, 10)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"\(B, 2, 13, 10\)") as caught:
        random_model(tiny())(torch.zeros(shape, dtype=torch.float64))
    assert caught.value.code == "VIT-224"


def test_unknown_tap_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean stage1") as caught:
        tapped(random_model(tiny()), random_images(tiny(), 1), "stage2")
    assert caught.value.code == "VIT-223"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["batch", "group", "group_std"])
@pytest.mark.parametrize("is_training", [False, True])
def test_every_map_has_its_channels_last(channels: int, norm: str, is_training: bool) -> None:
    """Also of gray images, whose layout torch cannot tell."""
    model = random_model(tiny(channels=channels, norm=norm), dtype=torch.float32)
    _, store = tapped(model.train(is_training), random_images(model.config, 2).float())
    for name, value in store.items():
        assert value.ndim == 2 or value.is_contiguous(memory_format=torch.channels_last), name


def test_checkpointing_leaves_no_layer_frozen() -> None:
    """After a backward pass with recomputed activations running values move again."""
    model = random_model(tiny()).train()
    model.checkpoint_activations = True
    model(random_images(model.config, 3)).sum().backward()
    norms = [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
    assert norms
    assert not any(norm.is_frozen for norm in norms)
    means: list[Tensor] = [norm.running_mean.clone() for norm in norms]
    model(random_images(model.config, 3, seed=4))
    assert not any(torch.equal(a.running_mean, b) for a, b in zip(norms, means, strict=True))
