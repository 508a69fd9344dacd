"""Architecture of a Vision Transformer as a frozen record, and the table of published sizes. No torch here.

Sources: "An Image is Worth 16x16 Words" (arXiv 2010.11929) Table 1 and section 3.1; sizes outside the paper (mu, Ti, S, M,
So400m, g, G, e) follow big_vision `models/vit.py:decode_variant` and timm. One record covers every published plain ViT: the
differences between them are fields, never copies of the model. A field that would have no effect is refused, because silence
is how numbers get reported for runs that were not made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from vitrail.config import Section, Size
from vitrail.errors import UsageError, nearest

Pool = Literal["cls", "gap", "map"]
Posemb = Literal["none", "learned", "learned_2d", "sincos_2d", "relative", "rope_2d"]
Gelu = Literal["gelu", "gelu_tanh", "quick_gelu"]
Share = Annotated[float, Field(ge=0, lt=1)]
NoneText = BeforeValidator(
    lambda value: None if value in ("none", "") else value
)  # for the command line

MAX_TOKENS = 65_536  # attention is quadratic: more is a mistake or an attack
MAX_WEIGHTS = 30_000_000_000  # ViT-22B is the largest ViT published


class ViTConfig(Section):
    """Every choice of architecture. Sizes are (height, width) in pixels; H W below are `image_size`, h w the patch grid."""

    image_size: Size
    patch_size: Size
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    width: Annotated[int, Field(ge=1, le=16_384)]
    depth: Annotated[int, Field(ge=1, le=256)]
    num_heads: Annotated[int, Field(ge=1, le=512)]
    mlp_dim: Annotated[
        int, Field(ge=1, le=131_072)
    ]  # swiglu: after the gate, the packed first layer has 2 x mlp_dim rows
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = (
        0  # 0: no head, the model returns features
    )
    pool: Pool = "cls"  # gap: mean of the patch tokens after the final norm; map: attention pooling by a learned probe
    posemb: Posemb = "learned"
    posemb_prefix: bool = (
        False  # learned only: rows for cls (and dist) too; when not given, true wherever it can be
    )
    num_registers: Annotated[int, Field(ge=0, le=1024)] = (
        0  # between cls and patches, no posemb, not in the mean
    )
    layer_scale: Annotated[Annotated[float, Field(gt=0, le=10)] | None, NoneText] = (
        None  # initial value, 1e-4 in DeiT III
    )
    qk_norm: bool = False
    mlp: Literal["gelu", "swiglu"] = "gelu"
    gelu: Gelu = "gelu"  # erf; gelu_tanh is Flax's default, quick_gelu OpenAI's
    drop_path: Share = 0.0
    drop_path_schedule: Literal["linear", "constant"] = (
        "linear"  # over depth, from 0 to the rate; or the rate everywhere
    )
    dropout: Share = 0.0  # after posemb, attention projection, GELU and the second MLP layer
    representation_size: Annotated[Annotated[int, Field(ge=1, le=65_536)] | None, NoneText] = (
        None  # tanh layer before the head
    )
    distillation_token: bool = False  # DeiT: second token and second head
    ln_eps: Annotated[float, Field(gt=0, le=1e-2)] = 1e-6
    head_bias_init: Annotated[float, Field(ge=-100, le=100)] = (
        0.0  # -ln(num_classes) and lower suit a sigmoid loss
    )
    pre_norm: bool = False  # CLIP: LayerNorm before the first block, patch projection without bias

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fills in `posemb_prefix`, and turns what is wrong into a UsageError (VIT-211, VIT-214, VIT-222)."""
        if isinstance(values, Mapping):
            unknown = sorted(set(values) - set(cls.model_fields))
            if unknown:
                message = f"unknown field of the model: {unknown[0]}. {nearest(unknown[0], cls.model_fields)}"
                raise UsageError("VIT-211", message)
            learned = values.get("posemb", "learned") == "learned"
            values = {"posemb_prefix": learned and values.get("pool", "cls") == "cls", **values}
        try:
            config = handler(values)
        except ValidationError as error:
            lines = [
                f"  {'.'.join(map(str, item['loc']))}: {item['msg']}, got {item['input']!r}"
                for item in error.errors(include_url=False)
            ]
            raise UsageError(
                "VIT-222", "the model cannot be built:\n" + "\n".join(dict.fromkeys(lines))
            ) from error
        _check_sizes(config)
        _check_combination(config)
        return config

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row, (h, w)."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def num_patches(self) -> int:
        """Tokens made from pixels, h x w."""
        return self.grid[0] * self.grid[1]

    @property
    def num_prefix(self) -> int:
        """Tokens before the patches: cls, dist, registers, in this order."""
        return int(self.pool == "cls") + int(self.distillation_token) + self.num_registers

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, N = prefix + patches."""
        return self.num_prefix + self.num_patches

    @property
    def posemb_rows(self) -> int:
        """Rows of the learned 1-D table."""
        return self.num_patches + (
            self.num_prefix - self.num_registers if self.posemb_prefix else 0
        )

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads

    @property
    def num_features(self) -> int:
        """Channels that enter the head."""
        return self.representation_size or self.width


def _check_sizes(config: ViTConfig) -> None:
    for axis, size, patch in zip(
        ("height", "width"), config.image_size, config.patch_size, strict=True
    ):
        if size % patch:
            below, above = size // patch * patch, (size // patch + 1) * patch
            choices = f"{below} or {above}" if below else str(above)
            divisors = [str(n) for n in range(2, min(size, 65)) if size % n == 0]
            hint = f"Nearest {axis}s: {choices} px (--image-size)."
            if divisors:
                hint += (
                    f" Patch sizes that divide {size}: {', '.join(divisors)} (--model.patch_size)."
                )
            raise UsageError(
                "VIT-214",
                f"image {axis} {size} px is not a multiple of the patch {axis} {patch} px",
                hint=hint,
            )
    if config.num_tokens > MAX_TOKENS:
        raise UsageError(
            "VIT-222",
            f"{config.image_size} px images in {config.patch_size} px patches are "
            f"{config.num_tokens} tokens; at most {MAX_TOKENS}",
            hint="Choose a larger patch or a smaller image.",
        )
    mlp_products = 3 if config.mlp == "swiglu" else 2
    weights = config.depth * config.width * (4 * config.width + mlp_products * config.mlp_dim)
    weights += config.width * (
        config.num_tokens + config.channels * config.patch_size[0] * config.patch_size[1]
    )
    weights += config.num_features * (
        config.num_classes + (config.width if config.representation_size else 0)
    )
    if weights > MAX_WEIGHTS:
        raise UsageError(
            "VIT-222",
            f"the model has about {weights / 1e9:.0f} billion parameters; "
            f"at most {MAX_WEIGHTS / 1e9:.0f} billion",
            hint="Choose a smaller width, depth or mlp_dim.",
        )
    if config.width % config.num_heads:
        fitting = [str(n) for n in range(1, 65) if config.width % n == 0 and config.width // n >= 8]
        raise UsageError(
            "VIT-222",
            f"width {config.width} is not a multiple of num_heads {config.num_heads}",
            hint=f"num_heads that fit width {config.width}: {', '.join(fitting) or 1}",
        )


def _check_combination(config: ViTConfig) -> None:
    """Raises UsageError VIT-222 for the first setting that is impossible or would have no effect."""
    c = config
    divisor, axis = {
        "learned_2d": (2, c.width),
        "sincos_2d": (4, c.width),
        "rope_2d": (4, c.head_dim),
    }.get(c.posemb, (1, 0))
    what = "width / num_heads" if c.posemb == "rope_2d" else "width"
    problems = [
        (
            axis % divisor,
            f"posemb={c.posemb!r} needs {what} to be a multiple of {divisor}, got {axis}",
        ),
        (
            c.posemb == "sincos_2d" and c.width < 8,
            f"posemb='sincos_2d' needs width >= 8, got {c.width}",
        ),
        (
            c.posemb_prefix and c.posemb != "learned",
            f"posemb_prefix has no effect with posemb={c.posemb!r}",
        ),
        (
            c.posemb_prefix and c.pool != "cls",
            f"posemb_prefix has no effect with pool={c.pool!r}: there is no cls token",
        ),
        (
            c.distillation_token and c.pool != "cls",
            f"distillation_token needs pool='cls', got {c.pool!r}",
        ),
        (
            c.distillation_token and c.representation_size,
            "representation_size does not go with distillation_token",
        ),
        (
            c.head_bias_init and not c.num_classes,
            "head_bias_init has no effect without a head (num_classes=0)",
        ),
        (
            c.mlp == "swiglu" and c.gelu != "gelu" and c.pool != "map",
            f"gelu={c.gelu!r} has no effect with mlp='swiglu'",
        ),
        (
            c.drop_path and c.drop_path_schedule == "linear" and c.depth == 1,
            "drop_path has no effect at depth 1 with the linear schedule, which starts at 0",
        ),
    ]
    for is_wrong, message in problems:
        if is_wrong:
            raise UsageError("VIT-222", message)


class Variant(NamedTuple):
    """One published size; `patch_sizes` are those in use, the first is the default."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_sizes: tuple[int, ...]


# Letters of the papers. B, L, H: arXiv 2010.11929 Table 1; the rest: big_vision `decode_variant`, timm (spec 1.1).
VARIANTS: dict[str, Variant] = {
    "mu": Variant(32, 1, 128, 2, (16,)),
    "Ti": Variant(192, 12, 768, 3, (16,)),
    "S": Variant(384, 12, 1536, 6, (16, 8, 32)),
    "M": Variant(512, 12, 2048, 8, (16,)),
    "B": Variant(768, 12, 3072, 12, (16, 8, 32)),
    "L": Variant(1024, 24, 4096, 16, (16, 14, 32)),
    "So400m": Variant(1152, 27, 4304, 16, (14,)),
    "H": Variant(1280, 32, 5120, 16, (14, 16)),
    "g": Variant(1408, 40, 6144, 16, (14,)),
    "G": Variant(1664, 48, 8192, 16, (14,)),
    "e": Variant(1792, 56, 15360, 16, (14,)),
}
# 8 x 8 pictures of handwritten digits that scikit-learn made popular; a size for demonstrations and tests.
DIGITS = {
    "image_size": (8, 8),
    "patch_size": (2, 2),
    "channels": 1,
    "width": 48,
    "depth": 4,
    "num_heads": 4,
    "mlp_dim": 192,
}
DEFAULT_IMAGE_SIZE = (224, 224)


def slug(letter: str, patch: int) -> str:
    """Name for files and commands, e.g. "vit_b16"; G is spelt out because some file systems ignore case."""
    return f"vit_{'gigantic' if letter == 'G' else letter.lower()}{patch}"


def known_names() -> list[str]:
    """Slugs of the sizes with the patch sizes in use; other patch sizes resolve as well."""
    names = [
        slug(letter, patch) for letter, variant in VARIANTS.items() for patch in variant.patch_sizes
    ]
    return ["vit_digits", *names]


def parse_name(name: str) -> tuple[str, tuple[int, int]] | None:
    """Letter and patch size of "vit_b16", "ViT-B/16", "vit_ti4", "ViT-L/16x8" (height first); None where it is neither."""
    found = re.fullmatch(
        r"vit[-_]([a-z]+(?:400m)?)[/_-]?(\d{1,4})(?:x(\d{1,4}))?", name.strip(), re.IGNORECASE
    )
    if not found:
        return None
    spelt, height, width = found[1], int(found[2]), int(found[3] or found[2])
    letters = {letter.lower(): letter for letter in VARIANTS if letter not in "gG"}
    letters |= {"gigantic": "G", "giant": "g"}
    letter = spelt if spelt in ("g", "G") else letters.get(spelt.lower())
    return (letter, (height, width)) if letter and height and width else None


def resolve_model(
    name: str,
    *,
    num_classes: int,
    image_size: tuple[int, int] | int | str | None = None,
    channels: int = 3,
    overrides: Mapping[str, Any] | None = None,
) -> ViTConfig:
    """The architecture of a named size, with any of its fields replaced.

    name: "vit_b16", "ViT-B/16" (any patch size), or "vit_digits". image_size: (height, width) px, 224 when not given.
    overrides: fields of ViTConfig; text is read as on the command line ("6", "64x48").
    Raises UsageError: VIT-221 unknown name, VIT-211 unknown field, VIT-214 size and patch, VIT-222 value refused.
    """
    values: dict[str, Any]
    parsed = parse_name(name)
    if name.strip().lower().replace("-", "_") == "vit_digits":
        values = dict(DIGITS) | {"num_classes": num_classes, "channels": channels}
    elif parsed:
        variant = VARIANTS[parsed[0]]
        values = {
            "image_size": DEFAULT_IMAGE_SIZE,
            "patch_size": parsed[1],
            "channels": channels,
            "width": variant.width,
            "depth": variant.depth,
            "num_heads": variant.num_heads,
            "mlp_dim": variant.mlp_dim,
            "num_classes": num_classes,
        }
    else:
        hint = (
            "A name is a size and a patch in pixels: "
            + ", ".join(
                f"{letter} {variant.width}x{variant.depth}" for letter, variant in VARIANTS.items()
            )
            + "; e.g. vit_s16 or ViT-S/16."
        )
        raise UsageError(
            "VIT-221", f"unknown model {name!r}. {nearest(name.lower(), known_names())}", hint=hint
        )
    if image_size is not None:
        values["image_size"] = image_size
    return ViTConfig(**(values | dict(overrides or {})))
