"""Which published weights somebody means who names them as another library does.

Only for messages: nothing is downloaded for a name that was guessed.
"""

from __future__ import annotations

import difflib
import re

from vitrail.checkpoints.catalogue.weights import ROWS, Weights
from vitrail.models.other_names import meaning, our_name

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
OWNERS = ("google", "facebook", "timm", "openai", "microsoft", "laion", "nvidia", "apple")
UNLISTED = re.compile(r"clip|siglip|mae|msn|jepa|dino_|dino-|ibot|moco")  # trainings of no row
DEFAULT_TAG = "augreg_in21k_ft_in1k"  # of timm's ViTs, where a name has none


def way_out(name: str) -> str:
    """What to type instead of a path that is none; "" where nothing speaks for another library."""
    row = weights_meant(name)
    hub = hub_name(name)
    if row is not None and hub:
        return f"Did you mean {row.name}, or {hub} of the Hugging Face hub?"
    if row is not None or hub:
        return f"Did you mean {row.name if row else hub}?"
    said = meaning(name)
    return f"{said} Published weights: vitrail models --weights" if said else ""


def weights_meant(name: str) -> Weights | None:
    """The row of the catalogue that comes nearest to `name` of timm, Hugging Face or torch hub."""
    plain = name.strip().lower().removeprefix("hf:")
    for row in ROWS:
        address = row.address.lower()
        if address.removeprefix("hf:") in (plain, f"timm/{plain}"):
            return row
        file = re.sub(r"[._-](pretrain|[0-9a-f]{8})?\.?(pth|npz)$", "", address.rpartition("/")[2])
        if plain in (file, file.removesuffix("_pretrain")):
            return row
    ours = our_name(plain)
    rows = [row for row in ROWS if row.model == ours and not UNLISTED.search(plain)]
    return max(rows, key=lambda row: _likeness(plain, row)) if rows else None


def hub_name(name: str) -> str:
    """`hf:OWNER/NAME` where `name` is one of the hub, or a whole name of timm."""
    if HUB_NAME.fullmatch(name) and (our_name(name) or name.split("/")[0] in OWNERS):
        return f"hf:{name}"
    if our_name(name) and re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name):
        return f"hf:timm/{name}"
    return ""


def _likeness(name: str, row: Weights) -> float:
    """How much the tag and the image size in `name` are those of a row."""
    stem, _, tag = name.rpartition("/")[2].partition(".")
    said = (
        ("deit3", "deit3_1k"),
        ("distilled", "deit_distilled_i1k"),
        ("deit", "deit_i1k"),
        ("reg", "dinov2_reg"),
        ("dinov2", "dinov2"),
        ("in21k", "i21k"),
    )
    if "deit3" in stem and tag:
        tag = "deit3_21k" if "22k" in tag else "deit3_1k"
    tag = tag or next((own for word, own in said if word in stem), DEFAULT_TAG)
    tag = tag.removeprefix("orig_").replace("in21k", "i21k").replace("in1k", "i1k")
    tag = tag.replace("_ft_", "_")
    size = re.search(r"_(\d{3})$", stem)
    alike = difflib.SequenceMatcher(None, tag, row.name.partition(".")[2].rstrip("_0123456789"))
    return alike.ratio() + 0.2 * (row.image_size[0] == int(size[1] if size else 224))
