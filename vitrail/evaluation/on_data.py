"""Images labelled in the order of a model's classes, and held against the labels of its run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.digest import digests_of
from vitrail.data.sources.examples import Examples, codes_of
from vitrail.data.sources.many_labels import ManyLabels, as_labels
from vitrail.data.sources.open_data import Source
from vitrail.errors import ModelError


def relabelled(source: Source, classes: Sequence[str], model: str) -> Source:
    """`source` with its labels as indices into `classes`, by name; the same where `classes` is
    empty.

    A split may lack classes of the model. Raises ModelError VIT-403 where it has others.
    """
    known = tuple(classes) or source.classes
    unknown = sorted(set(source.classes) - set(known))
    if unknown:
        raise ModelError(
            "VIT-403",
            f"{model} knows the classes {_listed(known)}; "
            f"{source.name} also has {_listed(unknown)}.",
            hint="Measure on images of classes that the model knows, or train on the new ones.",
        )
    if source.classes == known:
        return source
    place_of = {name: place for place, name in reversed([*enumerate(known)])}
    places = np.array([place_of[name] for name in source.classes], dtype=np.int64)
    if isinstance(source.labels, ManyLabels):
        labels = as_labels(source.labels.renumbered(places, len(known)))
    elif source.labels.ndim == 1:
        labels = places[source.labels]
    else:
        labels = np.zeros((len(source), len(known)), source.labels.dtype)  # (n, K)
        labels[:, places] = source.labels
    return source.relabelled(labels, known)


def labels_differ(source: Source, known: Examples | None) -> NDArray[np.bool_] | None:
    """Whether each image, told by its content, had other labels when the run recorded it; an image
    that it did not record has not. (n,); None where no labels are recorded.
    """
    if known is None or known.label_codes is None or known.index or not known.classes:
        return None
    added = sorted(set(source.classes) - set(known.classes))
    codes = codes_of(relabelled(source, (*known.classes, *added), source.name).labels)
    digests = digests_of(source)
    there = known.holds(digests, "train", "val", "test", "unused")
    if codes.shape[1] != known.label_codes.shape[1]:
        return there
    recorded = _joined(known.digests, known.label_codes)
    return np.asarray(there & ~np.isin(_joined(digests, codes), recorded), np.bool_)


def _joined(digests: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """An image and its labels as one value. (n,)"""
    rows = np.ascontiguousarray(np.concatenate([digests, codes, np.ones_like(codes[:, :1])], 1))
    return rows.view(f"S{rows.shape[1]}")[:, 0] if len(rows) else np.zeros(0, "S1")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
