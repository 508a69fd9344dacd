"""Entries of timm's class Eva that ours computes, by name: what no tensor of them shows.

Read from the built modules of timm 1.0.31 (`models/eva.py`). Others of that class have norms inside
a branch (EVA02 from base on, EVA02-CLIP), fewer heads of keys (Sapiens2) or frequencies that are
learned (rope-vit "mixed").
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Rotation(NamedTuple):
    """timm's arguments of a rotation. kind: "cat" by index, "dinov3" centred; order: whose channels
    come first, "ij" y or "xy" x; is_halved: whether a pair is half a head apart, not adjacent.
    """

    kind: str = "cat"
    base: float = 10_000.0
    start: float = 0.0
    grid: tuple[int, int] | None = None
    order: str = "ij"
    is_halved: bool = False


class TimmEntry(NamedTuple):
    """One network of timm. rotation: None without."""

    width: int
    heads: int
    eps: float
    pool: str
    map_heads: int | None
    rotation: Rotation | None


def _entries(
    text: str,
    *sizes: tuple[int, int],
    turn: Rotation | None,
    eps: float = 1e-6,
    pool: str = "gap",
    map_heads: int | None = None,
) -> dict[str, TimmEntry]:
    """text: names in lines, a line for each of `sizes` (width, heads)."""
    lines = [line.split() for line in text.strip().splitlines()]
    return {
        name: TimmEntry(width, heads, eps, pool, map_heads, turn)
        for names, (width, heads) in zip(lines, sizes, strict=True)
        for name in names
    }


def _square(side: int, **more: Any) -> Rotation:
    return Rotation(grid=(side, side), **more)


CENTRED = Rotation("dinov3", 100.0, is_halved=True)
AXIAL = Rotation(base=100.0, order="xy")
CORE: dict[str, Any] = {"order": "xy", "start": 1.0}
WIDE = ((192, 3), (384, 6), (768, 12), (1024, 16))
ENTRIES: dict[str, TimmEntry] = {
    **_entries(
        """
        eva_giant_patch14_224 eva_giant_patch14_336 eva_giant_patch14_560
        """,
        (1408, 16),
        turn=None,
    ),
    **_entries("eva_giant_patch14_clip_224", (1408, 16), turn=None, pool="cls"),
    **_entries(
        """
        eva02_tiny_patch14_224 eva02_tiny_patch14_336
        eva02_small_patch14_224 eva02_small_patch14_336
        vit_medium_patch16_rope_reg1_gap_256 vit_mediumd_patch16_rope_reg1_gap_256
        vit_betwixt_patch16_rope_reg4_gap_256
        vit_base_patch16_rope_reg1_gap_256
        """,
        *((192, 3), (384, 6), (512, 8), (640, 10), (768, 12)),
        turn=_square(16),
    ),
    **_entries(
        """
        vit_small_patch16_rope_224 vit_small_patch16_rope_ape_224
        vit_base_patch16_rope_224 vit_base_patch16_rope_ape_224
        vit_large_patch16_rope_224 vit_large_patch16_rope_ape_224
        """,
        *WIDE[1:],
        turn=AXIAL,
        pool="cls",
    ),
    **_entries(
        """
        vit_tiny_patch16_dinov3_qkvb
        vit_small_patch16_dinov3 vit_small_patch16_dinov3_qkvb
        vit_small_plus_patch16_dinov3 vit_small_plus_patch16_dinov3_qkvb
        vit_base_patch16_dinov3 vit_base_patch16_dinov3_qkvb
        vit_large_patch16_dinov3 vit_large_patch16_dinov3_qkvb
        vit_huge_plus_patch16_dinov3 vit_huge_plus_patch16_dinov3_qkvb
        vit_7b_patch16_dinov3
        """,
        *((192, 3), (384, 6), (384, 6), (768, 12), (1024, 16), (1280, 20), (4096, 32)),
        turn=CENTRED,
        eps=1e-5,
    ),
    **_entries(
        """
        vit_small_patch16_lingbot
        vit_base_patch16_lingbot
        vit_large_patch16_lingbot
        vit_giant_patch16_lingbot
        """,
        *WIDE[1:],
        (1536, 24),
        turn=CENTRED,
        eps=1e-5,
        pool="cls",
    ),
    **_entries(
        """
        vit_pe_core_tiny_patch16_384
        vit_pe_core_small_patch16_384
        """,
        *WIDE[:2],
        turn=_square(24, **CORE),
        eps=1e-5,
        pool="map",
        map_heads=8,
    ),
    **_entries(
        "vit_pe_core_base_patch16_224",
        (768, 12),
        turn=_square(14, **CORE),
        eps=1e-5,
        pool="map",
        map_heads=8,
    ),
    **_entries(
        "vit_pe_core_large_patch14_336",
        (1024, 16),
        turn=_square(24, **CORE),
        eps=1e-5,
        pool="map",
        map_heads=8,
    ),
    **_entries(
        "vit_pe_core_gigantic_patch14_448",
        (1536, 16),
        turn=_square(32, order="xy"),
        eps=1e-5,
        pool="map",
        map_heads=8,
    ),
    **_entries(
        """
        vit_pe_spatial_tiny_patch16_512
        vit_pe_spatial_small_patch16_512
        vit_pe_spatial_base_patch16_512
        vit_pe_spatial_large_patch14_448 vit_pe_lang_large_patch14_448
        """,
        *WIDE,
        turn=_square(32, **CORE),
        eps=1e-5,
    ),
    **_entries(
        "vit_pe_spatial_gigantic_patch14_448 vit_pe_lang_gigantic_patch14_448",
        (1536, 16),
        turn=_square(32, order="xy"),
        eps=1e-5,
    ),
}
