"""The settings of a run as keyword arguments, with their types, so that editors complete them.

The names are those of `vitrail train` with underscores; any other setting goes into `settings` by
its dotted name. A test keeps them in step with `config.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar

from vitrail.errors import UsageError, refuse_without_effect

Auto = Literal["auto"]
BadFiles = Literal["stop", "skip"]  # what to do about images that cannot be decoded
MOST_STEPS = 100  # of a profile; one of a ViT-B/16 is some MB of trace
P = ParamSpec("P")
R = TypeVar("R")
Format = Literal[
    "google", "big_vision", "bit", "timm", "huggingface", "torchvision", "deit", "dinov2", "vitrail"
]  # of checkpoints that are written

EXPORT_TARGETS = {  # what is written, the packages it needs, and the extra that has them
    "onnx": ("model.onnx, for ONNX Runtime and others", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("model.onnx, checked with OpenVINO", ("onnx", "onnxscript", "openvino")),
    "torch": ("model.safetensors, checked with torch in bfloat16", ()),
    "web": ("a page for browsers, with the model", ("onnx", "onnxscript", "onnxruntime")),
    "huggingface-onnx": (
        "model.onnx, and onnx/model.onnx for transformers.js and Optimum",
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "triton": ("model.onnx, and a model repository", ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": ("model.pt2, for ExecuTorch and AOTInductor", ()),
}


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What an export is to be, and how it is checked."""

    to: str = "onnx"
    """onnx, openvino, torch, web, huggingface-onnx, triton or torch-export."""
    precision: str | None = None
    """float32, int8 (onnx, openvino, web), or bfloat16 (openvino, torch). Default: float32; of
    torch bfloat16."""
    images: str | None = None
    """Images to check with, as for vitrail eval; int8 is calibrated with their training split.
    Default: the data of the run."""
    split: str = "val"
    """Which of them: val or train."""
    check: int = 1000
    """Images to check with, at most."""
    opset: int = 20
    """Version of the ONNX operators."""
    threads: int = 1
    """Threads of the engine while it is checked. Speed is measured on 1 and on every core."""
    ort_web: Path | None = None
    """--to web: the npm package of onnxruntime-web or its folder. Default: the cache."""
    download: bool = False
    """--to web: fetch that package from registry.npmjs.org if it is not in the cache (33 MB)."""
    calibrate: int | None = None
    """int8: images to calibrate with, at most. Default: 200."""
    max_drop: float | None = None
    """int8: the most that accuracy may drop, in percentage points. Default: 0.5."""
    min_speedup: float | None = None
    """int8: refuse what is not so many times as fast as float32 of the same engine, one image at
    a time. Default: any speed."""


class TrainOptions(TypedDict, total=False):
    """Every setting without a dot, and the short names of others; docs/cli.md says what each does.
    Times are seconds, or text with a unit: "90s", "10m", "1.5h". Sizes are pixels.
    """

    model: str
    from_: str | Path
    teacher: str | Path
    recipe: str
    objective: Literal["classify", "masked_patches"]
    epochs: float | None
    steps: int | None
    examples: int | None
    time_limit: float | str | None
    batch_size: int | Auto
    lr: float
    seed: int
    ema: float
    patience: int
    freeze: Literal["none", "body"]
    lora_rank: int
    augment: Literal["none", "randaugment", "trivialaugment", "three_augment"]
    image_size: int | tuple[int, int] | str
    val_fraction: float | Auto
    on_bad_file: BadFiles
    workers: int | Auto
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    threads: int | Auto
    exact: bool
    compile: bool
    checkpoint_activations: bool
    residual_baseline: bool
    eval_every_epochs: float | Auto
    save_every: float | str
    save_every_steps: int | None
    keep_checkpoints: int


@dataclass(frozen=True, kw_only=True)
class Machines:
    """How the cells are computed: by whom, and from which of the images."""

    processes: int | None = None
    """Runs in parallel on this machine. Default: its cores, or 1 with a GPU and for speed."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or a Ray cluster (extra "ray")."""
    ray_address: str = "auto"
    """The cluster: HOST:PORT, or auto for the one this machine belongs to."""
    device: str = "auto"
    """auto, cpu, cuda."""
    threads: int = 1
    """Threads of each cell; a row can depend on it in the last bits."""
    accumulate: int = 1
    """Gradient accumulation: parts of a batch, computed in turn for less memory; as --threads."""
    on_bad_file: BadFiles = "stop"
    """What to do about images that cannot be decoded."""


class MachineOptions(TypedDict, total=False):
    """The same as keyword arguments."""

    processes: int | None
    engine: Literal["local", "ray"]
    ray_address: str
    device: str
    threads: int
    accumulate: int
    on_bad_file: BadFiles


class LoadOptions(TypedDict, total=False):
    """How a model is read and computed, as `vitrail.load` takes it. device and engine: auto unless
    given, as the commands have it.
    """

    device: str
    engine: str | None
    precision: str | None
    threads: int | None
    tokens: float | None
    patch: int | tuple[int, int] | None
    given: Mapping[str, Any] | None
    origin: str | None
    table: str | None
    name_map: str | Path | None


def check_profile(steps: int) -> None:
    """Raise UsageError VIT-202 for a number of steps that cannot be recorded."""
    if not 0 <= steps <= MOST_STEPS:
        raise UsageError(
            "VIT-202",
            f"--profile {steps}: expected 1 to {MOST_STEPS} steps.",
            hint="A few are enough, and a trace of many is too large to look at: --profile 5",
        )


def refuse_address(address: str, cluster: str | None, option: str = "--cluster ray") -> None:
    """Raise UsageError VIT-203 for the address of a cluster that is not asked to compute."""
    if cluster in (None, "local"):
        hint = f"Add {option}, or leave it out."
        refuse_without_effect({"--ray-address": address != "auto"}, f"without {option}", hint)


def shows_options(function: Callable[P, R], options: type = TrainOptions) -> Callable[P, R]:
    """Let `function(..., **options)` show every option in its signature, as notebooks read it."""
    before = inspect.signature(function)
    given = [one for one in before.parameters.values() if one.kind is not one.VAR_KEYWORD]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=hint)
        for name, hint in options.__annotations__.items()
    ]
    function.__signature__ = before.replace(parameters=[*given, *more])  # type: ignore[attr-defined]
    return function


def call_text(function: str, first: object, given: Mapping[str, Any]) -> str:
    """The call that repeats a run: `vitrail.train('photos', epochs=20)`."""
    plain = {key: str(one) if isinstance(one, Path) else one for key, one in given.items()}
    plain = {key: one for key, one in plain.items() if (key, one) != ("runs_dir", "runs")}
    words = [f"{key}={one!r}" for key, one in plain.items() if one is not None and one != []]
    return f"vitrail.{function}({', '.join([repr(str(first)), *words])})"


def layer_of(
    data: str | Path, options: TrainOptions, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The settings of a call as one layer of `config.resolve`."""
    named = {
        name.rstrip("_"): str(value) if isinstance(value, Path) else value
        for name, value in options.items()
    }
    return {"data.path": str(data), **named, **(settings or {})}
