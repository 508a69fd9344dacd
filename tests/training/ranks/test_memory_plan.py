"""`vitrail doctor --plan`: its bytes against formulas, and against processes that really train."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.cli.cli_command import run
from tests.training.ranks.in_ranks import in_ranks
from vitrail.config import OptimConfig
from vitrail.models.cost import parameters
from vitrail.models.create import create_model
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.training.optim.optimizer import clip_gradients, create_optimizer, parameter_groups
from vitrail.training.optim.shares import mesh_of, own_bytes, shard
from vitrail.training.ranks.memory_plan import memory_plan
from vitrail.training.ranks.ranks import Ranks

TINY = resolve_model("vit_digits", num_classes=10)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_weights_and_optimizer_of_shards(world: int) -> None:
    """The first share of the rows of each tensor, and its two moments and number of steps."""
    found = memory_plan(TINY, world, is_sharded=True, precision="float32", batches=(3, 5))
    whole, values = 4 * parameters(TINY), dict(create_model(TINY).named_parameters()).values()
    share = sum(-(-len(value) // world) * value[0].nbytes for value in values)
    assert whole / world <= share < whole / world * 1.05
    for peak in found.peaks:
        assert peak.optimizer == 2 * share + 4 * len(values)
        assert peak.weights == share
    assert found.collectives["reduce-scatter"] == share * world  # with what fills up rows
    assert found.collectives["all-gather"] >= 1.4 * whole  # the blocks twice, the rest once


def test_a_whole_network_on_each_gpu() -> None:
    found = memory_plan(TINY, 2, precision="float32", batches=(3, 5))
    whole = 4 * parameters(TINY)
    low, high = found.peaks
    assert low.gradients == low.weights == whole
    assert low.optimizer == pytest.approx(2 * whole, rel=0.001)
    assert found.collectives == {"all-reduce": whole}
    assert high.activations / low.activations == pytest.approx(5 / 3, rel=0.01)
    room = found.peak_bytes(7) + 1
    assert found.fitting((room + 2e9) / 0.9) == 7
    assert found.fitting(2e9) == 0
    assert memory_plan(TINY, 1, batches=(3, 5)).collectives == {}


def test_variable_resolution_needs_what_its_budget_of_patches_does() -> None:
    """As many patches in images of one size take as much, but for the table of positions."""
    shape = {"depth": 2, "posemb": "learned", "patch_size": 8, "pool": "gap"}
    squares, most = (
        resolve_model("vit_ti16", num_classes=10, image_size=(side, side), overrides=shape | more)
        for side, more in ((72, {}), (16, {"max_patches": 81}))
    )
    one, other = (memory_plan(config, 1, batches=(3, 5)).peaks[1] for config in (squares, most))
    assert other.activations == pytest.approx(one.activations, rel=0.05)


def status(key: str) -> int:
    """A line of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def trained(ranks: Ranks, config: ModelConfig, batch: int, is_sharded: bool) -> tuple[int, int]:
    """The peak of memory of a training step, and bytes of weights and optimiser of this process."""
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(-3, 1 << 16)  # blocks from 64 kB on go back to the system when freed
    before = status("VmRSS")
    network: nn.Module = create_model(config)
    forward: Any = network
    if is_sharded:
        shard(network, mesh_of(ranks.world))
    else:
        forward = nn.parallel.DistributedDataParallel(network, gradient_as_bucket_view=True)
    settings = OptimConfig()
    optimizer = create_optimizer(parameter_groups(network, settings), settings)
    images = torch.randn(batch, config.channels, *config.image_size)
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5")
        optimizer.zero_grad()
        logits = forward(images)
        loss = nn.functional.cross_entropy(logits, torch.zeros(batch, dtype=torch.long))
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(network.parameters(), 1.0)
        optimizer.step()
    kept = own_bytes(dict(network.named_parameters()))
    kept += sum(own_bytes(values) for values in optimizer.state.values())
    return status("VmHWM") - before, kept


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("is_sharded", [False, True])
def test_the_peak_is_that_of_two_processes(tmp_path: Path, is_sharded: bool) -> None:
    """Within 10 % of what the system counts, which holds buffers of gloo too."""
    config, batch = resolve_model("vit_ti16", num_classes=10), 32
    plan = memory_plan(config, 2, is_sharded=is_sharded, precision="float32", batches=(32, 64))
    found = in_ranks(tmp_path, 2, lambda ranks: trained(ranks, config, batch, is_sharded))
    peak = plan.peaks[0]
    assert all(peak.total == pytest.approx(measured, rel=0.1) for measured, _ in found)
    assert peak.weights + peak.optimizer == found[0][1]  # to the byte


def test_it_says_what_fits() -> None:
    done = run("doctor", "--plan", "vit_digits", "--gpus", "2", "--shard", "--json")
    record = done.document
    assert (done.code, record["gpus"], record["shard"]) == (0, 2, True)
    assert record["batch_per_gpu"] > 1000
    assert [item["epochs"] for item in record["pretraining"]] == [90, 7, 14]
    assert all(item["exaflops_table_6"] is None for item in record["pretraining"])


def test_what_does_not_fit_is_a_gate_that_is_not_met() -> None:
    done = run("doctor", "--plan", "vit_digits", "--gpu-memory", "2GB")
    assert done.code == 7
    assert "VIT-707" in done.err
    assert "not one image" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ("--plan", "vit_digits", "--gpu-memory", "much"),
        ("--plan", "vit_digits", "--gpus", "0"),
        ("--plan", "vit_digits", "--shard"),
        ("--gpus", "8"),
    ],
)
def test_options_that_make_no_sense_are_refused(words: tuple[str, ...]) -> None:
    done = run("doctor", *words)
    assert done.code == 2
    assert "VIT-20" in done.err
