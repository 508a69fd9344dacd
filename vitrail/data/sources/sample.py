"""A sample of images that does not depend on their order: what decisions about data look at.

Images in memory are ranked by a keyed hash of their pixels and label, files by one of their path,
so that a sorted and a shuffled copy of the same data give the same sample (promise D8). Very many
images of an index stand in the order of their names, and a few places of it are drawn.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from vitrail.data.sources.source import Indices, Source


def keyed_order(source: Source, purpose: str) -> Indices:
    """All places of `source` in an order of their content and `purpose`."""
    if (known := _known(source, len(source), purpose)) is not None:
        return known
    key = purpose.encode()[:64]
    ranks = [
        int.from_bytes(blake2b(name, digest_size=8, key=key).digest()) for name in source.keys()
    ]
    return np.argsort(np.array(ranks, np.uint64), kind="stable").astype(np.int64)


def sample(source: Source, count: int, purpose: str) -> Indices:
    """At most `count` places, in the order of `keyed_order`."""
    known = _known(source, count, purpose)
    return keyed_order(source, purpose)[:count] if known is None else known


def _known(source: Source, count: int, purpose: str) -> Indices | None:
    return None if source.indexed is None else source.indexed.sampled(count, purpose)
