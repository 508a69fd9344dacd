"""A network in shards: each process keeps a part of every parameter, and gathers a block when it is
computed (torch's `fully_shard`).

Only where several processes train with --shard, or are planned, is torch.distributed imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = re.compile(r"(\w+\.)?(stages\.\d+\.)?blocks\.\d+")  # of a model, or of one in a wrapper


def mesh_of(world: int, device: str = "cpu") -> Any:
    """The processes that share a network, in a row."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (world,))


def shard(network: nn.Module, mesh: Any) -> nn.Module:
    """`network` in place, its blocks and then the rest in shards over the processes of `mesh`."""
    from torch.distributed.fsdp import fully_shard

    for name, layer in network.named_modules():
        if BLOCK.fullmatch(name):
            fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def whole(value: Tensor) -> Tensor:
    """All of a tensor that is in shards, which every process asks for at the same time; another one
    itself.
    """
    if type(value) in (Tensor, nn.Parameter):
        return value
    from torch.distributed.tensor import DTensor

    if not isinstance(value, DTensor):
        return value
    return value.full_tensor()


def whole_files(
    files: Mapping[str, Mapping[str, Tensor]], is_kept: Callable[[str, str], bool]
) -> dict[str, dict[str, Tensor]]:
    """Copies of the tensors of a checkpoint, complete and on the host, made one after the other;
    is_kept: whether this process keeps the tensor of a file and name, and does not only help.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for file, tensors in files.items():
        found[file] = {}
        for name, value in tensors.items():
            one = whole(value.detach())
            if is_kept(file, name):
                found[file][name] = one.to("cpu", copy=True)
    return found


def like(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, the same on every process, in the shards of `model`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(model, DTensor) or value.shape != model.shape:
        return value
    placed: Any = value.to(model.device)
    return distribute_tensor(placed, model.device_mesh, model.placements, src_data_rank=None)


def own_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of what this process keeps of tensors that may be in shards."""
    from torch.distributed.tensor import DTensor

    return sum(
        one.nbytes
        for value in tensors.values()
        for one in [value.to_local() if isinstance(value, DTensor) else torch.as_tensor(value)]
    )
