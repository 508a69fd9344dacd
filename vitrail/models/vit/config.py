"""Architecture of a Vision Transformer as a frozen record. No torch here; sizes: `names.py`.

Source: "An Image is Worth 16x16 Words" (arXiv 2010.11929) section 3.1. One record covers every
published plain ViT, the hybrids (a residual stem before the patches), convolutional stems (arXiv
2106.14881) and the compact convolutional tokenizer (arXiv 2104.05704): the differences between them
are fields, never copies of the model. A field that would have no effect is refused, because silence
is how numbers get reported for runs that were not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ModelWrapValidatorHandler, model_validator

from vitrail.errors import UsageError
from vitrail.models.layers.fields import (
    is_true,
    refuse_first,
    refuse_unknown,
    validated,
)
from vitrail.models.layers.stages import check_width
from vitrail.models.resnet.config import (
    Stages,
)
from vitrail.models.vit.checks import check_combination, check_map, check_rotary, check_size
from vitrail.models.vit.fields import ViTFields

Pool = Literal["cls", "gap", "map", "cls_gap", "seq"]
Posemb = Literal[
    "none", "learned", "learned_2d", "sincos_2d", "relative", "rope_2d", "learned_rope_2d"
]
Gelu = Literal["gelu", "gelu_tanh", "quick_gelu", "relu"]
Order = Literal["pre", "post", "branch", "between"]
ADDED = ("learned", "learned_2d", "sincos_2d", "learned_rope_2d")  # posemb that is added to tokens
LEARNED = ("learned", "learned_rope_2d")  # with a table of one row a token
ROTARY = ("rope_2d", "learned_rope_2d")  # that turns queries and keys
WITH_CLS = ("cls", "cls_gap")  # pools that read the cls token

RESNET_FIELDS = ("stem_stages", "stem_root", "std_eps", "std_form", "gn_eps")
CONV_FIELDS = ("stem_convs", "stem_kernel")
RESIDUAL_FIELDS = ("stem_stride", "stem_widths", "stem_strides", "stem_depths", "stem_norm")
# Fields without effect, by stem.
IDLE_FIELDS: dict[str, tuple[str, ...]] = {
    "none": ("stem_width", *RESNET_FIELDS, *CONV_FIELDS, *RESIDUAL_FIELDS),
    "resnet": (*CONV_FIELDS, *RESIDUAL_FIELDS),
    "conv": (*RESNET_FIELDS, *RESIDUAL_FIELDS),
    "residual": (*RESNET_FIELDS, *CONV_FIELDS),
}


class ViTConfig(ViTFields):
    """Every choice of architecture; what excludes one another, or has no effect, is refused."""

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fills in `cls_token` and `posemb_prefix`.

        Raises UsageError VIT-211, VIT-214, VIT-222 or VIT-230.
        """
        if isinstance(values, Mapping):
            refuse_unknown(values, cls.model_fields)
            values = {"cls_token": values.get("pool", "cls") in WITH_CLS, **values}
            learned = values.get("posemb", "learned") in LEARNED
            values = {"posemb_prefix": learned and is_true(values["cls_token"]), **values}
        config = validated(handler, values)
        _check_stem(config)
        _check_patches(config)
        check_size(config)
        check_combination(config)
        check_rotary(config)
        check_map(config)
        return config


def _check_patches(config: ViTConfig) -> None:
    """Raises UsageError VIT-214 where patches do not fill the image, or the stem's map."""
    sizes = zip(("height", "width"), config.map_size, config.patch_size, strict=True)
    for axis, size, patch in sizes:
        if size % patch == 0 or (config.drop_rest and size > patch):
            continue
        if config.stem != "none":
            found = f"{size} positions of the {config.stem} stem's feature map"
            hint = "Choose another image size (--image-size) or patch (--model.patch_size)."
            message = f"{found} in {axis} are not a multiple of the patch {axis} {patch}"
            raise UsageError("VIT-214", message, hint=hint)
        below, above = size // patch * patch, (size // patch + 1) * patch
        hint = f"Nearest {axis}s: {f'{below} or {above}' if below else above} px (--image-size)."
        divisors = ", ".join(str(n) for n in range(2, min(size, 65)) if size % n == 0)
        if divisors:
            hint += f" Patch sizes that divide {size}: {divisors} (--model.patch_size)."
        message = f"image {axis} {size} px is not a multiple of the patch {axis} {patch} px"
        raise UsageError("VIT-214", message, hint=hint)


def _check_stem(config: ViTConfig) -> None:
    """Raises UsageError VIT-222 for a stem's field without effect, VIT-230 for its channels."""
    c, fields = config, type(config).model_fields
    problems: dict[str, object] = {
        f"{name} has no effect with stem={c.stem!r}": getattr(c, name) != fields[name].default
        for name in IDLE_FIELDS[c.stem]
    }
    if c.stem == "conv":
        problems |= {
            f"stem='conv' makes tokens of positions: patch_size must be 1, got {c.patch_size}": (
                c.patch_size != (1, 1)
            ),
            f"stem_kernel must be odd, got {c.stem_kernel}": c.stem_kernel % 2 == 0,
            "stem_width has no effect with stem_convs=1: one convolution makes the tokens": (
                c.stem_convs == 1 and c.stem_width != fields["stem_width"].default
            ),
        }
    if c.stem == "residual":
        stages = Stages(c.stem_widths, c.stem_strides, c.stem_depths, "basic", "conv")
        problems |= stages.problems("stem_")
    sides = zip(c.image_size, c.patch_size, strict=True)
    problems |= {
        f"drop_rest has no effect with stem={c.stem!r}": c.drop_rest and c.stem != "none",
        f"drop_rest has no effect: patches fill {c.image_size} px": c.drop_rest
        and not any(size % patch for size, patch in sides),
    }
    refuse_first(problems)
    if c.stem == "resnet":
        check_width(c.stem_width, f"stem_width {c.stem_width}")
