"""How parts are shared, and how their gradients and running values meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitrail.errors import UsageError
from vitrail.keyed_random import mix
from vitrail.models.resnet.conv_norm import BatchNorm
from vitrail.settings.layers import build
from vitrail.training.ranks.ranks import ALONE, Ranks, ranks_of_environment
from vitrail.training.ranks.share import Share, check_parts, share_of
from vitrail.training.ranks.spread import RunningValues, Tree


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_the_tree_of_roots_is_the_tree_of_parts(count: int) -> None:
    terms = torch.randn(count, 7, generator=torch.Generator().manual_seed(1))
    whole = summed(list(terms))
    for world in (number for number in (1, 2, 4, 8, 16) if number <= count):
        mine = count // world
        roots = [summed(list(terms[r * mine : (r + 1) * mine])) for r in range(world)]
        assert torch.equal(summed(roots), whole), world
    if count >= 4:  # and another order has other bits, so that this test can fail
        other = terms[0].clone()
        for term in terms[1:]:
            other += term
        assert not torch.equal(other, whole)


def summed(terms: list[torch.Tensor]) -> torch.Tensor:
    tree = Tree()
    for term in terms:
        tree.push(term)
    return tree.root()


def test_running_values_are_those_of_one_process() -> None:
    """Four parts one after the other, against two processes of two parts."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 5, 3, 4, 4, generator=generator, dtype=torch.float64) + 2

    def layer() -> nn.Module:
        return BatchNorm(3, 1e-5, 0.1).double().train()

    alone = layer()
    for part in images:
        alone(part)
    moved = []
    for rank in range(2):
        one = layer()
        for part in images[2 * rank : 2 * rank + 2]:
            one(part)
        moved.append(RunningValues(one).flat())
    values = RunningValues(together := layer())
    values.put(values.flat(), torch.stack(moved), 2)
    for name, value in alone.state_dict().items():
        assert (together.state_dict()[name] - value).abs().max() <= 1e-14, name


def config(**changes: Any) -> Any:
    flat = {"batch_size": 24, "optim.accumulate": 4}
    return build(flat | {key.replace("__", "."): value for key, value in changes.items()}, {})


def test_processes_share_the_rows_of_a_step() -> None:
    assert share_of(config()).slots is None
    shares = [share_of(config(), Ranks(rank, 2, rank, 2)) for rank in range(2)]
    assert [(one.slots.first, one.slots.stop, one.slots.pieces) for one in shares if one.slots] == [
        (0, 12, 1),
        (12, 24, 1),
    ]
    exact = [share_of(config(exact=True, augment__mixup=0.2), ranks) for ranks in (ALONE,)]
    assert exact[0].slots is not None
    assert (exact[0].slots.pieces, exact[0].slots.made) == (4, 7)


def test_parts_are_keyed_by_their_number() -> None:
    class Rows:
        def parts(self, batch: Any, step: int) -> tuple[torch.Tensor, ...]:
            return (batch,)

    batch: Any = torch.arange(8)
    parts = list(Share(8, 4, 0, 4).parts(Rows(), batch, 3, seed=5))
    assert [part.inputs[0].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [part.key for part in parts] == [mix(5, 3), *(mix(5, 3, number) for number in (1, 2, 3))]


@pytest.mark.parametrize(
    ("count", "world", "is_exact", "text"),
    [
        (4, 3, False, "Use --nproc 2 or 4, or in a new run --optim.accumulate 6"),
        (4, 8, False, "Use --nproc 4, or in a new run --optim.accumulate 8"),
        (6, 2, True, "Use --optim.accumulate 4 or 8, and --nproc"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    count: int, world: int, is_exact: bool, text: str
) -> None:
    with pytest.raises(UsageError, match="VIT-256") as error:
        check_parts(count, world, is_exact=is_exact)
    assert text in error.value.hint


def test_the_environment_says_which_process_this_is() -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    found = dict(zip(names, ("5", "8", "1", "4", "29500"), strict=True)) | {"MASTER_ADDR": "a"}
    assert ranks_of_environment(found) == Ranks(5, 8, 1, 4)
    assert ranks_of_environment({"RANK": "5"}) == ALONE
    with pytest.raises(UsageError, match="VIT-257"):
        ranks_of_environment(found | {"WORLD_SIZE": "4"})
