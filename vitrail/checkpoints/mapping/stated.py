"""What a user states of a checkpoint, `--set FIELD=VALUE`, as fields of the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitrail.errors import UsageError, nearest
from vitrail.models.bit.config import BiTConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.setting_values import parse_size


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Fields and values of FIELD=VALUE. Raises UsageError VIT-202, VIT-211."""
    known = {*ViTConfig.model_fields, *BiTConfig.model_fields}
    found: dict[str, Any] = {}
    for item in settings:
        name, equals, text = item.partition("=")
        if not equals or not text:
            raise UsageError(
                "VIT-202",
                f"--set {item}: expected FIELD=VALUE.",
                hint="For instance --set num_heads=6",
            )
        if name not in known:
            raise UsageError("VIT-211", f"--set {name}: no such field. {nearest(name, known)}")
        is_size = name in ("image_size", "patch_size")
        found[name] = parse_size(text) if is_size else int(text) if text.isdecimal() else text
    return found
