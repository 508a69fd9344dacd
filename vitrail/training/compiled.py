"""The network through torch.compile (`--compile`): the same function, in kernels built on the spot.

Fused kernels round in another order, so losses agree with those of a plain run to rounding, and
dropout draws other masks. Compiling takes tens of seconds and needs a C++ compiler on a CPU; the
first step does it, so that is where its absence shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vitrail.errors import EnvironmentFault
from vitrail.training.tasks.task import Forward


def compiled(network: nn.Module) -> Forward:
    """`network`, compiled when it is first called; the parameters stay those of `network`."""
    found: Forward = torch.compile(network)
    return found


@contextmanager
def compile_faults() -> Iterator[None]:
    """Raises EnvironmentFault VIT-523 where the network cannot be compiled on this machine."""
    try:
        yield
    except Exception as error:
        if not _is_of_compiler(error):
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise EnvironmentFault(
            "VIT-523",
            f"--compile: torch cannot compile the network on this machine ({reason[:200]}).",
            hint="It needs a C++ compiler: install g++ (or name one: CXX=clang++), or train "
            "without --compile, which gives the same results, slower.",
        ) from error


def _is_of_compiler(error: Exception) -> bool:
    """Whether torch's compiler raised it; its classes are not loaded unless it was used."""
    return any(
        kind.__module__.startswith(("torch._dynamo", "torch._inductor"))
        for kind in type(error).__mro__
    )
