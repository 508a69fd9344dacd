"""Architecture of a Vision Transformer as a frozen record. No torch here; sizes: `names.py`.

Source: "An Image is Worth 16x16 Words" (arXiv 2010.11929) section 3.1. One record covers every
published plain ViT, the hybrids (a residual stem before the patches), convolutional stems (arXiv
2106.14881) and the compact convolutional tokenizer (arXiv 2104.05704): the differences between them
are fields, never copies of the model. A field that would have no effect is refused, because silence
is how numbers get reported for runs that were not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, model_validator

from vitrail.models.layers.fields import is_true, refuse_unknown, validated
from vitrail.models.vit.checks import (
    check_combination,
    check_flexible,
    check_map,
    check_patch_drop,
    check_patches,
    check_rotary,
    check_size,
    check_stem,
    check_variable,
)
from vitrail.models.vit.fields import LEARNED, WITH_CLS, ViTFields


class ViTConfig(ViTFields):
    """Every choice of architecture; what excludes one another, or has no effect, is refused."""

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fills in `cls_token` and `posemb_prefix`.

        Raises UsageError VIT-211, VIT-214, VIT-222 or VIT-230.
        """
        if isinstance(values, Mapping):
            refuse_unknown(values, cls.model_fields)
            values = {"cls_token": values.get("pool", "cls") in WITH_CLS, **values}
            learned = values.get("posemb", "learned") in LEARNED
            values = {"posemb_prefix": learned and is_true(values["cls_token"]), **values}
        config = validated(handler, values)
        check_stem(config)
        check_patches(config)
        check_flexible(config)
        check_size(config)
        check_combination(config)
        check_rotary(config)
        check_map(config)
        check_variable(config)
        check_patch_drop(config)
        return config
