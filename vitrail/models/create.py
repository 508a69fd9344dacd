"""From a name or a configuration to a model with its initial values."""

from __future__ import annotations

from typing import Any, overload

import torch

from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.bit.model import BiTResNet
from vitrail.models.init import initial_value
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.resnet.model import ResNet
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

Model = ViT | BiTResNet | ResNet
ResidualNet = BiTResNet | ResNet


def create_model(
    model: str | ModelConfig,
    *,
    num_classes: int | None = None,
    image_size: tuple[int, int] | int | None = None,
    channels: int = 3,
    seed: int = 0,
    **overrides: Any,
) -> Model:
    """A plain module, on the CPU in float32 and in training mode.

    model: a name as "vit_b16", "R50+ViT-B/16" or "bit_r50x1" with fields of its configuration to
    replace, or a whole ViTConfig, BiTConfig or ResNetConfig. num_classes of a named model defaults
    to 1000. The values depend on nothing but the configuration and the seed; torch's generator is
    left alone.
    Raises UsageError: VIT-211, VIT-214, VIT-221, VIT-222, VIT-230 as `resolve_model`; VIT-225 when
    a configuration comes with changes.
    """
    if not isinstance(model, str):
        given = {"num_classes": num_classes, "image_size": image_size} | overrides
        changed = [name for name, value in given.items() if value is not None]
        changed += ["channels"] if channels != 3 else []
        if changed:
            message = f"create_model got a whole configuration and also {', '.join(changed)}"
            hint = "Put them into it: type(config)(**config.model_dump() | {...})."
            raise UsageError("VIT-225", message, hint=hint)
        config = model
    else:
        classes = 1000 if num_classes is None else num_classes
        config = resolve_model(
            model,
            num_classes=classes,
            image_size=image_size,
            channels=channels,
            overrides=overrides,
        )
    network = build(config)
    initialise(network, seed)
    return network


@overload
def build(config: ViTConfig) -> ViT: ...
@overload
def build(config: BiTConfig) -> BiTResNet: ...
@overload
def build(config: ResNetConfig) -> ResNet: ...
@overload
def build(config: ModelConfig) -> Model: ...
def build(config: ModelConfig) -> Model:
    """The module with its parameters on the meta device, which has names and shapes but no values.

    Fixed tables are real: after `load_state_dict(values, assign=True)` the model is complete.
    """
    with torch.device("meta"):
        if isinstance(config, BiTConfig):
            return BiTResNet(config)
        return ResNet(config) if isinstance(config, ResNetConfig) else ViT(config)


def initialise(model: Model, seed: int) -> None:
    """Gives every parameter and running value its initial value (`init.py`), also on the meta
    device."""
    values = {
        name: initial_value(name, value.shape, model.config, seed)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(values, strict=True, assign=True)
