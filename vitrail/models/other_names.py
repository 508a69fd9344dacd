"""Names that other libraries have for architectures of ours: timm, Hugging Face, torch hub, Keras.

Only for messages: nothing is built or read by a name that was guessed.
"""

from __future__ import annotations

import re

SIZES = {
    "tiny": "ti",
    "ti": "ti",
    "small": "s",
    "s": "s",
    "medium": "m",
    "base": "b",
    "b": "b",
    "large": "l",
    "l": "l",
    "huge": "h",
    "h": "h",
    "so400m": "so400m",
    "giant": "g",
    "g": "g",
    "gigantic": "gigantic",
}
SIZE = "|".join(sorted(SIZES, key=len, reverse=True))
SAME = (  # the same architecture; groups: size, patch
    rf"(?:vit|deit3?|deit_3|dino|mae)_({SIZE})(?:_distilled)?_patch(\d+)(?!\d)",
    rf"(?:dino_)?vit({SIZE})_?(\d+)(?!\d)",
    rf"(?:vit|deit|dino)_({SIZE})_(\d+)(?!\d)",
)
NEAREST = {  # another architecture, and the one of ours that does its work
    r"(?:wide_)?res(?:net|next)_?(?:18|34|26)\w*": "bit_r26x1",
    r"(?:wide_)?res(?:net|next)_?50\w*": "bit_r50x1",
    r"(?:wide_)?res(?:net|next)_?101\w*": "bit_r101x1",
    r"(?:wide_)?res(?:net|next)_?152\w*": "bit_r152x1",
    r"(?:efficientnet|mobilenet|mobilevit|regnet|densenet|shufflenet)\w*": "cct_7_3x1",
    r"(?:alexnet|vgg|inception|googlenet|xception|nasnet|mnasnet)\w*": "bit_r26x1",
    r"yolo\w*(?:cls)?|clip\w*": "vit_s16",
    r"vit_?(?:base|b)?|vision_?transformer|vitforimageclassification|deit": "vit_b16",
    r"vit_?(?:small|s)": "vit_s16",
    r"vit_?(?:tiny|ti|t)": "vit_ti16",
    r"vit_?(?:large|l)": "vit_l16",
    r"resnet|bit": "bit_r50x1",
    r"(?:convnext|swin|beit|cait|xcit|maxvit|pvt|twins|levit|coatnet|eva|mixer)\w*": "vit_s16",
}


def our_name(theirs: str) -> str:
    """`vit_b16` for "vit_base_patch16_224.augreg_in21k", "google/vit-base-patch16-224" or
    "deit_base_distilled_patch16_384"; "" for what we have under no name.
    """
    name = _stem(theirs)
    if found := re.match(rf"(?:vit_)?({SIZE})_r(\d+)_s(\d+)", name):
        return f"r{found[2]}_vit_{SIZES[found[1]]}{found[3]}"
    if found := re.match(r"(?:resnetv2_|bit_(?:[sm]_)?r?)(\d+)x(\d)", name):
        return f"bit_r{found[1]}x{found[2]}"
    if found := re.match(rf"dinov2_(?:with_registers_)?(?:vit)?({SIZE})(?:14)?(?:_|$)", name):
        return f"vit_{SIZES[found[1]]}14"
    matches = (re.match(pattern, name) for pattern in SAME)
    return next((f"vit_{SIZES[found[1]]}{found[2]}" for found in matches if found), "")


def meaning(theirs: str) -> str:
    """A sentence on what a name of another library is here; "" where nothing is known of it."""
    if ours := our_name(theirs):
        return f"Here it is {ours}."
    name = _stem(theirs)
    near = next((ours for form, ours in NEAREST.items() if re.fullmatch(form, name)), "")
    return f"Vitrail has no such architecture; nearest is {near}." if near else ""


def _stem(name: str) -> str:
    """Without owner, tag and image size, in one spelling."""
    return re.sub(r"-+", "_", name.strip().lower().rpartition("/")[2]).split(".")[0]
