"""What published FlexiViTs were trained for (arXiv 2212.08013): 240 px, patches of ten sizes.

Source: big_vision `configs/proj/flexivit/i1k_deit3_distill.py` (`seqhw`: for each batch a grid of 5
to 30 is drawn). Their own files keep a kernel of 32 x 32 px and a grid of 7 x 7. timm's keep both
at 16 px, the size of its `flexivit_*` entries; other sizes are resized from that once more.
"""

from __future__ import annotations

SIDE_PX = 240
PATCH_PX = 16
GRIDS = (30, 24, 20, 16, 15, 12, 10, 8, 6, 5)
PATCH_SIZES = tuple((SIDE_PX // side, SIDE_PX // side) for side in GRIDS)
KEPT_KERNEL, KEPT_GRID = (32, 32), (7, 7)


def flexible_fields(kernel: tuple[int, int], grid: tuple[int, int]) -> dict[str, object]:
    """Fields of a FlexiViT whose weights hold a kernel of this patch and a table of this grid."""
    return {
        "image_size": (SIDE_PX, SIDE_PX),
        "patch_size": (PATCH_PX, PATCH_PX),
        "patch_sizes": PATCH_SIZES,
        "patch_kernel": kernel,
        "posemb_grid": grid,
    }
