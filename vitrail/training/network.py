"""The module that a run trains, made of a model, and the model that is left of it at the end.

Which parameters are trained: all of them; with `--freeze body` the head's; with adapters those and
the head's. A parameter that is not trained has no gradient, so that it is in no optimiser group, in
no norm and under no decay, and the backward pass ends at the first layer that needs none.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vitrail.config import TrainConfig
from vitrail.models.create import Model, build, create_model
from vitrail.models.names import ModelConfig
from vitrail.models.vit.model import ViT
from vitrail.training.lora import LoraLinear, add_adapters, merged_state
from vitrail.training.plan.starting_weights import HEADS
from vitrail.training.tasks.masked_patches import MaskedPatches


def create_network(
    config: TrainConfig, model: ModelConfig, weights: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """The module of a run, on the CPU. weights: of `model`, copied; else the first random values.

    Raises UsageError VIT-251 where the objective cannot be had with this model.
    """
    network = create_model(model, seed=config.seed) if weights is None else _filled(model, weights)
    network.checkpoint_activations = config.checkpoint_activations
    if config.objective == "masked_patches":
        return MaskedPatches(network, config.seed)
    if config.lora.rank:
        add_adapters(network, config.lora, config.seed)
    if config.lora.rank or config.freeze == "body":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in HEADS or ".lora_" in name)
    return network


def _filled(config: ModelConfig, weights: Mapping[str, Tensor]) -> Model:
    model = build(config)
    copies = {name: value.clone() for name, value in weights.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return model


def merge_adapters(network: nn.Module) -> nn.Module:
    """`network` without adapters: an ordinary model that gives the same outputs; else itself."""
    if not any(isinstance(layer, LoraLinear) for layer in network.modules()):
        return network
    assert isinstance(network, ViT)
    device = next(network.parameters()).device
    return _filled(network.config, merged_state(network)).to(device).train(network.training)


def export_model(network: nn.Module) -> nn.Module:
    """What goes into the model folder: without adapters and what only this training needed."""
    return network.encoder if isinstance(network, MaskedPatches) else merge_adapters(network)
