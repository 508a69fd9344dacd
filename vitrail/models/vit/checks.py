"""What a ViTConfig refuses: sizes that cannot be meant, settings that exclude each other or have no
effect. No torch here.
"""

from __future__ import annotations

from vitrail.errors import UsageError
from vitrail.models.layers.fields import refuse_first, refuse_size
from vitrail.models.layers.stages import check_width
from vitrail.models.resnet.config import Stages, conv_weights
from vitrail.models.vit.fields import ViTFields

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
MAX_TOKENS = 65_536  # attention is quadratic: more is a mistake or an attack


def check_size(config: ViTFields) -> None:
    """Raises UsageError VIT-222 for what is too large to be meant, before anything is allocated."""
    c = config
    patch = min(c.patch_sizes or (c.patch_size,), key=lambda size: size[0] * size[1])
    h, w = c.grid_at(patch)
    num_tokens = max(c.num_tokens, c.posemb_rows, c.num_prefix + h * w)
    if num_tokens > MAX_TOKENS:
        message = f"{c.image_size} px images in {patch} px patches are {num_tokens} tokens"
        hint = "Choose a larger patch or a smaller image."
        raise UsageError("VIT-222", f"{message}; at most {MAX_TOKENS}", hint=hint)
    weights = c.depth * c.width * (4 * c.width + (3 if c.mlp == "swiglu" else 2) * c.mlp_dim)
    num_tables = c.depth if c.posemb_at == "every" else 1
    weights += c.width * num_tables * num_tokens
    weights += c.width * c.map_channels * c.kept_kernel[0] * c.kept_kernel[1]
    weights += c.num_features * (c.num_classes + (c.width if c.representation_size else 0))
    weights += sum(17 * unit.num_mid**2 for unit in c.stem_units)
    weights += sum(conv_weights(conv) for conv in c.residual_convs)
    if c.stem == "conv":
        weights += c.stem_convs * c.stem_kernel**2 * max(c.width, c.stem_width) ** 2
    refuse_size(weights, "Choose a smaller width, depth or mlp_dim.")
    if c.width % c.num_heads:
        fitting = [str(n) for n in range(1, 65) if c.width % n == 0 and c.width // n >= 8]
        hint = f"num_heads that fit width {c.width}: {', '.join(fitting) or 1}"
        message = f"width {c.width} is not a multiple of num_heads {c.num_heads}"
        raise UsageError("VIT-222", message, hint=hint)


def check_combination(config: ViTFields) -> None:
    """Raises UsageError VIT-222 for the first setting that is impossible or without effect."""
    c = config
    divisor = 4 if c.is_rotary else {"learned_2d": 2, "sincos_2d": 4}.get(c.posemb, 1)
    axis = "width / num_heads" if c.is_rotary else "width"
    size = c.head_dim if c.is_rotary else c.width
    is_repeated = c.posemb_at != "stem"
    is_linear_drop = c.drop_path > 0 and c.drop_path_schedule == "linear"
    problems: dict[str, object] = {
        f"posemb={c.posemb!r} needs {axis} in multiples of {divisor}, got {size}": size % divisor,
        f"posemb='sincos_2d' needs width >= 8, got {c.width}": c.posemb == "sincos_2d"
        and c.width < 8,
        f"posemb_prefix has no effect with posemb={c.posemb!r}": c.posemb_prefix
        and not c.is_learned,
        f"posemb_at={c.posemb_at!r} has no effect with posemb={c.posemb!r}": is_repeated
        and not c.is_added,
        "posemb_at='every' with a fixed table is 'shared': posemb='sincos_2d'": c.posemb
        == "sincos_2d"
        and c.posemb_at == "every",
        f"posemb_at={c.posemb_at!r} has no effect at depth 1": is_repeated and c.depth == 1,
        "posemb_prefix has no effect: there is no cls token": c.posemb_prefix and not c.cls_token,
        f"pool={c.pool!r} needs cls_token": c.pool in ("cls", "cls_gap") and not c.cls_token,
        f"norm_after_pool is for pool='gap', got {c.pool!r}": c.norm_after_pool and c.pool != "gap",
        "norm_after_pool has no effect with final_norm=false": c.norm_after_pool
        and not c.final_norm,
        f"distillation_token needs pool='cls', got {c.pool!r}": c.distillation_token
        and c.pool != "cls",
        "distillation_token and representation_size do not go together": c.distillation_token
        and c.representation_size,
        "head_bias_init has no effect without a head (num_classes=0)": c.head_bias_init
        and not c.num_classes,
        f"gelu={c.gelu!r} has no effect with mlp='swiglu'": c.mlp == "swiglu"
        and c.gelu != "gelu"
        and c.pool != "map",
        "drop_path has no effect at depth 1: the linear schedule starts at 0": is_linear_drop
        and c.depth == 1,
    }
    refuse_first(problems)


def check_rotary(config: ViTFields) -> None:
    """Raises UsageError VIT-222 for a field of the rotation without effect."""
    c, fields = config, type(config).model_fields
    changed = {
        name: getattr(c, name) != fields[name].default
        for name in ("rope", "rope_base", "rope_start", "rope_grid")
    }
    problems: dict[str, object] = {
        f"{name} has no effect with posemb={c.posemb!r}": is_changed and not c.is_rotary
        for name, is_changed in changed.items()
    }
    problems |= {
        f"{name} has no effect with rope='centred'": changed[name] and c.rope == "centred"
        for name in ("rope_start", "rope_grid")
    }
    refuse_first(problems)


def check_map(config: ViTFields) -> None:
    """Raises UsageError VIT-222 for a field of the attention pooling that does not fit."""
    c = config
    heads = c.map_heads or 1
    refuse_first(
        {
            f"map_heads is for pool='map', got {c.pool!r}": c.map_heads and c.pool != "map",
            f"map_mlp_dim is for pool='map', got {c.pool!r}": c.map_mlp_dim and c.pool != "map",
            f"width {c.width} is not a multiple of map_heads {heads}": c.width % heads,
            f"map_prefix is for pool='map', got {c.pool!r}": not c.map_prefix and c.pool != "map",
            "map_prefix has no effect without prefix tokens": not c.map_prefix and not c.num_prefix,
        }
    )


def check_variable(config: ViTFields) -> None:
    """Raises UsageError VIT-222 for what does not go with images of variable resolution."""
    c, fields = config, type(config).model_fields
    if c.max_patches is None:
        is_changed = c.posemb_resize != fields["posemb_resize"].default
        refuse_first({"posemb_resize has no effect without max_patches": is_changed})
        return
    refuse_first(
        {
            f"max_patches needs posemb='learned', got {c.posemb!r}": c.posemb != "learned",
            f"max_patches needs posemb_at='stem', got {c.posemb_at!r}": c.posemb_at != "stem",
            f"max_patches needs stem='none', got {c.stem!r}": c.stem != "none",
            "max_patches does not go with pool='seq'": c.pool == "seq",
            "max_patches does not go with distillation_token": c.distillation_token,
            "max_patches and drop_rest do not go together": c.drop_rest,
            "max_patches and patch_drop do not go together": c.patch_drop,
            f"max_patches: at least 4, got {c.max_patches}": c.max_patches < 4,
        }
    )


def check_flexible(config: ViTFields) -> None:
    """Raises UsageError VIT-222 for what does not go with patches of several sizes, VIT-214 for
    one that does not fill the image.
    """
    c = config
    if not c.patch_sizes:
        refuse_first(
            {
                "patch_kernel has no effect without patch_sizes": c.patch_kernel,
                "posemb_grid has no effect without patch_sizes": c.posemb_grid,
            }
        )
        return
    sizes = ", ".join("x".join(map(str, size)) for size in c.patch_sizes)
    refuse_first(
        {
            f"patch_sizes: a size is there twice: {sizes}": len(set(c.patch_sizes))
            < len(c.patch_sizes),
            f"patch_size {c.patch_size} is none of patch_sizes: {sizes}": c.patch_size
            not in c.patch_sizes,
            f"patch_sizes needs posemb='learned' or 'none', got {c.posemb!r}": c.posemb
            not in ("learned", "none"),
            f"patch_sizes needs posemb_at='stem', got {c.posemb_at!r}": c.posemb_at != "stem",
            f"patch_sizes needs stem='none', got {c.stem!r}": c.stem != "none",
            "patch_sizes and max_patches do not go together": c.max_patches,
            "patch_sizes and drop_rest do not go together": c.drop_rest,
        }
    )
    for size in c.patch_sizes:
        for axis, side, patch in zip(("height", "width"), c.image_size, size, strict=True):
            if side % patch:
                message = f"image {axis} {side} px is not a multiple of {patch} px of patch_sizes"
                hint = f"Sizes that divide {side}: {_divisors(side)} (--model.patch_sizes)."
                raise UsageError("VIT-214", message, hint=hint)


def check_patch_drop(config: ViTFields) -> None:
    """Raises UsageError VIT-222 where tokens cannot be left out."""
    c = config
    if not c.patch_drop:
        return
    refuse_first(
        {
            f"patch_drop does not go with posemb={c.posemb!r}, where attention looks at places": (
                c.is_rotary or c.posemb == "relative"
            ),
            f"patch_drop needs posemb_at='stem', got {c.posemb_at!r}": c.posemb_at != "stem",
        }
    )


def _divisors(size: int) -> str:
    return ", ".join(str(number) for number in range(2, min(size, 65)) if size % number == 0)


def check_patches(config: ViTFields) -> None:
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
        if divisors := _divisors(size):
            hint += f" Patch sizes that divide {size}: {divisors} (--model.patch_size)."
        message = f"image {axis} {size} px is not a multiple of the patch {axis} {patch} px"
        raise UsageError("VIT-214", message, hint=hint)


def check_stem(config: ViTFields) -> None:
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
