"""Filling ahead: the order of the tasks, memory that is used again and never shared."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.formats.tensor_writing import write_npz
from vitrail.checkpoints.mapping.fill_ahead import LARGE, READERS, fill_ahead, is_finite
from vitrail.checkpoints.mapping.rules import (
    DENSE,
    Header,
    Rule,
    joined,
    read_state,
    renamed,
    stacked,
)
from vitrail.checkpoints.mapping.scratch import KEPT, Memory, Scratch, fresh_bytes
from vitrail.errors import ModelError

NAMES = [f"t{number:02}" for number in range(23)]


class Slow:
    """Tensors that take different times to read, and what was in the air at once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.header = Header("slow", {name: tuple(value.shape) for name, value in tensors.items()})
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.003 if name[-1] in "02468" else 0.0)
        value = self.tensors[name]
        room = (
            memory.room(value.numel() * 4).view(torch.float32)
            if memory
            else torch.empty(value.numel())
        )
        found = room.view(value.shape).copy_(value)
        with self.lock:
            self.now -= 1
        return found


def test_tasks_come_in_their_order() -> None:
    """Two are filled at a time, none twice, each with scratch memory that no other has."""
    source = Slow({name: torch.full((3, 5), float(i)) for i, name in enumerate(NAMES)})

    def fill(name: str, scratch: Scratch) -> tuple[Tensor, Tensor]:
        value = source.read(name, scratch)
        before = value.clone()
        time.sleep(0.002)
        return before, value.clone()

    seen = []
    for name, (before, after) in fill_ahead(NAMES, fill, lambda _: 60):
        assert torch.equal(before, source.tensors[name])
        assert torch.equal(after, before)
        seen.append(name)
    assert seen == NAMES
    assert source.most == READERS


def test_nothing_that_is_kept_lies_in_memory_that_is_used_again() -> None:
    """Views, slices and whole tensors of scratch memory are copied out."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(7, 11, generator=generator) for name in NAMES}
    views: list[Rule] = [
        Rule((name,), (name,), lambda t: [t[0][2:5]], lambda t: t) for name in NAMES[:8]
    ]
    whole = [Rule((name,), (name,), lambda t: list(t), lambda t: t) for name in NAMES[8:15]]
    plain = [renamed(name, name) for name in NAMES[15:]]
    shapes: dict[str, Any] = {name: (7, 11) for name in NAMES} | {
        name: (3, 11) for name in NAMES[:8]
    }
    state, _ = read_state(Slow(tensors), [*views, *whole, *plain], shapes)
    for name in NAMES:
        assert torch.equal(state[name], tensors[name][2:5] if name in NAMES[:8] else tensors[name])
    places = [value.untyped_storage().data_ptr() for value in state.values()]
    assert len(set(places)) == len(places)


def test_one_large_task_at_a_time() -> None:
    """So that two stacks of blocks are never in memory at once; small ones go on beside it."""
    source = Slow({name: torch.zeros(3, 5) for name in NAMES})

    def fill(name: str, scratch: Scratch) -> None:
        source.read(name, scratch)

    assert len(list(fill_ahead(NAMES[::2], fill, lambda _: LARGE + 1))) == 12
    assert source.most == 1
    scratch = Scratch()
    scratch.room(KEPT + 1)
    scratch.start()
    assert scratch.memory.numel() == 0


def test_what_fails_ends_the_reading(tmp_path: Path) -> None:
    """The error of the reader reaches the caller, and no thread is left behind."""
    write_npz(tmp_path / "a.npz", {name: torch.randn(64, 64) for name in NAMES})
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    before = threading.active_count()
    file = open_tensors(tmp_path / "a.npz")
    shapes: dict[str, Any] = dict.fromkeys(NAMES, (64, 64))
    with pytest.raises(ModelError, match="checksum"):
        read_state(file, [renamed(name, name, DENSE) for name in NAMES], shapes)
    file.close()
    assert threading.active_count() == before


def test_scratch_gives_aligned_room_of_its_own() -> None:
    scratch = Scratch()
    first, second = scratch.room(10).fill_(1), scratch.room(70).fill_(2)
    assert (first.data_ptr() - second.data_ptr()) % 64 == 0
    third = scratch.room(10_000).fill_(3)  # more than there is: new memory, the old stays
    assert [int(part.sum()) for part in (first, second, third)] == [10, 140, 30_000]
    scratch.start()
    assert scratch.room(10).data_ptr() == scratch.memory.data_ptr()
    for size in (0, 1, 5_000_000):
        fresh = fresh_bytes(size)
        assert (fresh.numel(), fresh.untyped_storage().nbytes()) == (size, size)
        assert fresh.data_ptr() % 64 == 0


def test_joined_and_stacked_rules() -> None:
    """Query, key and value one below the other; layers of one tensor apart; and back."""
    generator = torch.Generator().manual_seed(0)
    parts = {name: torch.randn(3, 5, generator=generator) for name in "qkv"}
    rule = joined("qkv", ("q", "k", "v"), DENSE)
    whole = rule.read(list(parts.values()))[0]
    assert torch.equal(whole, torch.cat([part.t() for part in parts.values()]))
    for back, part in zip(rule.write([whole]), parts.values(), strict=True):
        assert torch.equal(back, part)
    with pytest.raises(ValueError, match="several shapes"):
        joined("qk", ("q", "k")).read([torch.zeros(2, 3), torch.zeros(2, 4)])
    layers = stacked([renamed(f"{i}.w", "w", DENSE) for i in range(4)], ["w"])
    tensor = torch.randn(4, 3, 5, generator=generator)
    found = layers.read([tensor])
    assert [value.shape for value in found] == [(5, 3)] * 4
    assert torch.equal(layers.write(found)[0], tensor)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 77_776, 154_000])
def test_one_value_that_is_not_finite_is_found(value: float, place: int) -> None:
    """In a tensor as it lies in the file and in a view of other strides; large sums are no sign."""
    tensor = torch.full((275, 561), 3e38)
    assert is_finite(tensor)
    tensor.view(-1)[place] = value
    assert not is_finite(tensor)
    assert not is_finite(tensor.t())
    assert is_finite(torch.tensor(3e38))
    assert is_finite(torch.zeros(0, 3))


def _sum(name: str) -> Rule:
    return Rule((name,), (name,), lambda t: [t[0] + t[0]], lambda t: t, adds=True)


@pytest.mark.parametrize(
    ("value", "dtype", "rule"),
    [
        (float("nan"), torch.float32, renamed("t07", "t07")),
        (float("nan"), torch.float32, renamed("t07", "t07", DENSE)),
        (float("inf"), torch.bfloat16, renamed("t07", "t07")),
        (1e300, torch.float64, renamed("t07", "t07")),  # infinite as float32
        (3e38, torch.float32, _sum("t07")),
    ],
)
def test_values_that_are_not_finite_are_named(
    tmp_path: Path, value: float, dtype: torch.dtype, rule: Rule
) -> None:
    tensors = {name: torch.zeros(64, 64, dtype=dtype) for name in NAMES}
    tensors["t07"][63, 62] = value
    save_file(tensors, tmp_path / "a.safetensors")
    file = open_tensors(tmp_path / "a.safetensors")
    rules = [rule if name == "t07" else renamed(name, name) for name in NAMES]
    with pytest.raises(ModelError, match="not finite, in t07") as error:
        read_state(file, rules, dict.fromkeys(NAMES, (64, 64)))
    assert error.value.code == "VIT-425"
    file.close()
