"""Who computes the cells of a study, as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Who computes the cells."""

    processes: int | None = None
    """Runs in parallel on this machine. Default: its cores, or 1 with a GPU and for speed."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or a Ray cluster (extra "ray")."""
    ray_address: str = "auto"
    """The cluster: HOST:PORT, or auto for the one this machine belongs to."""
    device: str = "auto"
    """auto, cpu, cuda."""
    threads: int = 1
    """Threads of each cell; a row can depend on it in the last bits."""
    accumulate: int = 1
    """Gradient accumulation: parts of a batch, computed in turn for less memory; as --threads."""


class MachineOptions(TypedDict, total=False):
    """The same as keyword arguments."""

    processes: int | None
    engine: Literal["local", "ray"]
    ray_address: str
    device: str
    threads: int
    accumulate: int
