"""Every origin by the name that commands use; files are tried in this order."""

from __future__ import annotations

from vitrail.checkpoints.huggingface.layout import HUGGINGFACE
from vitrail.checkpoints.mapping.origin import Origin
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.bit_npz import BIT
from vitrail.checkpoints.origins.cct import SHI_CCT
from vitrail.checkpoints.origins.deit_names import DEIT
from vitrail.checkpoints.origins.dinov2 import DINOV2
from vitrail.checkpoints.origins.google import GOOGLE
from vitrail.checkpoints.origins.openai_clip import OPENAI_CLIP
from vitrail.checkpoints.origins.self_supervised import SELF_SUPERVISED
from vitrail.checkpoints.origins.timm import TIMM
from vitrail.checkpoints.origins.torchvision import TORCHVISION

# Those with marks of their own come first; timm's names are everybody's.
ORIGINS: dict[str, Origin] = {
    origin.name: origin
    for origin in (
        GOOGLE,
        BIG_VISION,
        BIT,
        HUGGINGFACE,
        TORCHVISION,
        OPENAI_CLIP,
        SHI_CCT,
        *SELF_SUPERVISED,
        DINOV2,
        DEIT,
        TIMM,
    )
}
