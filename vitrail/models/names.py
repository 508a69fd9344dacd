"""Names of the published architectures, and what they stand for. No torch here.

| name | slug | source |
|---|---|---|
| ViT-B/16 | vit_b16 | arXiv 2010.11929 Table 1; other sizes: big_vision `decode_variant`, timm |
| R50+ViT-B/16 | r50_vit_b16 | section 4.1 and Table 6; vision_transformer `configs/models.py` |
| BiT-R50x1, BiT-R50x1-GN | bit_r50x1, bit_r50x1_gn | arXiv 1912.11370; big_vision `models/bit.py` |
| ResNet-S, ViTC-S, ViTR-S | resnet_s, vitc_s, vitr_s | `models/resnet/names.py` |
| CCT-7/3x1 | cct_7_3x1 | arXiv 2104.05704, Compact-Transformers `src/cct.py` |

The number behind a hybrid's slash is the ResNet's total stride: 32 is all four stages, 16 moves
the units of stage 4 into stage 3. Without stages ("R+ViT-Ti/16") vision_transformer counts a stem
of stride 2, but it has 4: the patch on its map is half the number, and R+Ti/16 makes 49 tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeGuard

from vitrail.errors import UsageError, nearest
from vitrail.models.bit.config import DEPTHS, BiTConfig
from vitrail.models.other_names import meaning
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.resnet.names import FITTED, RESNETS, fitted_fields
from vitrail.models.vit.config import ViTConfig
from vitrail.setting_values import parse_size

Family = Literal["vit", "bit", "resnet"]
PublishedConfig = ViTConfig | BiTConfig  # other libraries have weights of such
ModelConfig = PublishedConfig | ResNetConfig
CONFIGS: dict[str, type[ModelConfig]] = {
    "vit": ViTConfig,
    "bit": BiTConfig,
    "resnet": ResNetConfig,
}


class Variant(NamedTuple):
    """One published size; `patch_sizes` are those in use, the first is the default."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_sizes: tuple[int, ...] = ()


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
# For 8 x 8 images of handwritten digits: a size for demonstrations and tests.
DIGITS = {
    "image_size": (8, 8),
    "patch_size": (2, 2),
    "channels": 1,
    "width": 48,
    "depth": 4,
    "num_heads": 4,
    "mlp_dim": 192,
}
# Compact Convolutional Transformers by depth. Blocks are the paper's ViT blocks: the reference code
# adds to the output of the second norm instead of its input, and has no bias in q, k and v.
CCT: dict[int, Variant] = {
    2: Variant(128, 2, 128, 2),
    4: Variant(128, 4, 128, 2),
    6: Variant(256, 6, 512, 4),
    7: Variant(256, 7, 512, 4),
    14: Variant(384, 14, 1152, 6),
}
HYBRIDS = [
    *("r_vit_ti16", "r26_vit_s32", "r26_vit_b32"),
    *("r50_vit_b16", "r50_vit_b32", "r50_vit_l16", "r50_vit_l32"),
]
BITS = [
    *("bit_r26x1", "bit_r50x1", "bit_r50x2", "bit_r50x3", "bit_r101x1", "bit_r101x3"),
    *("bit_r152x1", "bit_r152x2", "bit_r152x4", "bit_r200x3"),
    *("bit_r50x1_gn", "bit_r26x1_small"),
]
CCTS = ["cct_2_3x2", "cct_4_3x2", "cct_6_3x1", "cct_7_3x1", "cct_7_3x2", "cct_14_7x2"]
DEFAULT_IMAGE_SIZE, SMALL_IMAGE_SIZE = (224, 224), (32, 32)


class Named(NamedTuple):
    """What a name stands for: fields of the family's config, without channels and classes."""

    family: Family
    fields: dict[str, Any]


def slug(letter: str, patch: int) -> str:
    """Name for files and commands, as "vit_b16"; G is spelt out, as file systems ignore case."""
    return f"vit_{'gigantic' if letter == 'G' else letter.lower()}{patch}"


def known_names() -> list[str]:
    """Slugs of what is published; other patch sizes, stems and widths resolve as well."""
    names = [
        slug(letter, patch) for letter, variant in VARIANTS.items() for patch in variant.patch_sizes
    ]
    return ["vit_digits", *names, *HYBRIDS, *BITS, *FITTED, *CCTS]


def full_name(name: str, fields: Mapping[str, Any]) -> str:
    """`name`, and what of the architecture is other than the name says: "vit_ti8 with width 32,
    depth 2". fields: of the configuration, as plain data or not.
    """
    named = parse_name(name)
    if named is None:
        return name
    named = _fitted(name, named, fields.get("image_size"))
    other = [
        f"{key} {_in_words(fields[key])}"
        for key, value in named.fields.items()
        if key not in ("image_size", "channels")
        and key in fields
        and _in_words(fields[key]) != _in_words(value)
    ]
    return f"{name} with {', '.join(other)}" if other else name


def _in_words(value: object) -> str:
    """4x4 for a pair, whether from JSON or not."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def parse_name(name: str) -> Named | None:
    """What `name` stands for, in any of its spellings; None where it is no name.

    A patch may have two sides, height first: "ViT-L/16x8". A hybrid's ResNet and a BiT may have a
    width factor: "R50x2+ViT-L/32", "BiT-R152x4"; a BiT the endings "-GN" and "-small".
    """
    text = name.strip()
    if text.lower().replace("-", "_") == "vit_digits":
        return Named("vit", dict(DIGITS))
    for reader in (_vit, _hybrid, _bit, _for_small_images, _cct):
        found = reader(text)
        if found:
            return found
    return None


def _fitted(name: str, named: Named, image_size: Any) -> Named:
    """`named`, where its fields depend on the size of the image."""
    size = parse_size(image_size)
    if not _is_pair(size):
        return named  # what is no size is refused where the configuration is made
    return Named(named.family, fitted_fields(_spelt(name), size) or named.fields)


def _is_pair(size: object) -> TypeGuard[tuple[int, int]]:
    if not isinstance(size, tuple | list):
        return False
    return len(size) == 2 and all(type(side) is int and side > 0 for side in size)


def _letter(spelt: str) -> str | None:
    letters = {letter.lower(): letter for letter in VARIANTS if letter not in "gG"}
    letters |= {"gigantic": "G", "giant": "g"}
    return spelt if spelt in ("g", "G") else letters.get(spelt.lower())


def _encoder(variant: Variant, patch_size: tuple[int, int]) -> dict[str, Any]:
    sizes = {"image_size": DEFAULT_IMAGE_SIZE, "patch_size": patch_size}
    return (
        sizes
        | {name: getattr(variant, name) for name in ("width", "depth", "num_heads")}
        | {"mlp_dim": variant.mlp_dim}
    )


def _vit(text: str) -> Named | None:
    """ViT-B/16."""
    pattern = r"vit[-_]([a-z]+(?:400m)?)[/_-]?(\d{1,4})(?:x(\d{1,4}))?"
    found = re.fullmatch(pattern, text, re.IGNORECASE)
    letter = _letter(found[1]) if found else None
    if not found or not letter:
        return None
    height, width = int(found[2]), int(found[3] or found[2])
    return Named("vit", _encoder(VARIANTS[letter], (height, width))) if height and width else None


def _hybrid(text: str) -> Named | None:
    """R50+ViT-B/16, R50+B/16, R26+S/32, R+Ti/16, R50x2+ViT-L/32."""
    pattern = r"r(\d{0,3})(?:x(\d{1,2}(?:\.\d)?))?[+_-](?:vit[-_])?([a-z]+(?:400m)?)[/_-]?(\d{1,3})"
    found = re.fullmatch(pattern, text, re.IGNORECASE)
    letter = _letter(found[3]) if found else None
    if not found or not letter:
        return None
    suffix, layers = int(found[4]), int(found[1] or 0)
    stages: tuple[int, ...] = ()
    if not layers:
        patch = suffix // 2
        is_known = suffix > 0 and suffix % 2 == 0
    else:
        a, b, c, d = DEPTHS.get(layers, (0, 0, 0, 0))
        stages, patch = {32: (a, b, c, d), 16: (a, b, c + d)}.get(suffix, ()), 1
        is_known = layers in DEPTHS and bool(stages)
    if not is_known:
        return None
    stem = {"stem": "resnet", "stem_stages": stages, "stem_width": _stem_width(found[2])}
    return Named("vit", _encoder(VARIANTS[letter], (patch, patch)) | stem)


def _stem_width(factor: str | None) -> int:
    return round(64 * float(factor or 1))


def _bit(text: str) -> Named | None:
    """BiT-R50x1, BiT-R50x1-GN, bit_r26x1_small."""
    pattern = r"bit[-_]r(\d{1,3})x(\d{1,2}(?:\.\d)?)((?:[-_](?:gn|small)){0,2})"
    found = re.fullmatch(pattern, text, re.IGNORECASE)
    if not found or int(found[1]) not in DEPTHS or not float(found[2]):
        return None
    endings = re.findall(r"gn|small", found[3].lower())
    is_small = "small" in endings
    fields = {
        "image_size": SMALL_IMAGE_SIZE if is_small else DEFAULT_IMAGE_SIZE,
        "depths": DEPTHS[int(found[1])],
        "width_factor": float(found[2]),
        "style": "v1_gn" if "gn" in endings else "v2",
        "stem": "small" if is_small else "imagenet",
    }
    return Named("bit", fields) if len(endings) == len(set(endings)) else None


def _for_small_images(text: str) -> Named | None:
    """resnet_s, ViTC-Ti."""
    name = _spelt(text)
    fields = fitted_fields(name)
    return Named("resnet" if name in RESNETS else "vit", fields) if fields else None


def _spelt(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _cct(text: str) -> Named | None:
    """CCT-7/3x1: 7 blocks behind one convolution of 3x3; 7x7 is for 224 px."""
    found = re.fullmatch(r"cct[-_](\d{1,2})[/_-](\d)x(\d)", text, re.IGNORECASE)
    if not found or int(found[1]) not in CCT or found[2] not in "357" or found[3] not in "123":
        return None
    fields = _encoder(CCT[int(found[1])], (1, 1)) | {
        "image_size": DEFAULT_IMAGE_SIZE if found[2] == "7" else SMALL_IMAGE_SIZE,
        "pool": "seq",
        "stem": "conv",
        "stem_convs": int(found[3]),
        "stem_kernel": int(found[2]),
    }
    return Named("vit", fields)


def resolve_model(
    name: str,
    *,
    num_classes: int,
    image_size: tuple[int, int] | int | str | None = None,
    channels: int = 3,
    overrides: Mapping[str, Any] | None = None,
) -> ModelConfig:
    """The architecture of a named model, with any of its fields replaced.

    name: "vit_b16", "ViT-B/16" (any patch size), "R50+ViT-B/16", "BiT-R50x1", "CCT-7/3x1",
    "resnet_s", "vit_digits". image_size: (height, width) px; where not given 224, or what the
    name is for.
    overrides: fields of the family's config; text is read as on the command line ("6", "64x48").
    Raises UsageError: VIT-221 unknown name, VIT-211 unknown field, VIT-214 size and patch, VIT-222
    and VIT-230 value refused.
    """
    named = parse_name(name)
    if named is None:
        sizes = ", ".join(
            f"{letter} {size.width}x{size.depth}" for letter, size in VARIANTS.items()
        )
        hint = (
            f"A ViT is a size and a patch in pixels, e.g. vit_s16 or ViT-S/16. Sizes: {sizes}. "
            "A hybrid is R26, R50, R101, R152 or R200 before a ViT of /32 or /16, or R before a "
            "ViT. A BiT is its depth and width, e.g. bit_r50x1. For small images and budgets: "
            f"{', '.join(FITTED)}."
        )
        meant = meaning(name)
        if meant:
            hint = "Published weights: vitrail models --weights; to start from them: --from NAME"
        close = meant or nearest(name.lower(), known_names())
        raise UsageError("VIT-221", f"unknown model {name!r}. {close}", hint=hint)
    named = _fitted(name, named, image_size)
    values = named.fields | {"num_classes": num_classes, "channels": channels}
    if image_size is not None:
        values["image_size"] = image_size
    return CONFIGS[named.family](**(values | dict(overrides or {})))


def config_from_numbers(family: str, numbers: Mapping[str, Any]) -> ModelConfig:
    """The architecture that a record holds. Raises UsageError VIT-211, 214, 222, 230, and 231 for
    an unknown family."""
    if family not in CONFIGS:
        raise UsageError("VIT-231", f"unknown family {family!r}. {nearest(family, CONFIGS)}")
    return CONFIGS[family].model_validate(dict(numbers))
