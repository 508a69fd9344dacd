"""Which patches became one token, where a model merges its tokens (`models/vit/merging.py`).

No part of it says what the answer rests on: it says what the model could still tell apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrail.explain.methods.maps import Maps, Request, array
from vitrail.models.vit.merging import tokens_left
from vitrail.models.vit.model import ViT


def merging(model: ViT, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). The grid has, of each patch, how many patches its token stands for
    behind the last block; groups the token's number, from 0 in the order of the image; matrix
    (P, P) is 1 for patches of one token.
    """
    found = model.merged(model.embed(images))
    logits = model.read(model.final_norm(found.tokens), key_bias=found.key_bias())[0]
    places = array(found.places.float())[0].astype(np.int64)  # (P,)
    sizes = np.bincount(places)[places].astype(np.float32)
    h, w = model.config.grid
    facts = {
        "tokens": model.kept_tokens,
        "left": tokens_left(model.config, model.kept_tokens),
        "largest": int(sizes.max()),
    }
    return Maps(
        sizes.reshape(h, w),
        array(logits) if model.config.num_classes else array(logits)[:0],
        matrix=(places[:, None] == places[None]).astype(np.float32),
        groups=in_order(places).reshape(h, w),
        facts=facts,
    )


def in_order(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """places: (P,), any number for each token. The same with 0 for the token of the first patch, 1
    for the next token, and so on.
    """
    _, first, number = np.unique(places, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[number], np.int64)
