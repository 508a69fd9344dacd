"""Every origin by the name that commands use; files are tried in this order."""

from __future__ import annotations

from vitrail.checkpoints.big_vision import BIG_VISION
from vitrail.checkpoints.bit_npz import BIT
from vitrail.checkpoints.cct import SHI_CCT
from vitrail.checkpoints.deit import DEIT
from vitrail.checkpoints.dinov2 import DINOV2
from vitrail.checkpoints.google import GOOGLE
from vitrail.checkpoints.huggingface import HUGGINGFACE
from vitrail.checkpoints.openai_clip import OPENAI_CLIP
from vitrail.checkpoints.origin import Origin
from vitrail.checkpoints.self_supervised import SELF_SUPERVISED
from vitrail.checkpoints.timm import TIMM
from vitrail.checkpoints.torchvision import TORCHVISION

# Those with marks of their own come first; timm's names are everybody's.
ORIGINS: dict[str, Origin] = {
    origin.name: origin
    for origin in (
        GOOGLE, BIG_VISION, BIT, HUGGINGFACE, TORCHVISION, OPENAI_CLIP, SHI_CCT,
        *SELF_SUPERVISED, DINOV2,
        DEIT, TIMM,
    )
}  # fmt: skip
