"""What a checkpoint costs the step that is saved, and the steps while it is written.

    python -m benchmarks.saving [--model vit_s16] [--size 96] [--batch 16] [--rounds 7] [--disk 50]

Two figures of processor time of the training thread, which other work on the machine does not
touch: that of a save which waits for the disk, and that of a save in the background, which is the
copy. Then a step next to a writer that is held to --disk MB/s, over a step without one, the two
taking turns: by the same processor time, and by the clock, which says something on a machine
without other work only. For one thread: OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from vitrail.config import OptimConfig, TrainConfig
from vitrail.models.names import resolve_model
from vitrail.runs.filesystem import LocalFiles
from vitrail.training.optim.schedule import StepSchedule
from vitrail.training.ranks.ranks import ALONE
from vitrail.training.ranks.saver import Saver
from vitrail.training.state import TrainState, start_state
from vitrail.training.storage.checkpoint import save_checkpoint
from vitrail.training.storage.metrics_log import MetricsLog
from vitrail.training.storage.run_dir import RunDir


class SlowDisk(LocalFiles):
    """Takes so many bytes a second."""

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s

    def write(self, fd: int, data: memoryview) -> int:
        """As a disk that does not do more."""
        began = time.monotonic()
        written = super().write(fd, data)
        time.sleep(max(0.0, written / self._rate - (time.monotonic() - began)))
        return written


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_s16")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--disk", type=float, default=50.0)
    asked = parser.parse_args()
    state, step = training(asked.model, asked.size, asked.batch)
    step()
    copies, whole = [], []
    with tempfile.TemporaryDirectory() as place:
        run, number = run_in(Path(place)), 0
        saver = saver_of(run, LocalFiles())
        for _ in range(asked.rounds):
            number += 1
            state.step = number
            whole.append(timed(lambda: save_now(run, state))[0])
            state.step = number = number + 1
            copies.append(timed(lambda: saver.save(state, state.record()))[0])
            saver.wait()
        size = sum(v.nbytes for one in state.tensors().values() for v in one.values())
        slow = saver_of(run, SlowDisk(asked.disk * 1e6))
        busy: list[float] = []
        wall: list[float] = []
        beside = 0
        for _ in range(asked.rounds):
            alone = [timed(step) for _ in range(3)]
            state.step += 1
            slow.save(state, state.record())
            during = [timed(step) for _ in range(3)]
            beside += not slow.is_idle
            for ratios, place_in in ((busy, 0), (wall, 1)):
                times = [statistics.median(one[place_in] for one in ts) for ts in (during, alone)]
                ratios.append(times[0] / times[1])
            slow.wait()
    print(f"checkpoint                            {size / 1e6:9.1f} MB")
    print(f"save that waits, own processor time   {1000 * statistics.median(whole):9.1f} ms")
    print(f"save in the background, the same      {1000 * statistics.median(copies):9.1f} ms")
    for name, ratios in (("processor time", busy), ("by the clock", wall)):
        print(f"step next to a write / without one    {statistics.median(ratios):9.3f} {name}, of")
        print(f"  {', '.join(f'{one:.3f}' for one in sorted(ratios))}")
    print(f"  {beside} of {asked.rounds} writes went on after the three steps")


def training(name: str, size: int, batch: int) -> tuple[TrainState, Callable[[], None]]:
    """A state with AdamW and averaged weights, and a step of it."""
    model = resolve_model(name, num_classes=10, image_size=(size, size))
    config = TrainConfig(optim=OptimConfig(name="adamw"), ema=0.999)
    state = start_state(config, model, StepSchedule.of(1000), torch.device("cpu"))
    images, labels = torch.randn(batch, 3, size, size), torch.randint(10, (batch,))

    def step() -> None:
        F.cross_entropy(state.model(images), labels).backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.optimizer.zero_grad()

    return state, step


def run_in(folder: Path) -> RunDir:
    """An empty run."""
    (folder / "run").mkdir()
    run = RunDir(folder / "run")
    run.write("run.json", {"schema": 1, "status": "running"})
    return run


def saver_of(run: RunDir, fs: LocalFiles) -> Saver:
    """What a run saves with."""
    return Saver(run, ALONE, MetricsLog(run.metrics), print, fs=fs)


def save_now(run: RunDir, state: TrainState) -> None:
    """A save that waits for the disk."""
    save_checkpoint(run.path, state.step, state.tensors(), {})


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds: of the processor for this thread, and of the clock."""
    busy, wall = time.thread_time(), time.monotonic()
    work()
    return time.thread_time() - busy, time.monotonic() - wall


if __name__ == "__main__":
    main()
