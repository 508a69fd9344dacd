"""What this machine has, what is missing, and what it can train; also where torch does not load.

Names of host and user are never read.
"""

from __future__ import annotations

import platform
import re
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.device import free_disk, memory_bytes, num_cores, pick_device, pick_precision
from vitrail.errors import VitrailError

if TYPE_CHECKING:
    from vitrail.training.replay import Replay

MODELS = ("vit_digits", "vit_ti16", "vit_s16", "bit_r50x1", "vit_b16", "vit_l16")
MATMUL = 768  # rows of the square matrices whose product is timed
SHARE_OF_PEAK = (
    0.4  # of the matrix-product rate that training a ViT reaches on a CPU: a rule of thumb
)
USABLE_MEMORY = 0.6
STATE_BYTES = 16  # a parameter with its gradient and AdamW moments, float32
LOW_DISK_BYTES = 2_000_000_000


def doctor() -> dict[str, Any]:
    """What this machine has and can train, as `vitrail doctor --json`.

    Keys: vitrail, python, system, cpus, memory_bytes and disk_free_bytes (free), extras (missing
    packages of each), problems (sentences), torch (version, threads, device, precision, measured
    gflops; None where it cannot be loaded) and, with torch, train: for some models the largest
    batch that fits and a rough images_per_s. Raises nothing for what is missing.
    """
    record = light_record()
    record["torch"] = torch_record(record["problems"])
    if record["torch"]:
        record["train"] = train_records(record["memory_bytes"], record["torch"]["gflops"])
    return record


def replay(run: str | Path, *, data: str | Path | None = None) -> Replay:
    """Do the step again at which a run's loss or gradients were not finite, and say where: the
    first layer, the parameters, the images; as `vitrail doctor --replay`. The process is left as it
    was.

    data: where the images of the run lie now. Raises ModelError VIT-401 where the run kept no step,
    VIT-409; what `resume` raises for its settings, data and checkpoints.
    """
    from vitrail.training.determinism import unchanged_process
    from vitrail.training.replay import replay as done_again

    with unchanged_process():
        return done_again(Path(run), data=None if data is None else str(data))


def light_record() -> dict[str, Any]:
    """What can be said without torch."""
    missing_core, extras = requirements()
    disk = free_disk(Path.cwd())
    problems = [f"{name} is not installed: pip install {name}" for name in missing_core]
    if disk < LOW_DISK_BYTES:
        problems.append(
            f"only {disk / 1e9:.1f} GB of disk free here; checkpoints may not fit: "
            "use --out on another disk"
        )
    return {
        "vitrail": version("vitrail"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": num_cores(),
        "memory_bytes": memory_bytes(),
        "disk_free_bytes": disk,
        "extras": extras,
        "problems": problems,
    }


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """(packages of the core that are missing, missing packages of each extra)."""
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in requires("vitrail") or []:
        name = re.split(r"[^\w.-]", line)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        missing = extras.setdefault(extra[1], []) if extra else core
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    return core, extras


def torch_record(problems: list[str]) -> dict[str, Any] | None:
    """Version, device, precision, measured matrix-product rate; None where torch cannot load."""
    try:
        import torch
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be loaded ({str(error).splitlines()[0]}): pip install torch")
        return None
    try:
        picked = pick_device("auto")
        device = str(picked)
        precision, why = pick_precision("auto", picked)
    except VitrailError as fault:
        problems.append(str(fault))
        device, precision, why = "cpu", "float32", "the device cannot be used"
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
        "precision": precision,
        "precision_why": why,
        "gflops": matmul_gflops(device, precision),
    }


def matmul_gflops(device: str, precision: str) -> float:
    """The best of a few products of square matrices, in 1e9 operations a second."""
    import torch

    square = torch.ones(MATMUL, MATMUL, device=device, dtype=getattr(torch, precision))
    best = float("inf")
    for _ in range(6):
        begin = time.perf_counter()
        (square @ square)[0, 0].item()  # item() waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2 * MATMUL**3 / best / 1e9


def train_records(memory: int, gflops: float) -> list[dict[str, Any]]:
    """For some sizes: the largest batch that fits and a rough speed (backward is 2 forwards)."""
    from vitrail.models.cost import activation_bytes, macs, parameters
    from vitrail.models.names import resolve_model

    records = []
    for name in MODELS:
        config = resolve_model(name, num_classes=10)
        room = memory * USABLE_MEMORY - parameters(config) * STATE_BYTES
        fits = [
            size
            for size in (1, 2, 4, 8, 16, 32, 64, 128, 256)
            if activation_bytes(config, size) <= room
        ]
        speed = gflops * 1e9 * SHARE_OF_PEAK / (3 * 2 * macs(config))
        records.append(
            {
                "model": name,
                "image_size": list(config.image_size),
                "batch": max(fits, default=0),
                "images_per_s": speed,
            }
        )
    return records
