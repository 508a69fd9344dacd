"""`vitrail doctor`: what this machine has, what is missing, and what it can train.

Names of host and user are never read."""

from __future__ import annotations

import platform
import re
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.errors import VitrailError, install_command
from vitrail.spelling import count

app = app_of("vitrail doctor")
MODELS = ("vit_digits", "vit_ti16", "vit_s16", "bit_r50x1", "vit_b16", "vit_l16")
MATMUL = 768  # rows of the square matrices whose product is timed
SHARE_OF_PEAK = (
    0.4  # of the matrix-product rate that training a ViT reaches on a CPU: a rule of thumb
)
USABLE_MEMORY = 0.6
STATE_BYTES = 16  # a parameter with its gradient and AdamW moments, float32
LOW_DISK_BYTES = 2_000_000_000


@app.default
def doctor(
    *,
    self_test: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Look at this machine: versions, extras, memory, disk, precision, and what it can train.

    Parameters
    ----------
    self_test
        Train a tiny model, kill it, continue it and compare every bit, with 1 and 2 processes.
    """
    if self_test:
        return test_machine(output)
    record = light_record()
    record["torch"] = torch_record(record["problems"])
    if record["torch"]:
        record["train"] = train_records(record["memory_bytes"], record["torch"]["gflops"])
    output.result(record, lines_of(record))
    return 5 if record["torch"] is None else 0


def test_machine(output: Output) -> int:
    """Try the promise of exact resume here; the exit code."""
    from dataclasses import asdict

    from vitrail.training.self_test import self_test

    found = self_test(output.note)
    lines = [
        f"self-test passed in {found.secs:.0f} s: killed and continued, runs have the bits of one "
        f"that was left alone (model {found.sha256[:12]})"
    ]
    output.result(asdict(found), lines)
    return 0


def light_record() -> dict[str, Any]:
    """What can be said without torch."""
    from vitrail.device import free_disk, memory_bytes, num_cores

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
    from vitrail.device import pick_device, pick_precision

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


EXTRAS = {  # what each is for, in the order of README
    "studies": "tables as Parquet too: compare, study, predict --out FILE.parquet",
    "hub": "models of the Hugging Face hub, hf:OWNER/NAME",
    "export": "vitrail export --to onnx",
    "onnx": "computing an ONNX export",
    "openvino": "computing it with OpenVINO",
    "serve": "vitrail serve",
    "stores": "shards in an object store, s3://BUCKET/FOLDER",
    "ray": "studies on a Ray cluster",
}


def extra_lines(missing: dict[str, list[str]]) -> list[str]:
    """What is installed, and the command for each extra that is not."""
    known = [name for name in EXTRAS if name in missing]
    there = ", ".join(name for name in known if not missing[name])
    lines = [f"extras    {there or 'none installed'}"]
    for name in known:
        if missing[name]:
            lines.append(f"          {name} ({EXTRAS[name]}): {install_command(name)}")
    return lines


def lines_of(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    lines = [
        f"vitrail   {record['vitrail']}, Python {record['python']}, {record['system']}",
        f"machine   {record['cpus']} CPUs, {record['memory_bytes'] / 1e9:.1f} GB memory free, "
        f"{record['disk_free_bytes'] / 1e9:.1f} GB disk free",
        *extra_lines(record["extras"]),
    ]
    if torch := record["torch"]:
        lines.append(
            f"torch     {torch['version']}, {count(torch['threads'], 'thread')}, device "
            f"{torch['device']}, "
            f"{torch['gflops']:.0f} GFLOP/s"
        )
        lines.append(f"precision {torch['precision']} ({torch['precision_why']})")
        rows = [("model", "image", "batch that fits", "images/s in training (estimate)")]
        for item in record["train"]:
            size = "x".join(map(str, item["image_size"]))
            fits = str(item["batch"] or "none")
            speed = item["images_per_s"]
            rows.append((item["model"], size, fits, f"{speed:,.{0 if speed >= 10 else 2}f}"))
        lines += ["", *table(rows), ""]
    lines += [f"problem   {problem}" for problem in record["problems"]] or ["no problems found"]
    return [*lines, "next      vitrail train builtin:digits"]
