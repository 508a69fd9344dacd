"""One run by several processes: the same run as by one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.ranks.in_ranks import in_ranks
from tests.training.running import TINY, records, weights
from vitrail.errors import DataError, EnvironmentFault
from vitrail.training import loop, start_run
from vitrail.training.control.clock import Clock
from vitrail.training.network import create_network
from vitrail.training.plan.plan_run import plan_run
from vitrail.training.ranks.ranks import ALONE, Ranks, is_told
from vitrail.training.reporter import RunResult, SilentReporter
from vitrail.training.storage.checkpoint import load_latest
from vitrail.training.tasks.registry import task_of

STEPS = 7
PARTS: dict[str, Any] = {
    **TINY,
    "steps": STEPS,
    "batch_size": 32,
    "optim.accumulate": 4,
    "model.drop_path": 0.1,
    "model.patch_drop": 0.2,
    "ema": 0.9,
    "residual_baseline": False,
    "eval_every_epochs": 0.1,
}


def trained(
    folder: Path, name: str, ranks: Ranks, reporter: SilentReporter | None = None, **changes: Any
) -> RunResult:
    settings = PARTS | {key.replace("__", "."): value for key, value in changes.items()}
    return loop.train(
        [("test", settings)],
        runs_dir=folder,
        name=name,
        reporter=reporter,
        with_report=False,
        ranks=ranks,
    )


def together(folder: Path, name: str, world: int, **changes: Any) -> list[Any]:
    return in_ranks(folder, world, lambda ranks: trained(folder, name, ranks, **changes))


def bits(run: Path) -> dict[str, str]:
    """sha256 of what a run ships and of each tensor of its last checkpoint, in shares or not."""
    found = {"shipped": weights(run)}
    last = load_latest(run)
    assert last is not None
    for kind, tensors in last.tensors.items():
        for name, value in tensors.items():
            content = f"{value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes()
            found[f"{kind}/{name}"] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.promise("R7")
def test_exact_gives_the_same_bits_for_any_number_of_processes(tmp_path: Path) -> None:
    """Dropout, drop-path, patch dropout, Mixup, RandAugment, EMA; evaluation included."""
    sizes: dict[str, Any] = {"model__patch_sizes": "1,2,4"}
    trained(tmp_path, "one", ALONE, exact=True, **sizes)
    for name, world in (("two", 2), ("four", 4)):
        results = together(tmp_path, name, world, exact=True, **sizes)
        assert [one.steps for one in results] == [STEPS] * world, results
        assert records(tmp_path / name) == records(tmp_path / "one")
        assert bits(tmp_path / name) == bits(tmp_path / "one")
    for name in ("predictions.csv", "confusion.csv"):
        one, two = ((tmp_path / run / "eval/test" / name).read_bytes() for run in ("one", "two"))
        assert one == two


@pytest.mark.promise("R7")
def test_two_processes_equal_one_to_rounding(tmp_path: Path) -> None:
    """Another order of sums; SGD, which does not amplify it."""
    changes: dict[str, Any] = {"optim__name": "sgd", "optim__lr": 0.01}
    trained(tmp_path, "one", ALONE, **changes)
    results = together(tmp_path, "two", 2, **changes)
    assert [one.steps for one in results] == [STEPS] * 2, results
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record["step"] for record in one] == [record["step"] for record in two]
    for before, after in zip(one, two, strict=True):
        for key in {"train/loss", "optim/grad_norm"} & before.keys():
            assert after[key] == pytest.approx(before[key], rel=1e-6), (before["step"], key)


@pytest.mark.promise("R7")
def test_a_signal_and_a_clock_of_one_process_are_agreed_and_one_goes_on(tmp_path: Path) -> None:
    """The second process is an hour ahead and alone gets the signal; the run then goes on in one
    process, from the middle of an epoch, as if it had never stopped."""

    def work(ranks: Ranks) -> RunResult:
        step = loop._step
        if not ranks.is_first:
            seconds = Clock.seconds
            Clock.seconds = lambda self: seconds(self) + 3600.0  # type: ignore[method-assign]

            def signalled(live: Any, batch: Any) -> Any:
                if live.state.step == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                return step(live, batch)

            loop._step = signalled
        return trained(tmp_path, "stopped", ranks, exact=True)

    results = in_ranks(tmp_path, 2, work)
    assert [(one.steps, one.stopped) for one in results] == [(4, "SIGTERM")] * 2, results
    run = json.loads((tmp_path / "stopped/run.json").read_text())
    assert run["status"] == "stopped"
    trained(tmp_path, "whole", ALONE, exact=True)
    loop.resume(tmp_path / "stopped", with_report=False)
    assert records(tmp_path / "stopped") == records(tmp_path / "whole")
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")


def test_every_image_is_judged_once_whatever_the_number_of_processes() -> None:
    """1,437 images in 12 batches, and 180 in 2: fewer batches than processes."""
    plan = plan_run([("test", PARTS)])
    network = create_network(plan.config, plan.model).eval()
    with torch.no_grad():
        network.get_parameter("head.weight").normal_(generator=torch.Generator().manual_seed(3))
    test = plan.splits.test
    assert test is not None

    def judged(ranks: Ranks) -> list[Any]:
        task = task_of(plan, torch.device("cpu"), ranks)
        found = [task.judge(network, one) for one in (plan.splits.train, test)]
        return [(one.n, dict(one.metrics), one.record, one.evaluation) for one in found]

    torch.set_num_threads(1)
    alone = judged(ALONE)
    for world in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            every = in_ranks(Path(folder), world, judged)
        for rank, found in enumerate(every):
            for (n, metrics, record, evaluation), one in zip(found, alone, strict=True):
                assert (n, metrics) == (one[0], one[1])
                timed = {"images_per_s", "img_per_s"}
                assert {k: v for k, v in record.items() if k not in timed} == {
                    k: v for k, v in one[2].items() if k not in timed
                }
                assert (evaluation is None) == (rank > 0)
                if evaluation is not None:
                    assert evaluation.ids == one[3].ids
                    assert np.array_equal(evaluation.probabilities, one[3].probabilities)
                    assert np.array_equal(evaluation.losses, one[3].losses)


def failing(folder: Path, at: Callable[[Ranks], bool], fault: Callable[[], Any]) -> list[Any]:
    """What becomes of a run on whose fourth batch `fault` is called where `at` says."""

    def work(ranks: Ranks) -> Any:
        there: Any = start_run  # its names are replaced in this process alone
        made = there.training_loader

        def loader(*arguments: Any, **named: Any) -> Any:
            found: Any = made(*arguments, **named)
            batches = found.batches

            def few(first: int, stop: int) -> Any:
                for number, batch in enumerate(batches(first, stop)):
                    if number == 3 and at(ranks):
                        fault()
                    yield batch

            found.batches = few
            return found

        there.training_loader = loader
        return trained(folder, "run", ranks)

    return in_ranks(folder, 2, work)


def test_an_image_that_one_process_cannot_read_is_the_error_of_all(tmp_path: Path) -> None:
    def bad_file() -> None:
        raise DataError("VIT-301", "a.jpg: cut off", hint="Repair it")

    first, second = failing(tmp_path, lambda ranks: ranks.rank == 1, bad_file)
    assert isinstance(first, DataError)
    assert isinstance(second, DataError)
    assert (first.code, first.exit_code, first.hint) == ("VIT-301", 3, "Repair it")
    assert [is_told(first), is_told(second)] == [True, False]  # said once
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert (run["status"], run["reason"]) == ("failed", "VIT-301: a.jpg: cut off")


def test_a_process_that_dies_is_missed(tmp_path: Path) -> None:
    first, second = failing(tmp_path, lambda ranks: ranks.rank == 1, lambda: os._exit(9))
    assert isinstance(first, EnvironmentFault)
    assert first.code == "VIT-512"
    assert isinstance(second, EOFError)
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_an_error_of_the_first_process_before_a_run_is_the_error_of_all(tmp_path: Path) -> None:
    results = together(tmp_path, "run", 2, batch_size=100_000)
    assert [getattr(one, "code", one) for one in results] == ["VIT-219"] * 2
    assert not (tmp_path / "run").exists()
