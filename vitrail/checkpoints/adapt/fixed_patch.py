"""A model of several patch sizes (FlexiViT) fixed at one of them: an ordinary ViT.

Whatever takes a ViT then takes it: prediction, explanation, export, formats of other libraries.
"""

from __future__ import annotations

from vitrail.checkpoints.adapt.adapt_model import adapt
from vitrail.errors import UsageError
from vitrail.models.create import Model, build
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

Size = tuple[int, int]
FLEXIBLE = ("patch_sizes", "patch_kernel", "posemb_grid")  # fields of several patch sizes


def fixed_config(config: ViTConfig, patch: Size | None = None) -> ViTConfig:
    """`config` at one patch size, (height, width) px; its own `patch_size` unless given. Raises
    UsageError VIT-289 for a size that it was not trained for.
    """
    patch = patch or config.patch_size
    sizes = config.patch_sizes or (config.patch_size,)
    if patch not in sizes:
        known = " ".join(map(shown, sizes))
        raise UsageError(
            "VIT-289",
            f"--patch {shown(patch)}: this model was trained for patches of {known} px.",
            hint="Leave --patch out, or take one of these. A model for several: vitrail train DATA "
            "--model.patch_sizes 4,8,16",
        )
    plain = {name: ViTConfig.model_fields[name].default for name in FLEXIBLE}
    return ViTConfig(**(config.model_dump() | plain | {"patch_size": patch}))


def fixed_model(model: Model, patch: Size | None = None) -> Model:
    """`model` at one patch size, on its device and in its mode; itself where that changes nothing.
    Raises UsageError VIT-289.
    """
    if not isinstance(model, ViT):
        if patch is not None:
            raise no_patches()
        return model
    config = fixed_config(model.config, patch)
    if config == model.config:
        return model
    device = next(model.parameters()).device
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    state, _ = adapt(weights, model.config, config, resample="flexi")
    fixed = build(config)
    fixed.load_state_dict(state, strict=True, assign=True)
    fixed.kept_tokens = model.kept_tokens
    return fixed.to(device).train(model.training)


def is_flexible(config: ModelConfig) -> bool:
    """Whether a model takes patches of several sizes."""
    return isinstance(config, ViTConfig) and bool(config.patch_sizes)


def no_patches() -> UsageError:
    """VIT-289 for a network without patches."""
    return UsageError(
        "VIT-289",
        "--patch: this model has no patches; it is no Vision Transformer.",
        hint="Leave --patch out.",
    )


def shown(size: Size) -> str:
    """8, or 8x4."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
