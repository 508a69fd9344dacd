"""How much attention is alive at a time, counted tensor by tensor, whatever the depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from tests.explain.small_models import picture, vit
from vitrail.explain.inspect.distance import reach
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import explain
from vitrail.models.layers.tap import TapDict
from vitrail.models.vit.model import ViT


def is_gone(reference: StorageWeakRef) -> bool:
    """Whether nobody holds the storage any more."""
    return bool(reference.expired())  # type: ignore[no-untyped-call]


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes alive at once in storages of at least `least` bytes."""

    def __init__(self, least: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.least, self.most = least, 0
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage.nbytes() >= self.least:
                    reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                    self.alive[storage.data_ptr()] = (reference, storage.nbytes())
        self.alive = {key: one for key, one in self.alive.items() if not is_gone(one[0])}
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return result


def many_tokens(depth: int) -> ViT:
    """97 tokens, width 6: a layer's attention (heads x N x N) is larger than all else."""
    return vit(
        "cls",
        torch.float32,
        image_size=(16, 24),
        patch_size=(2, 2),
        width=6,
        mlp_dim=6,
        num_heads=6,
        depth=depth,
    )


def most_alive(model: ViT, run: Any) -> float:
    """In layers' worth of attention, heads x N x N x 4 bytes."""
    config = model.config
    size = config.num_heads * config.num_tokens**2 * 4
    # What counts: anything as large as the attention of one head and more.
    with Counter(least=config.num_tokens**2 * 4) as counter:
        run()
    return float(counter.most / size)


@pytest.mark.parametrize("method", ["attention", "rollout", "relevance", "gradcam"])
def test_at_most_two_layers_whatever_the_depth(method: str) -> None:
    """Beside them matrices (N, N) without heads: a rollout has three, each a head's worth."""
    worth = [
        most_alive(model, lambda m=model: explain(m, picture(m), Request(method)))
        for model in (many_tokens(2), many_tokens(5))
    ]
    small = 4 / 6  # (N, N) matrices, in layers' worth at 6 heads
    assert worth[1] <= 2 + small
    assert abs(worth[1] - worth[0]) <= 1e-9
    assert worth[1] >= (1 if method != "gradcam" else 0)


def test_distance_and_entropy_too() -> None:
    model = many_tokens(5)
    assert most_alive(model, lambda: reach(model, [picture(model)])) <= 2 + 8 / 6


def test_the_counter_sees_what_an_ordinary_tap_keeps() -> None:
    """Negative control: all layers at once."""
    model = many_tokens(5)

    def run() -> None:
        store: TapDict = {}
        with torch.no_grad():
            model(picture(model), tap=store)

    assert most_alive(model, run) >= 5
