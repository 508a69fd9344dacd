"""How fast a model is and how much memory it takes, measured in a process of its own.

    python -m vitrail.studies.engine.timing

Settings come as JSON on stdin, figures go as JSON to stdout. A new process for every model, because
memory that an earlier one left behind would be counted, or reused. Images are random numbers:
what is timed is the model, not the reading of images. Speed is of the median step, so that a
pause of the machine does not count; memory is the highest resident size above that of a process
which has torch loaded, on a GPU the highest that its tensors took.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.config import TrainConfig
from vitrail.device import keep_freed_memory, pick_precision, set_threads
from vitrail.errors import EnvironmentFault
from vitrail.models.names import ModelConfig, resolve_model
from vitrail.settings.layers import resolve
from vitrail.system.child_process import python_command
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.ranks.share import cut
from vitrail.training.ranks.spread import Alone
from vitrail.training.state import TrainState, start_state
from vitrail.training.step import update
from vitrail.training.tasks import objectives
from vitrail.training.tasks.precision import autocast
from vitrail.training.tasks.task import Forward, Parts

WARM_UP = 1  # steps that do not count


def measure_apart(settings: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a cell's settings, from a process of its own.

    Raises EnvironmentFault VIT-510 where it ended otherwise than it should.
    """
    done = subprocess.run(  # noqa: S603  # our own module
        python_command("vitrail.studies.engine.timing"),
        input=json.dumps(dict(settings)),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        name = settings["model.name"]
        raise EnvironmentFault(
            "VIT-510",
            f"the process that timed {name} ended by exit {done.returncode}: "
            f"{done.stderr.strip()[-300:]}",
            hint="Killed for memory? Use fewer --processes. Repeat the command to continue.",
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def architecture_of(config: TrainConfig) -> ModelConfig:
    """The model of a cell that names channels and classes itself."""
    size = config.data.image_size
    assert not isinstance(size, str)
    return resolve_model(
        config.model.name, num_classes=0, image_size=size, overrides=config.model.overrides
    )


def settled(settings: Mapping[str, Any]) -> TrainConfig:
    """Settings of a cell, nothing else."""
    config = resolve([("speed", settings)])[0]
    precision, _ = pick_precision(config.precision, torch.device(config.device))
    return config.model_copy(update={"precision": precision})


def measure(config: TrainConfig) -> dict[str, float]:
    """Images a second of prediction and of training steps, bytes of memory, seconds of a step of
    each. `examples` of the config are shown to either.
    """
    device = torch.device(config.device)
    keep_freed_memory()
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    model, batch = architecture_of(config), int(config.batch_size)
    images = torch.randn(batch, model.channels, *model.image_size, device=device)
    labels = torch.arange(batch, device=device) % model.num_classes
    targets = objectives.one_hot(labels, model.num_classes)
    steps = max(1, int(config.examples or 0) // batch)
    _matmul(device)
    before = peak_bytes(device)
    state = start_state(config, model, Schedule.of(1), device, None)
    predict_secs = _median_secs(_predicting(state, images, config), steps, device)
    predicted = peak_bytes(device)
    train_secs = _median_secs(_training(state, images, targets, config), steps, device)
    trained = peak_bytes(device)
    return {
        "predict/images_per_sec": batch / predict_secs,
        "train/images_per_sec": batch / train_secs,
        "predict/bytes": predicted - before,
        "train/bytes": trained - before,
        "batch_size": batch,
        "steps": steps,
    }


def _predicting(state: TrainState, images: Tensor, config: TrainConfig) -> Callable[[], None]:
    def step() -> None:
        state.model.eval()
        with torch.inference_mode(), autocast(config, images.device):
            state.model(images)

    return step


def _training(
    state: TrainState, images: Tensor, targets: Tensor, config: TrainConfig
) -> Callable[[], None]:
    """A step of `vitrail train`."""

    def loss(forward: Forward, parts: Parts) -> Tensor:
        return objectives.loss(forward(parts[0]), parts[1], config.loss)

    def step() -> None:
        state.model.train()
        parts = cut((images, targets), range(config.optim.accumulate))
        update(Alone(state.model), state, parts, loss, config)

    return step


def _median_secs(step: Callable[[], None], steps: int, device: torch.device) -> float:
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(steps):
        _wait(device)
        began = time.perf_counter()
        step()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matmul(device: torch.device) -> None:
    """Have libraries take what they need whatever the model."""
    square = torch.randn(64, 64, device=device, requires_grad=True)
    (square @ square).sum().backward()  # type: ignore[no-untyped-call]


def peak_bytes(device: torch.device) -> int:
    """The most memory so far: of this process, on a GPU of tensors there.

    From /proc where there is one: what getrusage says also counts the process that started us.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Measure what stdin asks for."""
    json.dump(measure(settled(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
