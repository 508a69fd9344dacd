"""A held-out split shared out among processes: every image once, whole batches, added up in order.

Process r of R judges the batches r n / R to (r + 1) n / R of the n that one process would judge, so
each batch is the same one, and nothing is padded. What is put together on the first process is what
it would have found alone.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np

from vitrail.data.sources.open_data import Source
from vitrail.evaluation.record import Evaluation
from vitrail.training.ranks.ranks import Ranks

ARRAYS = ("probabilities", "labels", "losses", "ids", "seconds")


def batches_of(source: Source, batch_size: int, ranks: Ranks) -> range:
    """The numbers of the batches that this process judges."""
    count = -(-len(source) // batch_size)
    return range(count * ranks.rank // ranks.world, count * (ranks.rank + 1) // ranks.world)


def put_together(mine: Evaluation, ranks: Ranks) -> Evaluation | None:
    """What all processes found, on the first one; None on the others."""
    if ranks.is_alone:
        return mine
    found = [unpacked(content) for content in ranks.collect(packed(mine))]
    if not found:
        return None
    judged = [one for one in found if len(one["losses"])] or found[:1]
    seconds = max(float(one["seconds"]) for one in found)
    ids = tuple(str(name) for one in judged for name in one["ids"])
    return replace(
        mine,
        probabilities=np.concatenate([one["probabilities"] for one in judged]),
        labels=np.concatenate([one["labels"] for one in judged]),
        losses=np.concatenate([one["losses"] for one in judged]),
        ids=ids,
        images_per_s=len(ids) / max(seconds, 1e-9),
    )


def packed(found: Evaluation) -> bytes:
    """Arrays of one process's part, in numpy's own format."""
    stream = io.BytesIO()
    seconds = found.n / found.images_per_s if found.images_per_s else 0.0
    ids = np.array(found.ids, dtype=np.str_)
    for array in (found.probabilities, found.labels, found.losses, ids, np.array(seconds)):
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """What `packed` made."""
    stream = io.BytesIO(content)
    return {name: np.lib.format.read_array(stream, allow_pickle=False) for name in ARRAYS}
