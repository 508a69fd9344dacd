"""How the gradients of a step's parts meet, in one process or in many.

- `Alone`: parts one after the other, added as they come.
- `Replicated`: each process has the whole network; DistributedDataParallel averages the gradients
  during the last backward pass, the only one that reduces. Sums are rounded in another order than
  alone.
- `Sharded`: each process keeps a share of every parameter, of its gradient and of what the
  optimiser knows of it; a block is gathered when it is computed, and its gradients are averaged
  into the shares (torch's fully_shard). Sums as in `Replicated`, to rounding.
- `Exact`: gradients of the parts are added in a binary tree over their numbers. A process adds up
  a whole subtree, gets the roots of the others and goes on in their order, so that the sums, and
  all that follows, have the same bits for any number of processes.

Running values of BatchNorm: a part moves them by its own mean and variance. With many processes
each part (or each process's run of parts) starts from those before the step, and the moves are put
together in the order of the parts, which gives what one process computes, to rounding, or to the
bit in `Exact`.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from vitrail.models.resnet.conv_norm import BatchNorm
from vitrail.training.ranks.ranks import Ranks

Forward = Callable[..., Tensor]
Loss = Callable[[], Tensor]  # computes the mean loss of a part
Within = Callable[[bool], AbstractContextManager[None]]


class Spread(Protocol):
    """How gradients meet."""

    @property
    def forward(self) -> Forward:
        """The network as it is called in a step."""

    def gradients(self, losses: Sequence[Loss]) -> Tensor:
        """Leave the gradient of the whole step in the parameters; the mean loss of the parts of
        this process (of all parts in `Exact`), a scalar on the device.
        """

    def mean_loss(self, loss: float) -> float:
        """This process's share in the sum of the loss over all of them."""


@dataclass
class Alone:
    """One process, parts one after the other."""

    forward: Forward

    def gradients(self, losses: Sequence[Loss]) -> Tensor:
        """The mean gradient and the mean loss of the parts."""
        return sum_means(losses)

    def mean_loss(self, loss: float) -> float:
        """All of it."""
        return loss


def at_once(is_last: bool) -> AbstractContextManager[None]:
    """Nothing is done around a part."""
    return nullcontext()


def sum_means(losses: Sequence[Loss], within: Within = at_once) -> Tensor:
    """Backward through each part's share of the mean, `within` what is told whether it is the last
    one; the mean.
    """
    total: Tensor | None = None
    for place, loss in enumerate(losses):
        with within(place == len(losses) - 1):
            mean = loss() / len(losses)
            mean.backward()  # type: ignore[no-untyped-call]
        total = mean.detach() + (torch.zeros_like(mean) if total is None else total)
    assert total is not None
    return total


class Averaged(ABC):
    """Parts one after the other; torch averages the gradients of processes with the last one."""

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        self._running = RunningValues(network)

    @abstractmethod
    def _within(self, is_last: bool) -> AbstractContextManager[None]:
        """Around a part: only the last one reduces."""

    def gradients(self, losses: Sequence[Loss]) -> Tensor:
        """The mean gradient of all processes; the mean loss of this one's parts."""
        start = self._running.flat()
        with self.ranks.contact():
            total = sum_means(losses, self._within)
        if start.numel():
            rows = self.ranks.whole(self._running.flat())
            self._running.put(start, rows, len(losses))
        return total

    def mean_loss(self, loss: float) -> float:
        """One share of the mean over processes."""
        return loss / self.ranks.world


class Replicated(Averaged):
    """The whole network on each process, gradients averaged by DistributedDataParallel."""

    def __init__(self, network: nn.Module, forward: Forward, ranks: Ranks) -> None:
        from torch.nn.parallel import DistributedDataParallel

        assert isinstance(forward, nn.Module)
        super().__init__(network, ranks)
        with ranks.contact():
            self._ddp = DistributedDataParallel(
                forward, forward_sync_buffers=False, gradient_as_bucket_view=True
            )
        self.forward: Forward = self._ddp

    def _within(self, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext() if is_last else self._ddp.no_sync()


class Sharded(Averaged):
    """A share of the network on each process (`sharding.shard`), gathered block by block."""

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        from torch.distributed.fsdp import FSDPModule

        assert isinstance(network, FSDPModule)
        super().__init__(network, ranks)
        self._network = network
        self.forward: Forward = network

    @contextmanager
    def _within(self, is_last: bool) -> Iterator[None]:
        self._network.set_requires_gradient_sync(is_last)
        with warnings.catch_warnings():
            # Masked patches answer with a view, which no loss of ours changes in place.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            yield


class Exact:
    """Gradients added in a tree over the parts: the same bits for any number of processes."""

    def __init__(self, network: nn.Module, forward: Forward, ranks: Ranks, count: int) -> None:
        self.forward, self.ranks, self._count = forward, ranks, count
        self._running = RunningValues(network)
        self._trained = [value for value in network.parameters() if value.requires_grad]
        self._reached: list[nn.Parameter] = []  # of them, those that have a gradient

    def gradients(self, losses: Sequence[Loss]) -> Tensor:
        """The mean gradient and the mean loss of all parts of the step."""
        tree, start, moved = Tree(), self._running.flat(), []
        for loss in losses:
            self._running.set(start)
            mean = loss() / self._count
            mean.backward()  # type: ignore[no-untyped-call]
            tree.push(self._flat(mean))
            moved.append(self._running.flat())
        whole = Tree()
        for root in self.ranks.whole(tree.root()):
            whole.push(root)
        if start.numel():
            rows = self.ranks.whole(torch.cat(moved)).view(self._count, -1)
            self._running.put(start, rows, 1)
        return self._put(whole.root())

    def mean_loss(self, loss: float) -> float:
        """All of it on the first process, which the tree has given it to."""
        return loss if self.ranks.is_first else 0.0

    def _flat(self, mean: Tensor) -> Tensor:
        """The gradients of a part, and its share of the loss behind them, one vector; taken from
        the parameters, so that the next part's do not begin with zeros.
        """
        reached = [value for value in self._trained if value.grad is not None]
        found = [value.grad.flatten() for value in reached if value.grad is not None]
        for value in reached:
            value.grad = None
        self._reached = reached
        return torch.cat([*found, mean.detach().view(1)])

    def _put(self, flat: Tensor) -> Tensor:
        """Give `flat` to the parameters; the loss behind it."""
        place = 0
        for value in self._reached:
            value.grad = flat[place : place + value.numel()].view_as(value)
            place += value.numel()
        return flat[place]


@dataclass
class Tree:
    """A sum in a binary tree: terms of the same height are added, the older one first."""

    _stack: list[tuple[int, Tensor]] = field(default_factory=list)

    def push(self, term: Tensor) -> None:
        """The next term."""
        height = 0
        while self._stack and self._stack[-1][0] == height:
            _, older = self._stack.pop()
            term, height = older + term, height + 1
        self._stack.append((height, term))

    def root(self) -> Tensor:
        """The sum of 1, 2, 4, ... terms."""
        ((_, total),) = self._stack
        return total


class RunningValues:
    """The running means and variances of a network's BatchNorm layers."""

    def __init__(self, network: nn.Module) -> None:
        norms = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
        self._buffers = [
            (buffer, norm.momentum)
            for norm in norms
            for buffer in (norm.running_mean, norm.running_var)
        ]

    def flat(self) -> Tensor:
        """All of them, a vector (n,); empty without BatchNorm."""
        values = [buffer.flatten() for buffer, _ in self._buffers]
        return torch.cat(values) if values else torch.zeros(0)

    def set(self, flat: Tensor) -> None:
        """Take the values of `flat`."""
        place = 0
        for buffer, _ in self._buffers:
            buffer.copy_(flat[place : place + buffer.numel()].view_as(buffer))
            place += buffer.numel()

    def put(self, start: Tensor, moved: Tensor, times: int) -> None:
        """Moves from `start` (n,) to each row of `moved` (m, n), `times` parts each, one after the
        other: a part moves x to (1 - momentum) x + c.
        """
        rest = torch.cat(
            [
                torch.full_like(buffer.flatten(), (1 - momentum) ** times)
                for buffer, momentum in self._buffers
            ]
        )
        values = start
        for row in moved:
            values = rest * (values - start) + row
        self.set(values)


def spread_of(
    network: nn.Module, forward: Forward, ranks: Ranks, count: int, *, is_exact: bool
) -> Spread:
    """How the gradients of a run's parts meet. forward: `network`, compiled or not; count: parts of
    a step.
    """
    if is_exact:
        return Exact(network, forward, ranks, count)
    if ranks.is_sharded:
        return Sharded(network, ranks)
    return Alone(forward) if ranks.is_alone else Replicated(network, forward, ranks)
