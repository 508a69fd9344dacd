"""Which images are the same: a digest of the content of each.

The content is what the file holds, byte by byte, or the pixels of an image in memory; neither its
name, its place nor its label. Everything that asks whether two images are one asks here: the split,
the record of a run (`examples.py`), the look at a dataset, fingerprints.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.rgb import Pixels
from vitrail.data.sources.many_labels import ManyLabels
from vitrail.data.sources.source import Digests, Indices, Labels, Source

DIGEST_BYTES = 16  # of sha256: two images of 10^12 share one with a chance of 10^-15
READERS = 4  # threads; reading waits for the disk, and hashing releases Python's lock
AT_ONCE = 64
Keys = NDArray[np.bytes_]


def digest_of(content: bytes | Pixels) -> bytes:
    """The digest of a file's bytes, or of pixels (H, W, C)."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()[:DIGEST_BYTES]
    text = repr(content.shape).encode() + content.tobytes()
    return hashlib.sha256(text).digest()[:DIGEST_BYTES]


def digests_of(source: Source) -> Digests:
    """(n, 16) uint8: what is known already, or all images read. Zeros for one that cannot be."""
    known = source.digests
    return known if known is not None else read_digests(source, np.arange(len(source)))


def read_digests(source: Source, places: Indices) -> Digests:
    """(m, 16) uint8 of the images at `places`, which are read."""

    def read(start: int) -> bytes:
        return b"".join(_digest(source, int(i)) for i in places[start : start + AT_ONCE])

    starts = range(0, len(places), AT_ONCE)
    if source.images is None and len(starts) > 1:
        with ThreadPoolExecutor(READERS) as pool:
            parts = list(pool.map(read, starts))
    else:
        parts = [read(start) for start in starts]
    return as_digests(b"".join(parts))


def _digest(source: Source, index: int) -> bytes:
    try:
        return digest_of(source.read(index)[0])
    except DecodeFault:
        return bytes(DIGEST_BYTES)


def as_digests(data: bytes) -> Digests:
    """(n, 16) uint8 of digests one after another."""
    return np.frombuffer(data, np.uint8).reshape(-1, DIGEST_BYTES)


def keys_of(digests: Digests) -> Keys:
    """(n,): a digest as one value that can be sorted, counted and looked up."""
    if not len(digests):
        return np.zeros(0, f"S{DIGEST_BYTES}")
    return np.ascontiguousarray(digests).view(f"S{DIGEST_BYTES}")[:, 0]


def equal_firsts(source: Source) -> Indices:
    """For each image the place of the first one with the same content, mostly its own. (n,)

    Files are read only where another has the same size.
    """
    indexed = source.indexed
    if indexed is not None and (known := indexed.equal_to()) is not None:
        return known
    places = np.arange(len(source), dtype=np.int64)
    if source.images is None and source.digests is None:
        asked = _of_shared_size(source)
        keys = keys_of(read_digests(source, asked))
    else:
        asked, keys = places, keys_of(digests_of(source))
    asked, keys = asked[keys != b""], keys[keys != b""]
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    places[asked] = asked[first][group]
    return places


def _of_shared_size(source: Source) -> Indices:
    """The files whose size in bytes another has too."""
    sizes = np.array([source.size_bytes(i) for i in range(len(source))], np.int64)
    _, group, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    return np.flatnonzero((counts[group] > 1) & (sizes > 0)).astype(np.int64)


def fingerprint(source: Source) -> str:
    """sha256 hex digits that change with any id, label, class name, and the content of any image.

    Every file is read: some seconds a gigabyte. Of very many images of an index it is the hash of
    the index and of what is taken of it.
    """
    indexed = source.indexed
    if indexed is not None and (known := indexed.identity()) is not None:
        return known
    digest = hashlib.sha256()
    for name in source.classes:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(_told(source.labels))
    for name in names_of(source):
        digest.update(b"\0" + os.fsencode(name))
    digest.update(np.ascontiguousarray(digests_of(source)).data)
    return digest.hexdigest()


def _told(labels: Labels) -> bytes:
    if isinstance(labels, ManyLabels):
        return f"many{labels.shape}".encode() + labels.ends.tobytes() + labels.ids.tobytes()
    whole = np.ascontiguousarray(labels)
    return f"{whole.dtype.str}{whole.shape}".encode() + whole.tobytes()


def names_of(source: Source) -> tuple[str, ...]:
    """What names each image within its dataset: the relative path, or "train-images:17"."""
    return tuple(source.raw_name(index) for index in range(len(source)))
