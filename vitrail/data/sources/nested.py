"""Fewer training images, for curves of accuracy over their number: fewer are always among more.

The order is a function of the labels and the seed. By class it is a quota method, which adds one
image at a time and never strays a whole image from any class's share (Balinski and Young, "The
quota method of apportionment", 1975; M. Still, 1979): the k-th of a class may come once its share
is above k - 1 and must by the time that it is k, and of those that may the most urgent comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vitrail.data.sources.many_labels import ManyLabels
from vitrail.data.sources.source import Indices, Labels, Splits, subset
from vitrail.data.sources.split import drawn, groups_of
from vitrail.errors import UsageError
from vitrail.spelling import count


def take(splits: Splits, num: int, seed: int) -> Splits:
    """The splits with `num` training images, in the order of the data; val and test stay whole.

    Raises UsageError VIT-219 for less than one of each class, or more than there are.
    """
    train, least = splits.train, len(splits.classes)
    total = len(train)
    if not least <= num <= total:
        few = f"one for each of {count(least, 'class')} is the least"
        many = f"{splits.name} has {total} to train on"
        raise UsageError(
            "VIT-219",
            f"{count(num, 'training image')} (data.train_pictures): "
            f"{few if num < least else many}.",
            hint=f"Use a number from {least} to {total}, or leave --data.train-pictures out.",
        )
    kept = np.sort(nested_order(train.labels, seed)[:num])
    how = f"{splits.how}; trained on {num} of {count(total, 'image')} by class with seed {seed}"
    left = subset(train, np.setdiff1d(np.arange(total), kept))
    unused = (*splits.unused, left) if len(left) else splits.unused
    return replace(splits, train=subset(train, kept), how=how, unused=unused)


def nested_order(labels: Labels, seed: int) -> Indices:
    """All indices of `labels` int (n,) or 0/1 (n, C): the first k, for any k, are a fair choice.

    The first images of all classes come first of all. From where each class's share is an image,
    every class has its share, rounded up or down. An image with several labels counts for the
    rarest of them.
    """
    _, groups, counts = np.unique(groups_of(labels), return_inverse=True, return_counts=True)
    within = np.lexsort((drawn(len(labels), seed, "train"), groups))  # by group, then by the draw
    taken = np.cumsum(counts) - counts  # where the next of each group stands
    order = np.empty(len(labels), np.int64)
    for place, group in enumerate(_turns(counts.tolist())):
        order[place] = within[taken[group]]
        taken[group] += 1
    leads = np.zeros(len(labels), bool)
    leads[_first_of_each(labels[order])] = True
    return np.concatenate([order[leads], order[~leads]])


def _first_of_each(labels: Labels) -> Indices:
    """Where each class occurs for the first time."""
    if labels.ndim == 1:
        return np.unique(labels, return_index=True)[1].astype(np.int64)
    if isinstance(labels, ManyLabels):
        return labels.firsts()
    firsts: Indices = (labels > 0).argmax(axis=0)[labels.any(axis=0)]
    return firsts


def _turns(counts: list[int]) -> Iterator[int]:
    """Which group is next, `counts[g]` times each: the earliest deadline of those that may."""
    total = sum(counts)
    waiting = [(0, group, 1) for group in range(len(counts))]  # the share before, in whole places
    ready: list[tuple[int, int, int]] = []
    for place in range(1, total + 1):
        while waiting and waiting[0][0] < place:
            _, group, number = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-number * total // counts[group]), group, number))
        _, group, number = heapq.heappop(ready)
        yield group
        if number < counts[group]:
            heapq.heappush(waiting, (number * total // counts[group], group, number + 1))
