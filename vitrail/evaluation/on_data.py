"""Images labelled in the order of a model's classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
