"""Every setting of one training run: frozen, typed, hashable; and how its layers are put together.

A recipe (`vitrail/recipes`) is a function that returns a complete `TrainConfig`. A user's settings
reach it as flat dotted keys ("optim.lr") in layers, later ones winning: built-in < recipe <
--config file < VITRAIL_* < command line.
No torch here: checking a configuration takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from vitrail.errors import UsageError, nearest, shortened
from vitrail.folder import read_named
from vitrail.spelling import PREFIX, escaped

Auto = Literal["auto"]
MOST = 2**53  # of any number; beyond, whole numbers and floats differ
MAX_TOML_BYTES = 1_000_000
NUMBER = r"[0-9]+\.?[0-9]*|\.[0-9]+"
SECS = rf"({NUMBER})\s*([smh]?)"
DURATIONS = ("epochs", "steps", "examples", "time_limit_secs")


def parse_size(value: object) -> object:
    """(height, width) from 64, "64", "64x48" (height first) or a pair; "auto" is passed through."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}([x,][0-9]{1,9})?", value):
        numbers = [int(part) for part in re.split(r"[x,]", value)]
        return (numbers[0], numbers[-1])
    return (value, value) if isinstance(value, int) else value


def parse_number(value: object) -> object:
    """An integer from "3"; anything else is passed through."""
    is_number = isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value)
    return int(value) if isinstance(value, str) and is_number else value


def parse_secs(value: object) -> object:
    """Seconds from 90, "90", "90s", "10m", "1.5h"."""
    if isinstance(value, str) and (found := re.fullmatch(SECS, value)):
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    return value


def check_unit(name: str, value: object, *, key: str = "") -> None:
    """Refuse a time without a unit. name: of the option, which does not say the unit; key: under
    which a number counts seconds. Raises UsageError VIT-212.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(NUMBER, text):
        return
    seconds = f", or {key} = {text} in a file or --{key.replace('_', '-')} {text}" if key else ""
    raise UsageError(
        "VIT-212",
        f"{name} {text}: a time needs a unit: s, m or h.",
        hint=f"For instance {name} {text}s or {name} {text}m{seconds}",
    )


def parse_list(value: object) -> object:
    """A tuple of any length from "0.3,0.6", "0.3" or ""; anything else is passed through."""
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


def parse_tuple(value: object) -> object:
    """A tuple from "0.5,0.5"; anything else is passed through."""
    return tuple(value.split(",")) if isinstance(value, str) and "," in value else value


def parse_path(value: object) -> object:
    """A path as settings hold it: `escaped` where it cannot stand as it is in TOML and JSON."""
    if not isinstance(value, str) or value.startswith(PREFIX):
        return value
    return escaped(value)


Size = Annotated[
    tuple[Annotated[int, Field(ge=1, le=16384)], Annotated[int, Field(ge=1, le=16384)]],
    BeforeValidator(parse_size),
]
TextPath = Annotated[str, BeforeValidator(parse_path)]
Secs = Annotated[float, Field(gt=0), BeforeValidator(parse_secs)]
Pair = Annotated[tuple[float, float], BeforeValidator(parse_tuple)]
Share = Annotated[float, Field(ge=0, le=1)]
Positives = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(parse_list)]


class Section(BaseModel):
    """A frozen group of settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: object) -> object:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and abs(number) > MOST:
                raise ValueError(f"expected a number of at most {MOST:.0e}")
        return value


class DataConfig(Section):
    """Where pictures come from and how they become a tensor."""

    path: TextPath = ""
    image_size: Annotated[Size | Auto, BeforeValidator(parse_size)] = "auto"
    channels: Annotated[Literal[1, 3] | Auto, BeforeValidator(parse_number)] = "auto"
    # "source", with --from: as the model was trained, which is what "auto" would be.
    resize: Literal["squash", "short_side", "source"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = (
        1.0  # crop / resized short side, resize="short_side"
    )
    interpolation: Literal["bilinear", "bicubic", "source"] = "bicubic"
    normalize: Literal["half", "imagenet", "dataset", "source"] = "half"
    val_fraction: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    test_fraction: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    # Of the pictures held out where vitrail makes the split; not given: `seed`. Runs of different
    # seeds that name one are judged on the same pictures.
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    # Train on so many, by class, in an order of `seed` in which fewer are always among more
    train_pictures: Annotated[int, Field(ge=1)] | None = None
    on_bad_file: Literal["stop", "skip"] = "stop"
    max_pixels: Annotated[int, Field(ge=1)] = 64_000_000
    workers: Annotated[int, Field(ge=0, le=256)] | Auto = "auto"


class ModelSettings(BaseModel):
    """A named size, and fields of its architecture that should differ (`--model.depth 6`)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "auto"

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields given beside the name; checked when the architecture is resolved."""
        return dict(self.model_extra or {})


class StartConfig(Section):
    """The model whose weights a run starts from (`--from MODEL`)."""

    model: TextPath = ""  # whatever `vitrail.load` opens; "": random values
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = (
        ""  # of its weights and classes; filled in when the run starts
    )
    # What a checkpoint of another library does not say (--set, --origin, --table): fields of the
    # architecture with spaces between ("num_heads=6 ln_eps=1e-6"), the library, which weights.
    given: str = ""
    origin: str = ""
    table: str = ""
    map: TextPath = ""  # a file with the names of a home-made model (--map)
    # by_name: classes that the model knows by name keep their row of the head
    head: Literal["new", "by_name"] = "new"


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685) on the dense layers of the blocks."""

    rank: Annotated[int, Field(ge=0, le=4096)] = 0  # 0: off
    alpha: Annotated[float, Field(gt=0)] = 16.0  # the product of both factors times alpha / rank


class DistillConfig(Section):
    """A teacher (DeiT, arXiv 2012.12877, section 4)."""

    teacher: TextPath = ""  # whatever `vitrail.load` opens; "": none
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = (
        ""  # of its weights and classes; filled in when the run starts
    )
    kind: Literal["hard", "soft"] = "hard"
    alpha: Share = 0.5  # weight of the teacher's part of the loss
    temperature: Annotated[float, Field(gt=0)] = 3.0  # kind="soft"


class AugmentConfig(Section):
    """What happens to a training picture.

    Inception crop, RandAugment(n, m), 3-Augment, Mixup, CutMix and random erasing.
    """

    crop: Literal["none", "inception", "resize_crop", "pad_crop"] = "inception"
    crop_scale: Pair = (0.05, 1.0)  # share of the area, crop="inception"
    crop_ratio: Pair = (3 / 4, 4 / 3)
    crop_pad: Annotated[int, Field(ge=0, le=64)] = (
        4  # px of reflection around the picture, crop="pad_crop"
    )
    crop_enlarge: Annotated[float, Field(ge=1, le=4)] = (
        7 / 6  # resized side / side of the window, crop="resize_crop"
    )
    flip: Share = 0.5
    policy: Literal["none", "randaugment", "trivialaugment", "three_augment"] = "none"
    num_ops: Annotated[int, Field(ge=0, le=8)] = 2
    magnitude: Annotated[float, Field(ge=0, le=30)] = (
        10.0  # of RandAugment; 10: full scale, as in TF and timm
    )
    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    erasing: Share = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha of Beta(alpha, alpha); 0: off
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    repeats: Annotated[int, Field(ge=1, le=8)] = 1  # repeated augmentation


class OptimConfig(Section):
    """The update rule. `weight_decay` is torch's lambda, multiplied by the rate; kernels only."""

    name: Literal["adamw", "sgd", "lamb", "muon", "schedule_free"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: Pair = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    clip: Annotated[float, Field(ge=0)] = 1.0  # global norm, before the optimiser; 0: off
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    accumulate: Annotated[int, Field(ge=1)] = 1  # micro-batches a step


class ScheduleConfig(Section):
    """The learning rate over the run."""

    name: Literal["cosine", "linear", "polynomial", "rsqrt", "stair", "constant"] = "cosine"
    warmup: Share | Annotated[int, Field(gt=1)] = 0.05  # share of the run, or steps when above 1
    end_lr: Annotated[float, Field(ge=0)] = 0.0  # absolute
    power: Annotated[float, Field(gt=0)] = 2.0  # of what is left of the run, polynomial
    timescale: Annotated[int, Field(ge=1)] = 10_000  # steps, rsqrt
    stair_at: Positives = ()  # shares of the run, or steps when above 1: where a stair begins
    stair_factors: Positives = ()  # of the peak, from there on
    cooldown: Share = 0.0  # share of the run, linear to zero


class LossConfig(Section):
    """What is minimised."""

    name: Literal["softmax", "sigmoid", "bce"] = "softmax"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"


class TrainConfig(Section):
    """Every setting of one run."""

    recipe: str = "auto"
    objective: Literal["classify", "masked_patches"] = "classify"
    epochs: Annotated[float, Field(gt=0)] | None = None  # exactly one duration is given
    steps: Annotated[int, Field(ge=1)] | None = None
    examples: Annotated[int, Field(ge=1)] | None = None
    time_limit_secs: Secs | None = None
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay a step; 0: off
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] | Auto = "auto"
    compile: bool = False
    checkpoint_activations: bool = False
    # After a training from scratch, train a small residual network as a baseline.
    residual_baseline: bool = True
    freeze: Literal["none", "body"] = "none"
    patience: Annotated[int, Field(ge=0)] = (
        0  # evaluations without a better val/loss before stopping; 0: off
    )
    eval_every_epochs: Annotated[float, Field(gt=0)] | Auto = "auto"
    save_every_secs: Secs = 600.0
    save_every_steps: Annotated[int, Field(ge=1)] | None = None
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    data: DataConfig = DataConfig()
    model: ModelSettings = ModelSettings()
    start: StartConfig = StartConfig()
    lora: LoraConfig = LoraConfig()
    distill: DistillConfig = DistillConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()


# The options named most often have short forms on `vitrail train`.
SHORT = {
    "model": "model.name",
    "from": "start.model",
    "lora_rank": "lora.rank",
    "teacher": "distill.teacher",
    "lr": "optim.lr",
    "image_size": "data.image_size",
    "augment": "augment.policy",
    "workers": "data.workers",
    "val_fraction": "data.val_fraction",
    "on_bad_file": "data.on_bad_file",
    "time_limit": "time_limit_secs",
    "save_every": "save_every_secs",
}


def flatten(config: BaseModel | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as flat dotted keys, in declaration order, without those that are None."""
    values = config.model_dump() if isinstance(config, BaseModel) else config
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value
    return flat


def known_keys() -> list[str]:
    """Every dotted key of TrainConfig, without the fields of the architecture (`model.`)."""

    def walk(model: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, f"{prefix}{name}.")
            else:
                yield prefix + name

    return list(walk(TrainConfig, ""))


def resolve(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[TrainConfig, dict[str, str]]:
    """Settings from `layers`, later ones winning, and the source of each key.

    A layer is (source name, flat dotted settings). A duration replaces every duration of the
    layers below it. Raises UsageError (VIT-211, VIT-212, VIT-213).
    """
    values: dict[str, Any] = flatten(TrainConfig())
    sources = dict.fromkeys(values, "built-in")
    for source, layer in layers:
        for short in ("time_limit", "save_every"):
            for key in (short, short.replace("_", "-")):
                check_unit(f"--{short.replace('_', '-')}", layer.get(key), key=SHORT[short])
        layer = {
            SHORT.get(key.replace("-", "_"), key.replace("-", "_")): value
            for key, value in layer.items()
        }
        given = [key for key in DURATIONS if layer.get(key) is not None]
        if len(given) > 1:
            raise UsageError(
                "VIT-213",
                f"{source}: {' and '.join(given)} are both given; a run has one duration.",
                hint="Keep one of --epochs, --steps, --examples, --time-limit.",
            )
        for key in DURATIONS if given else ():
            values.pop(key, None)
            sources.pop(key, None)
        for key, value in layer.items():
            if value is None:
                continue
            if key not in values and not key.startswith("model.") and key not in known_keys():
                raise UsageError(
                    "VIT-211", f"{source}: unknown setting {key}. {nearest(key, known_keys())}"
                )
            values[key], sources[key] = value, source
    return build(values, sources), sources


def build(values: Mapping[str, Any], sources: Mapping[str, str]) -> TrainConfig:
    """A TrainConfig from flat dotted settings.

    Raises UsageError VIT-212 naming each bad value and its source.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    try:
        return TrainConfig.model_validate(nested)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            parts = [str(part) for part in item["loc"]]
            key = next(
                (".".join(parts[:n]) for n in (3, 2, 1) if ".".join(parts[:n]) in values),
                ".".join(parts),
            )
            said = shortened(values.get(key))
            line = f"  {key} = {said} (from {sources.get(key, '?')}): {item['msg']}"
            if line not in lines:
                lines.append(line)
        raise UsageError(
            "VIT-212",
            "settings cannot be used:\n" + "\n".join(lines),
            hint="All settings with their values: vitrail train DATA --print-config",
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Flat dotted settings of a TOML file. Raises UsageError VIT-215 where it cannot be read."""
    try:
        return flatten(tomllib.loads(read_named(path, MAX_TOML_BYTES).decode("utf-8")))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML
        raise UsageError(
            "VIT-215",
            f"{path}: cannot be read as TOML: {error}",
            hint="Correct that line, or write a fresh file: vitrail train DATA --print-config",
        ) from error


def to_toml(config: TrainConfig) -> str:
    """The settings as TOML: plain values first, then one table a section."""
    return toml_lines(flatten(config))


def toml_lines(flat: Mapping[str, Any]) -> str:
    """Flat dotted settings as TOML."""
    lines = [f"{key} = {_toml_value(value)}" for key, value in flat.items() if "." not in key]
    for section in dict.fromkeys(key.split(".")[0] for key in flat if "." in key):
        lines += ["", f"[{section}]"]
        lines += [
            f"{key.split('.', 1)[1]} = {_toml_value(value)}"
            for key, value in flat.items()
            if key.startswith(section + ".")
        ]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # JSON may hold a raw DEL, TOML may not


def environment_layer(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings given as VITRAIL_*: VITRAIL_OPTIM_LR is optim.lr.

    Unknown names raise UsageError VIT-216.
    """
    by_name = {"VITRAIL_" + re.sub(r"\W", "_", key).upper(): key for key in [*known_keys(), *SHORT]}
    layer = {}
    for name, value in environ.items():
        if name.startswith("VITRAIL_"):
            if name not in by_name:
                raise UsageError(
                    "VIT-216", f"unknown environment variable {name}. {nearest(name, by_name)}"
                )
            layer[by_name[name]] = value
    return layer


def config_hash(config: BaseModel) -> str:
    """16 hex digits that change with any setting."""
    return hashlib.sha256(
        json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()
    ).hexdigest()[:16]
