"""What every model must do; `check_model(config)` runs all of it on one configuration.

All parameters are random, also those that start at zero or one: otherwise a zero head hides the
body. Exactness is judged in float64, where |diff| <= 1e-12 leaves room for the order of additions
only.
"""

from __future__ import annotations

import copy
import json
from typing import overload

import torch
from safetensors.torch import load, save
from torch import Tensor

from tests.rounding import EXACT, moves_nothing
from vitrail.models.bit.config import BiTConfig
from vitrail.models.bit.model import BiTResNet
from vitrail.models.cost import parameters, running_values
from vitrail.models.create import Model, build, create_model
from vitrail.models.layers.tap import TapDict, residual_tap_names
from vitrail.models.names import ModelConfig, config_from_numbers
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.resnet.conv_norm import BatchNorm
from vitrail.models.resnet.model import ResNet
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT, tap_names

Shapes = dict[str, tuple[int, ...]]


@overload
def random_model(config: ViTConfig, seed: int = 0, dtype: torch.dtype = ...) -> ViT: ...
@overload
def random_model(config: BiTConfig, seed: int = 0, dtype: torch.dtype = ...) -> BiTResNet: ...
@overload
def random_model(config: ResNetConfig, seed: int = 0, dtype: torch.dtype = ...) -> ResNet: ...
@overload
def random_model(config: ModelConfig, seed: int = 0, dtype: torch.dtype = ...) -> Model: ...
def random_model(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> Model:
    """In evaluation mode, every parameter drawn from normal(0.3), norms' scales around 1; running
    means likewise, running variances above 0.3."""
    generator = torch.Generator().manual_seed(seed)
    model = build(config)
    values = {}
    for name, value in model.state_dict().items():
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        is_variance = name.endswith("running_var")
        values[name] = 0.3 + drawn.square() if is_variance else mean + 0.3 * drawn
    model.load_state_dict(values, strict=True, assign=True)
    return model.to(dtype).eval()


def random_images(config: ModelConfig, count: int, seed: int = 1) -> Tensor:
    """(count, C, H, W) float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, config.channels, *config.image_size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def tapped(model: Model, images: Tensor, *names: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and the named intermediates (all, where none is named)."""
    store: TapDict = dict.fromkeys(names)
    logits = model(images, tap=store)
    return logits, {name: value for name, value in store.items() if value is not None}


def check_model(config: ModelConfig) -> None:
    """Runs every check that is cheap; `check_export` is separate because tracing takes a second."""
    model = random_model(config)
    check_parameters(model)
    check_shapes(model)
    check_gradients(model)
    check_evaluation(model)
    check_tap(model)
    check_training(copy.deepcopy(model))
    check_checkpointing(model)
    check_bfloat16(config)
    check_round_trip(model)


def has_running_values(module: torch.nn.Module) -> bool:
    """Whether its outputs in training depend on the other images of a batch."""
    return any(isinstance(layer, BatchNorm) for layer in module.modules())


def check_parameters(model: Model) -> None:
    """The closed formulas count what is there; nothing but parameters and the running values of
    BatchNorm is in the state dict."""
    config, state = model.config, model.state_dict()
    assert sum(value.numel() for value in model.parameters()) == parameters(config)
    running = {name for name in state if name.endswith((".running_mean", ".running_var"))}
    assert set(state) - running == {name for name, _ in model.named_parameters()}
    assert sum(state[name].numel() for name in running) == running_values(config)
    assert bool(running) == has_running_values(model)
    assert config_from_numbers(config.family, json.loads(config.model_dump_json())) == config


def vit_shapes(c: ViTConfig) -> Shapes:
    """Of every tap, for one image."""
    N, D, heads = c.num_tokens, c.width, c.num_heads
    pooled = (2, D) if c.distillation_token else (c.pooled_width,)
    features = (2, D) if c.distillation_token else (c.num_features,)
    block: dict[str, tuple[int, ...]] = {"attention": (heads, N, N), "output": (N, D)}
    expected: Shapes = {}
    if c.stem != "none":
        expected["feature_map"] = (c.map_channels, *c.map_size)
    expected |= {"patches": (c.num_patches, D), "embedded": (N, D), "tokens": (N, D)}
    expected |= {f"block{i:02d}/{key}": block[key] for i in range(c.depth) for key in block}
    if c.pool in ("map", "seq"):
        expected["pool/attention"] = ((c.map_heads or heads) if c.pool == "map" else 1, 1, N)
    return expected | {"pooled": pooled, "pre_logits": features, "logits": (c.num_classes,)}


def bit_shapes(c: BiTConfig | ResNetConfig) -> Shapes:
    """Of every tap, for one image."""
    expected: Shapes = {"stem": (c.stem_width, *c.units[0].in_size)}
    for unit in c.units:
        expected[f"stage{unit.stage}"] = (unit.num_out, *unit.out_size)
    expected["feature_map"] = (c.num_features, *c.map_size)
    return expected | {"pre_logits": (c.num_features,), "logits": (c.num_classes,)}


def check_shapes(model: Model) -> None:
    """Logits, features and every tap, for one image and for three."""
    c = model.config
    expected = vit_shapes(c) if isinstance(c, ViTConfig) else bit_shapes(c)
    names = tap_names(c) if isinstance(c, ViTConfig) else residual_tap_names(c)
    for count in (1, 3):
        images = random_images(c, count)
        logits, store = tapped(model, images)
        assert logits.shape == (count, c.num_classes)
        assert model.features(images).shape == (count, c.num_features)
        assert {name: tuple(value.shape) for name, value in store.items()} == {
            name: (count, *shape) for name, shape in expected.items()
        }
        assert list(store) == names


def check_gradients(model: Model) -> None:
    """Every parameter gets a gradient that is finite and not zero, unless it moves nothing."""
    logits = model(random_images(model.config, 3))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).double()
    model.zero_grad()
    (logits * weights).sum().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, f"{name} gets no gradient"
        assert value.grad.isfinite().all(), f"{name}: gradient is not finite"
        largest = value.grad.abs().max()
        if moves_nothing(name, model):
            assert largest <= EXACT * weights.abs().max(), f"{name} moves the logits"
        else:
            assert largest > 0, f"{name}: gradient is zero"
    model.zero_grad()


def check_evaluation(model: Model) -> None:
    """Evaluation draws nothing at random, and an image's logits do not depend on its neighbours."""
    images = random_images(model.config, 3)
    with torch.no_grad():
        logits = model(images)
        before = torch.get_rng_state()
        assert torch.equal(model(images), logits)
        assert torch.equal(torch.get_rng_state(), before)
        alone = torch.cat([model(image[None]) for image in images])
        reverse = model(images.flip(0)).flip(0)
    assert (alone - logits).abs().max() <= EXACT
    assert (reverse - logits).abs().max() <= EXACT
    assert (logits[0] - logits[1]).abs().max() > 1e-3, "the model does not look at the images"


def check_tap(model: Model) -> None:
    """With a tap the result is that of the fused path; attention rows sum to 1; only what is asked
    for is kept, and what is kept can be differentiated."""
    images = random_images(model.config, 3)
    logits = model(images)
    explicit, store = tapped(model, images)
    assert (explicit - logits).abs().max() <= EXACT
    for name, value in store.items():
        if name.endswith("attention"):
            assert (value.sum(-1) - 1).abs().max() <= EXACT
            assert value.min() >= 0
    last = [name for name in store if name.endswith(("/attention", "stage0"))][-1]
    partly, some = tapped(model, images, last)
    assert list(some) == [last]
    assert (some[last] - store[last]).abs().max() <= EXACT
    assert (partly - logits).abs().max() <= EXACT
    gradient = torch.autograd.grad(partly[:, 0].sum(), some[last], retain_graph=True)[0]
    assert gradient.abs().max() > 0
    inputs = list(model.parameters())
    gradients = [torch.autograd.grad(y.square().sum(), inputs) for y in (logits, explicit)]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() <= EXACT * max(1.0, a.abs().max().item())


def check_training(model: Model) -> None:
    """Dropout and drop-path read torch's global generator, nothing else, and only in training.

    With BatchNorm an image's logits in training depend on the others of its batch; without it and
    without randomness they are those of evaluation.
    """
    c, images = model.config, random_images(model.config, 3)
    model.train()
    runs = []
    for seed in (3, 3, 4, 5, 6):
        torch.manual_seed(seed)
        runs.append(model(images))
    model.eval()
    is_random = isinstance(c, ViTConfig) and (c.dropout > 0 or c.drop_path > 0)
    has_two_heads = isinstance(c, ViTConfig) and c.distillation_token
    assert torch.equal(runs[0], runs[1])
    assert any(not torch.equal(runs[0], other) for other in runs[2:]) == is_random
    if has_two_heads:
        assert runs[0].shape == (3, 2, c.num_classes)
    if has_running_values(model):
        torch.manual_seed(3)
        first = model.train()(images * torch.tensor([1.0, 1.0, 2.0]).view(3, 1, 1, 1))[0]
        assert (first - runs[0][0]).abs().max() > 1e-6, "an image does not see its neighbours"
    elif not is_random:
        mean = runs[0].mean(1) if has_two_heads else runs[0]
        assert (mean - model(images)).abs().max() <= EXACT


def check_checkpointing(model: Model) -> None:
    """Recomputing activations changes neither loss nor gradients nor running values, by not one
    bit."""
    images, results = random_images(model.config, 3), []
    for is_checkpointed in (False, True):
        trained = copy.deepcopy(model).train()
        trained.checkpoint_activations = is_checkpointed
        torch.manual_seed(7)
        loss = trained(images).square().sum()
        loss.backward()
        gradients = [value.grad for value in trained.parameters() if value.grad is not None]
        results.append([loss.detach(), *gradients, *trained.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def check_bfloat16(config: ModelConfig) -> None:
    """Under autocast, forward and backward run and stay near float32.

    bfloat16 rounds to 2^-9 of a value; a few dozen roundings of random sign through the layers stay
    well under 2^-3 of the largest logit.
    """
    model = random_model(config, dtype=torch.float32)
    images = random_images(config, 3).float()
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
        assert model.train()(images).isfinite().all()
        model.eval()
        if isinstance(config, ViTConfig):
            _, store = tapped(model, images, "block00/output")
            assert store["block00/output"].dtype == torch.float32
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - exact).abs().max() <= 0.125 * exact.abs().max()
    logits.float().square().sum().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name


def check_round_trip(model: Model) -> None:
    """A model saved as safetensors and read back gives the same bits."""
    images = random_images(model.config, 1)
    other = create_model(model.config, seed=5).double().eval()
    assert not torch.equal(other(images), model(images))
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    assert torch.equal(other(images), model(images))


def check_export(model: Model) -> None:
    """torch.export gives a graph with the values of the eager model, for any batch size."""
    images = random_images(model.config, 3)
    sizes = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(model, (images,), dynamic_shapes=sizes)
    for count in (1, 3, 5):
        images = random_images(model.config, count, seed=count)
        assert (program.module()(images) - model(images)).abs().max() <= EXACT
