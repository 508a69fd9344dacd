"""A sample of images that does not depend on their order: what decisions about data look at.

Images in memory are ranked by a keyed hash of their pixels and label, files by one of their path,
so that a sorted and a shuffled copy of the same data give the same sample (promise D8).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from vitrail.data.sources.source import ArraySource, FileSource, Indices, Source

_WHOLE_BYTES = 2**28  # of pixels, up to which all of them count
_SOME_BYTES = 256  # of each image, spread evenly, where they are more


def keyed_order(source: Source, purpose: str) -> Indices:
    """All places of `source` in an order of their content and `purpose`."""
    key = purpose.encode()[:64]
    if isinstance(source, ArraySource):
        pixels = source.images.reshape(len(source), -1)  # (n, bytes)
        if pixels.size > _WHOLE_BYTES:
            pixels = pixels[:, :: max(1, pixels.shape[1] // _SOME_BYTES)]
        labels = np.ascontiguousarray(source.labels)
        names = (pixels[i].tobytes() + labels[i].tobytes() for i in range(len(source)))
    elif isinstance(source, FileSource):
        names = (path.encode("utf-8", "surrogateescape") for path in source.paths)
    else:
        names = (source.source_id(i).encode() for i in range(len(source)))
    ranks = [int.from_bytes(blake2b(name, digest_size=8, key=key).digest()) for name in names]
    return np.argsort(np.array(ranks, np.uint64), kind="stable").astype(np.int64)


def sample(source: Source, count: int, purpose: str) -> Indices:
    """At most `count` places, in the order of `keyed_order`."""
    return keyed_order(source, purpose)[:count]
