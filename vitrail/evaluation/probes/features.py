"""Features of a frozen model: computed once, kept on disk, read back when the same are asked for.

A row is what enters the model's head (`model.features`) for one image under the model's own
evaluation preprocessing. An entry of the cache is a safetensors file whose name is the sha256 of
everything that its numbers depend on: weights and architecture, preprocessing, images, the kind
of device, precision and the version of vitrail. Files count by name and content: reading them is
cheap beside computing, and size and time of change stay where two files are exchanged. The numbers
carry a sha256 of their own; an entry that is damaged is computed again, and said to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import vitrail
from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import normalise
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.open_data import Source, fingerprint, subset
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.files import cache_root, utf8_name, whole_file
from vitrail.runtime.runtime import FeatureRuntime, as_numpy
from vitrail.spelling import count

Features = NDArray[np.float32]
SCHEMA = 2  # of an entry


@dataclass(frozen=True)
class FeatureOptions:
    """How images are read; on_bad_file: "stop" or "skip"."""

    batch_size: int = 64
    workers: int = 0
    max_pixels: int = MAX_PIXELS
    on_bad_file: str = "stop"


def silent(*_: object) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Frozen:
    """A model whose features are wanted. cache: the folder of entries, None to keep nothing; say:
    gets sentences for people; progress: gets (what is done, how far, of how much).
    """

    runtime: FeatureRuntime
    preprocess: Preprocess
    reading: FeatureOptions = FeatureOptions()
    cache: Path | None = None
    say: Callable[[str], None] = silent
    progress: Callable[[str, int, int], None] = silent

    def entry(self, source: Source) -> Path | None:
        """Where the features of `source` are kept, whether or not they are there yet."""
        if self.cache is None:
            return None
        info = self.runtime.info
        facts = {
            "schema": SCHEMA,
            "vitrail": vitrail.__version__,
            "model": self.runtime.identity,
            "preprocess": self.preprocess.to_json(),
            "pictures": fingerprint(source),
            "computed": [info.device.partition(":")[0], info.precision],
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.cache / f"{key}.safetensors"

    def features(self, source: Source) -> Features:
        """Features (n, R) of every image of `source`, in order.

        Raises DataError VIT-301 for an image that cannot be decoded, ModelError VIT-442 where a
        feature is not finite.
        """
        path = self.entry(source)
        found = self._kept(path, len(source))
        if found is None:
            found = self.compute(source)
            self._keep(path, found)
        return found

    def rows(self, source: Source, indices: NDArray[np.int64]) -> Features:
        """Features (m, R) of the images at `indices`. Only theirs are computed, unless those of
        the whole `source` are kept or the others are few.
        """
        if 2 * len(indices) >= len(source):
            return self.features(source)[indices]
        found = self._kept(self.entry(source), len(source))
        return self.features(subset(source, indices)) if found is None else found[indices]

    def _kept(self, path: Path | None, num_pictures: int) -> Features | None:
        """The features of an entry that is there and intact."""
        if path is None or not path.is_file():
            return None
        try:
            return _read(path, num_pictures)
        except (SafetensorError, OSError, ValueError) as error:
            self.say(f"kept features are damaged ({error}) and are computed again: {path}")
            return None

    def compute(self, source: Source) -> Features:
        """As `features`, without a look into the cache."""
        reading = self.reading
        loader = make_loader(
            source,
            self.preprocess,
            None,
            Batching(
                batch_size=reading.batch_size,
                workers=reading.workers,
                max_pixels=reading.max_pixels,
                device=self.runtime.info.device,
            ),
        )
        rows: list[NDArray[np.float32]] = []
        done = 0
        for batch in loader.eval_batches(reading.batch_size):
            images = normalise(batch.images, self.preprocess)
            rows.append(as_numpy(self.runtime.features(images)))  # (B, R)
            done += len(images)
            self.progress(f"features of {source.name}", done, len(source))
        found = np.concatenate(rows)
        _check_finite(found, source)
        return found

    def _keep(self, path: Path | None, found: Features) -> None:
        """Write an entry: it is there whole or not at all. Where it cannot be written, say so."""
        if path is None:
            return
        metadata = {"sha256": _digest(found), "schema": str(SCHEMA)}
        try:
            with whole_file(path, replace=True) as temporary:
                save_file({"features": found}, temporary, metadata)
        except EnvironmentFault as fault:
            self.say(f"features are not kept: {fault.message}")


def cache_folder(say: Callable[[str], None] = silent) -> Path | None:
    """The usual place: $XDG_CACHE_HOME/vitrail/features, or ~/.cache/vitrail/features; None, which
    is said, where there is neither.
    """
    try:
        return cache_root() / "features"
    except EnvironmentFault as fault:
        say(f"features are not kept: {fault.message}")
        return None


def _read(path: Path, num_pictures: int) -> Features:
    """The features of an entry. Raises ValueError, OSError or SafetensorError for a damaged one."""
    with utf8_name(path) as readable, safe_open(readable, framework="np") as file:
        metadata = file.metadata() or {}
        found: Features = file.get_tensor("features")
    if found.dtype != np.float32 or found.ndim != 2 or len(found) != num_pictures:
        raise ValueError(f"{found.dtype} of shape {found.shape} for {count(num_pictures, 'image')}")
    if metadata.get("sha256") != _digest(found):
        raise ValueError("another sha256 than was written")
    return found


def _digest(found: Features) -> str:
    shape = repr(found.shape).encode()
    return hashlib.sha256(shape + found.tobytes()).hexdigest()


def _check_finite(found: Features, source: Source) -> None:
    finite = np.isfinite(found).all(axis=1)  # (n,)
    if not finite.all():
        raise ModelError(
            "VIT-442",
            f"the model gives features that are not finite for {int((~finite).sum())} of "
            f"{count(len(found), 'image')}, the first being "
            f"{source.source_id(int(np.argmin(finite)))}.",
            hint="Its weights are damaged or training diverged: load an earlier checkpoint, "
            "or use --precision float32.",
        )
