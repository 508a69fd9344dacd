"""Adapters: nothing at first, ordinary weights at the end, and nothing else trained between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.config import LoraConfig, OptimConfig, StartConfig, TrainConfig
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT
from vitrail.training.lora import LoraLinear, add_adapters, merged_state
from vitrail.training.network import create_network, merge_adapters
from vitrail.training.optim.optimizer import parameter_groups

RANK = 3


def config(**changes: object) -> ViTConfig:
    values = {"image_size": (6, 10), "patch_size": (3, 2), "channels": 1, "width": 14, "depth": 2}
    values |= {"num_heads": 2, "mlp_dim": 17, "num_classes": 5}
    return ViTConfig.model_validate(values | changes)


def vit(*, seed: int, **changes: object) -> ViT:
    model = create_model(config(**changes), seed=seed)
    assert isinstance(model, ViT)
    return model


def images() -> Tensor:
    return torch.randn(3, 1, 6, 10, generator=torch.Generator().manual_seed(7))


def adapted(model: ViT, *, is_random: bool = True) -> ViT:
    """`model` with adapters whose second factor is no longer zero."""
    assert add_adapters(model, LoraConfig(rank=RANK, alpha=5.0), seed=11) == 8
    generator = torch.Generator().manual_seed(13)
    for layer in model.modules():
        if isinstance(layer, LoraLinear) and is_random:
            layer.lora_b.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def test_a_layer_against_numpy() -> None:
    layer = nn.Linear(7, 5).double()
    adapter = LoraLinear(layer, LoraConfig(rank=2, alpha=3.0), seed=1).double()
    adapter.lora_b.data.normal_(generator=torch.Generator().manual_seed(3))
    x = torch.randn(11, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    w, b, down, up = (
        value.detach().numpy()
        for value in (layer.weight, layer.bias, adapter.lora_a, adapter.lora_b)
    )
    expected = x.numpy() @ w.T + b + 3.0 / 2 * (x.numpy() @ down.T) @ up.T
    np.testing.assert_allclose(adapter(x).detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(adapter.merged().detach().numpy(), w + 1.5 * up @ down, atol=1e-12)


@pytest.mark.parametrize("changes", [{"pool": "gap"}, {"pool": "gap", "mlp": "swiglu"}])
def test_new_adapters_change_nothing(changes: dict[str, object]) -> None:
    model = vit(seed=2, **changes)
    model.head.weight.data.normal_(generator=torch.Generator().manual_seed(5))
    before = model.eval()(images())
    assert torch.equal(adapted(model, is_random=False)(images()), before)


def test_new_adapters_change_nothing_but_rounding_where_only_cls_asks() -> None:
    """Without adapters the last block computes one query, by a product of another shape."""
    model = vit(seed=2).double()
    model.head.weight.data.normal_(generator=torch.Generator().manual_seed(5))
    before = model.eval()(images().double())
    after = adapted(model, is_random=False).double()(images().double())
    assert (after - before).abs().max() < 1e-13


@pytest.mark.parametrize("changes", [{}, {"pool": "gap"}, {"mlp": "swiglu"}, {"pool": "map"}])
def test_merged_gives_the_same_outputs(changes: dict[str, object]) -> None:
    """In float64 up to its rounding, and clearly others than without the adapters."""
    plain = vit(seed=2, **changes)
    plain.head.weight.data.normal_(generator=torch.Generator().manual_seed(5))
    model = adapted(vit(seed=2, **changes)).double()
    model.head.weight.data.copy_(plain.head.weight)
    other = vit(seed=3, **changes).double().eval()
    other.load_state_dict(merged_state(model))
    x = images().double()
    assert (model(x) - other(x)).abs().max() < 1e-10
    assert (model(x) - plain.double().eval()(x)).abs().max() > 1e-2
    assert merged_state(model).keys() == plain.state_dict().keys()


def test_merged_model_is_an_ordinary_one() -> None:
    model = adapted(vit(seed=2))
    plain = merge_adapters(model)
    assert type(plain) is ViT
    assert not any(isinstance(layer, LoraLinear) for layer in plain.modules())
    assert (plain(images()) - model(images())).abs().max() < 1e-5
    assert merge_adapters(plain) is plain


def test_only_adapters_and_head_are_trained() -> None:
    settings = TrainConfig(start=StartConfig(model="x"), lora=LoraConfig(rank=RANK))
    network = create_network(settings, config())
    names = [
        name
        for group in parameter_groups(network, OptimConfig(weight_decay=0.3))
        for name in group["names"]
    ]
    assert all("lora_" in name or name.startswith("head.") for name in names)
    size = sum(value.numel() for value in network.parameters() if value.requires_grad)
    sides = [14 + 3 * 14, 14 + 14, 14 + 17, 17 + 14]
    assert size == 2 * RANK * sum(sides) + 15 * 5
    decayed = [
        name
        for group in parameter_groups(network, OptimConfig(weight_decay=0.3))
        if group["weight_decay"]
        for name in group["names"]
    ]
    assert decayed == ["head.weight"]


def test_first_values_depend_on_seed_and_name_only() -> None:
    def factor(seed: int, depth: int) -> dict[str, Tensor]:
        model = vit(seed=2, depth=depth)
        add_adapters(model, LoraConfig(rank=RANK), seed)
        return {name: value for name, value in model.state_dict().items() if "lora_a" in name}

    first, deeper, other = factor(1, 2), factor(1, 3), factor(2, 2)
    assert all(torch.equal(value, deeper[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items())
    values = list(first.values())
    assert not torch.equal(values[0], values[4])  # the same layer of the other block
