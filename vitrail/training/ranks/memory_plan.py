"""What training a model needs on each of N GPUs, found without a GPU, a network or its weights.

Tensors are fake: they have shapes and no values. One process is rank 0 of N in torch's fake process
group, whose collectives return at once; torch's memory tracker counts what is alive. So a step of
ViT-H/14 on 64 GPUs is followed on a laptop in a minute. Kernels are those of the CPU; what only a
GPU has (fragments of its allocator, buffers of NCCL, the CUDA context) is not in it: `fitting`
keeps a margin for that. The step is Vitrail's: autocast, one backward pass, clipping, fused AdamW.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitrail.models.create import build
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.training.optim.shares import mesh_of, shard

MARGIN, MARGIN_BYTES = 0.1, 2_000_000_000  # of a GPU's memory, until they are measured on one
BATCHES = (16, 32)  # images at which the peak is taken: it is linear in them
KINDS = {  # of torch's trackers: ours
    "Parameter": "weights",
    "Sharded Param": "weights",
    "Buffer": "weights",
    "Gradient": "gradients",
    "Sharded Grad": "gradients",
    "Unsharded Grad": "gradients",
    "Optstate": "optimizer",
    "OptState": "optimizer",
    "Activation": "activations",
    "Unsharded Param": "gathered",
    "All Gather": "gathered",
    "Reduce Scatter": "gathered",
}
NAMES = ("weights", "gradients", "optimizer", "activations", "gathered", "other")


@dataclass(frozen=True)
class Peak:
    """Bytes alive on one GPU when most are. gathered: of blocks in shards; other: inputs and what
    lives for one operation.
    """

    batch: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    gathered: int
    other: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in NAMES)


@dataclass(frozen=True)
class MemoryPlan:
    """Of a model on `gpus` GPUs. peaks: at two numbers of images a GPU. collectives: bytes that a
    GPU takes part in, by kind, in a step without accumulation.
    """

    gpus: int
    is_sharded: bool
    peaks: tuple[Peak, Peak]
    collectives: dict[str, int]

    @property
    def image_bytes(self) -> float:
        """What one more image costs."""
        low, high = self.peaks
        return (high.total - low.total) / (high.batch - low.batch)

    def peak_bytes(self, batch: int) -> float:
        """The peak with so many images a GPU."""
        low = self.peaks[0]
        return low.total + (batch - low.batch) * self.image_bytes

    def fitting(self, memory: float) -> int:
        """The most images a GPU of so many bytes trains with; 0 where none fits."""
        room = memory * (1 - MARGIN) - MARGIN_BYTES
        return max(0, int((room - self.peak_bytes(0)) / self.image_bytes))


def memory_plan(
    config: ModelConfig,
    gpus: int,
    *,
    is_sharded: bool = False,
    precision: str = "bfloat16",
    is_recomputed: bool = False,
    batches: tuple[int, int] = BATCHES,
) -> MemoryPlan:
    """Follow a few steps on fake tensors. is_recomputed: activations are computed again in the
    backward pass.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = build(config)
    model.checkpoint_activations = is_recomputed
    with _group(gpus) as mesh, FakeTensorMode(allow_non_fake_inputs=True):
        network = model.to_empty(device="cpu").train()
        if is_sharded:
            shard(network, mesh)
        step = _Step(network, is_sharded, precision)
        step.peak(config, batches[0])  # makes the optimiser's tensors
        low, high = (step.peak(config, batch) for batch in batches)
    collectives = dict(step.collectives)
    if not is_sharded and gpus > 1:  # DistributedDataParallel: each gradient once
        collectives = {"all-reduce": sum(value.nbytes for value in network.parameters())}
    return MemoryPlan(gpus, is_sharded, (low, high), collectives)


class _Step:
    """One training step on fake tensors, watched."""

    def __init__(self, network: nn.Module, is_sharded: bool, precision: str) -> None:
        from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
        from torch.distributed._tools.mem_tracker import MemTracker

        self._network, self._is_sharded, self._precision = network, is_sharded, precision
        self._optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        self._tracker: Any
        if is_sharded:
            self._tracker = FSDPMemTracker(network, self._optimizer)
        else:
            self._tracker = MemTracker()
            self._tracker.track_external(network, self._optimizer)
        self._is_begun = False
        self.collectives: Counter[str] = Counter()

    def peak(self, config: ModelConfig, batch: int) -> Peak:
        """The peak of a step with so many images."""
        images = torch.empty(batch, config.channels, *_largest(config))
        labels = torch.zeros(batch, dtype=torch.long)
        if self._is_sharded:
            self._tracker.track_inputs((images, labels))
        else:
            self._tracker.track_external(images, labels)
        if self._is_begun:
            self._tracker.reset_mod_stats()
        self._is_begun = True
        with self._tracker, _Collectives() as counted:
            self._train(images, labels)
        self.collectives = counted.bytes
        return _peak_of(batch, self._tracker.get_tracker_snapshot("peak"))

    def _train(self, images: Tensor, labels: Tensor) -> None:
        # The buckets of DistributedDataParallel hold the gradients from one step to the next.
        self._optimizer.zero_grad(set_to_none=self._is_sharded)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._precision == "bfloat16"):
            logits = self._network(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        found = [value.grad for value in self._network.parameters() if value.grad is not None]
        norm: Any = torch.nn.utils.get_total_norm(found)
        norm = norm.full_tensor() if self._is_sharded else norm
        torch._foreach_mul_(found, torch.clamp(1 / norm, max=1.0))
        self._optimizer.step()


def _largest(config: ModelConfig) -> tuple[int, int]:
    """(height, width) px of the image that costs most; of variable resolution all its patches."""
    if not isinstance(config, ViTConfig) or config.max_patches is None:
        return config.image_size
    height, width = config.patch_size
    return height, width * config.max_patches


def _peak_of(batch: int, snapshot: Any) -> Peak:
    sums = dict.fromkeys(NAMES, 0)
    (kinds,) = (one for device, one in snapshot.items() if device.type == "cpu")
    for kind, size in kinds.items():
        if kind != "Total":
            sums[KINDS.get(str(kind.value), "other")] += int(size)
    return Peak(batch, **sums)


class _Collectives(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that collectives carry: of a gathered tensor, or of one that is reduced."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            name = func._schema.name.partition("::")[2]
            tensors = [one for one in _flat(args) if isinstance(one, Tensor)]
            largest = max((one.nbytes for one in tensors), default=0)
            kind = "all-gather" if "gather" in name else "reduce-scatter"
            if "gather" in name or "scatter" in name:
                self.bytes[kind] += largest
        return func(*args, **(kwargs or {}))


def _flat(values: Any) -> Iterator[Any]:
    for value in values if isinstance(values, (list, tuple)) else ():
        yield from _flat(value) if isinstance(value, (list, tuple)) else (value,)


@contextmanager
def _group(gpus: int) -> Iterator[Any]:
    """This process as the first of `gpus`, the others of which do not exist."""
    import torch.distributed as dist
    import torch.testing._internal.distributed.fake_pg  # noqa: F401 - makes the backend known

    dist.init_process_group("fake", rank=0, world_size=gpus)
    try:
        yield mesh_of(gpus)
    finally:
        dist.destroy_process_group()
