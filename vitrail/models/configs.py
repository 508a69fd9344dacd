"""Architecture of a Vision Transformer as a frozen record, and the published sizes. No torch here.

Sources: "An Image is Worth 16x16 Words" (arXiv 2010.11929) Table 1 and section 3.1; sizes outside
the paper (mu, Ti, S, M, So400m, g, G, e) follow big_vision `models/vit.py:decode_variant` and timm.
One record covers every published plain ViT: the differences between them are fields, never copies
of the model. A field that would have no effect is refused, because silence is how numbers get
reported for runs that were not made.
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
NoneText = BeforeValidator(lambda value: None if value in ("none", "") else value)
OptionalScale = Annotated[Annotated[float, Field(gt=0, le=10)] | None, NoneText]
OptionalSize = Annotated[Annotated[int, Field(ge=1, le=65_536)] | None, NoneText]

MAX_TOKENS = 65_536  # attention is quadratic: more is a mistake or an attack
MAX_WEIGHTS = 30_000_000_000  # ViT-22B is the largest ViT published


class ViTConfig(Section):
    """Every choice of architecture. Sizes are (height, width) in pixels."""

    image_size: Size
    patch_size: Size
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    width: Annotated[int, Field(ge=1, le=16_384)]
    depth: Annotated[int, Field(ge=1, le=256)]
    num_heads: Annotated[int, Field(ge=1, le=512)]
    # Of swiglu: the size after the gate; the packed first layer has 2 x mlp_dim rows.
    mlp_dim: Annotated[int, Field(ge=1, le=131_072)]
    # 0: no head, the model returns features.
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    # gap: mean of the patch tokens after the final norm. map: attention pooling by a learned probe.
    pool: Pool = "cls"
    posemb: Posemb = "learned"
    # Whether the learned table has rows for cls (and dist); where not given, true when it can be.
    posemb_prefix: bool = False
    # Extra tokens between cls and patches, without posemb and not in the mean.
    num_registers: Annotated[int, Field(ge=0, le=1024)] = 0
    layer_scale: OptionalScale = None  # initial value: 1e-4 in DeiT III, 1e-5 in DINOv2
    qk_norm: bool = False
    mlp: Literal["gelu", "swiglu"] = "gelu"
    gelu: Gelu = "gelu"  # by erf; gelu_tanh is Flax's default, quick_gelu OpenAI's
    # Linear over depth from 0 to the rate (DeiT), or the same rate everywhere (DeiT III).
    drop_path: Share = 0.0
    drop_path_schedule: Literal["linear", "constant"] = "linear"
    dropout: Share = 0.0  # after posemb, attention projection, GELU and the second MLP layer
    representation_size: OptionalSize = None  # tanh layer before the head
    distillation_token: bool = False  # DeiT: second token and second head
    ln_eps: Annotated[float, Field(gt=0, le=1e-2)] = 1e-6
    head_bias_init: Annotated[float, Field(ge=-100, le=100)] = 0.0  # below 0 for a sigmoid loss
    pre_norm: bool = False  # CLIP: LayerNorm before the first block, patch projection without bias

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fills in `posemb_prefix`. Raises UsageError VIT-211, VIT-214 or VIT-222."""
        if isinstance(values, Mapping):
            unknown = sorted(set(values) - set(cls.model_fields))
            if unknown:
                close = nearest(unknown[0], cls.model_fields)
                raise UsageError("VIT-211", f"unknown field of the model: {unknown[0]}. {close}")
            learned = values.get("posemb", "learned") == "learned"
            values = {"posemb_prefix": learned and values.get("pool", "cls") == "cls", **values}
        try:
            config = handler(values)
        except ValidationError as error:
            lines = [
                f"  {'.'.join(map(str, item['loc']))}: {item['msg']}, got {item['input']!r}"
                for item in error.errors(include_url=False)
            ]
            message = "the model cannot be built:\n" + "\n".join(dict.fromkeys(lines))
            raise UsageError("VIT-222", message) from error
        _check_patches(config)
        _check_size(config)
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


def _check_patches(config: ViTConfig) -> None:
    """Raises UsageError VIT-214 where patches do not fill the image."""
    sizes = zip(("height", "width"), config.image_size, config.patch_size, strict=True)
    for axis, size, patch in sizes:
        if size % patch == 0:
            continue
        below, above = size // patch * patch, (size // patch + 1) * patch
        hint = f"Nearest {axis}s: {f'{below} or {above}' if below else above} px (--image-size)."
        divisors = ", ".join(str(n) for n in range(2, min(size, 65)) if size % n == 0)
        if divisors:
            hint += f" Patch sizes that divide {size}: {divisors} (--model.patch_size)."
        message = f"image {axis} {size} px is not a multiple of the patch {axis} {patch} px"
        raise UsageError("VIT-214", message, hint=hint)


def _check_size(config: ViTConfig) -> None:
    """Raises UsageError VIT-222 for what is too large to be meant, before anything is allocated."""
    c = config
    if c.num_tokens > MAX_TOKENS:
        message = f"{c.image_size} px images in {c.patch_size} px patches are {c.num_tokens} tokens"
        hint = "Choose a larger patch or a smaller image."
        raise UsageError("VIT-222", f"{message}; at most {MAX_TOKENS}", hint=hint)
    weights = c.depth * c.width * (4 * c.width + (3 if c.mlp == "swiglu" else 2) * c.mlp_dim)
    weights += c.width * (c.num_tokens + c.channels * c.patch_size[0] * c.patch_size[1])
    weights += c.num_features * (c.num_classes + (c.width if c.representation_size else 0))
    if weights > MAX_WEIGHTS:
        message = f"the model has about {weights / 1e9:.0f} billion parameters"
        hint = "Choose a smaller width, depth or mlp_dim."
        raise UsageError("VIT-222", f"{message}; at most {MAX_WEIGHTS / 1e9:.0f}", hint=hint)
    if c.width % c.num_heads:
        fitting = [str(n) for n in range(1, 65) if c.width % n == 0 and c.width // n >= 8]
        hint = f"num_heads that fit width {c.width}: {', '.join(fitting) or 1}"
        message = f"width {c.width} is not a multiple of num_heads {c.num_heads}"
        raise UsageError("VIT-222", message, hint=hint)


def _check_combination(config: ViTConfig) -> None:
    """Raises UsageError VIT-222 for the first setting that is impossible or without effect."""
    c = config
    divisor = {"learned_2d": 2, "sincos_2d": 4, "rope_2d": 4}.get(c.posemb, 1)
    axis = "width / num_heads" if c.posemb == "rope_2d" else "width"
    size = c.head_dim if c.posemb == "rope_2d" else c.width
    is_linear_drop = c.drop_path > 0 and c.drop_path_schedule == "linear"
    problems = {
        f"posemb={c.posemb!r} needs {axis} in multiples of {divisor}, got {size}": size % divisor,
        f"posemb='sincos_2d' needs width >= 8, got {c.width}": c.posemb == "sincos_2d"
        and c.width < 8,
        f"posemb_prefix has no effect with posemb={c.posemb!r}": c.posemb_prefix
        and c.posemb != "learned",
        f"posemb_prefix has no effect with pool={c.pool!r}, which has no cls token": c.posemb_prefix
        and c.pool != "cls",
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
    for message, is_wrong in problems.items():
        if is_wrong:
            raise UsageError("VIT-222", message)


class Variant(NamedTuple):
    """One published size; `patch_sizes` are those in use, the first is the default."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_sizes: tuple[int, ...]


# Letters of the papers. B, L, H: arXiv 2010.11929 Table 1; the rest: big_vision `decode_variant`
# and timm.
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
# For 8 x 8 pictures of handwritten digits: a size for demonstrations and tests.
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
    """Name for files and commands, as "vit_b16"; G is spelt out, as file systems ignore case."""
    return f"vit_{'gigantic' if letter == 'G' else letter.lower()}{patch}"


def known_names() -> list[str]:
    """Slugs of the sizes with the patch sizes in use; other patch sizes resolve as well."""
    names = [
        slug(letter, patch) for letter, variant in VARIANTS.items() for patch in variant.patch_sizes
    ]
    return ["vit_digits", *names]


def parse_name(name: str) -> tuple[str, tuple[int, int]] | None:
    """Letter and patch size of "vit_b16", "ViT-B/16", "ViT-L/16x8" (height first), or None."""
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

    name: "vit_b16", "ViT-B/16" (any patch size), or "vit_digits". image_size: (height, width) px,
    224 when not given.
    overrides: fields of ViTConfig; text is read as on the command line ("6", "64x48").
    Raises UsageError: VIT-221 unknown name, VIT-211 unknown field, VIT-214 size and patch, VIT-222
    value refused.
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
        sizes = ", ".join(
            f"{letter} {size.width}x{size.depth}" for letter, size in VARIANTS.items()
        )
        hint = f"A name is a size and a patch in pixels, e.g. vit_s16 or ViT-S/16. Sizes: {sizes}."
        close = nearest(name.lower(), known_names())
        raise UsageError("VIT-221", f"unknown model {name!r}. {close}", hint=hint)
    if image_size is not None:
        values["image_size"] = image_size
    return ViTConfig(**(values | dict(overrides or {})))
