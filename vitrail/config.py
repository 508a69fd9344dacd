"""Every setting of one training run: frozen, typed, hashable.

A recipe (`vitrail/recipes`) is a function that returns a complete `TrainConfig`. A user's settings
reach it in layers: `settings/layers.py`.
No torch here: checking a configuration takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from vitrail.setting_values import (
    MOST,
    Only,
    Pair,
    Positives,
    ReadOf,
    Secs,
    Sha256,
    Share,
    Short,
    Size,
    TextPath,
    parse_number,
    parse_size,
)

Auto = Literal["auto"]
# What several settings of a section have an effect with; `training/plan/idle.py` asks.
LANES = Only("data.order", ("lanes",))
START = Only("start.model")
TEACHER = Only("distill.teacher")
INCEPTION = Only("augment.crop", ("inception",))
RANDAUGMENT = Only("augment.policy", ("randaugment",))
NOT_SGD = Only("optim.name", ("adamw", "lamb", "muon", "schedule_free"))
STAIR = Only("schedule.name", ("stair",))
LATER = {"exact": False}  # settings that came later, and what was before: old hashes stay


class Section(BaseModel):
    """A frozen group of settings; an unknown name is an error. The sentence below a field is what
    help, docs/cli.md and config.toml say of it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: object) -> object:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and abs(number) > MOST:
                raise ValueError(f"expected a number of at most {MOST:.0e}")
        return value


class DataConfig(Section):
    """Where images come from and how they become a tensor."""

    path: TextPath = ""
    """DATA: a folder, a table or a file of images, or builtin:digits."""
    image_size: Annotated[Size | Auto, BeforeValidator(parse_size), Short("image_size")] = "auto"
    """Pixels that the model sees, height first."""
    channels: Annotated[Literal[1, 3] | Auto, BeforeValidator(parse_number)] = "auto"
    """Channels that the model sees: 1 gray, 3 colour."""
    resize: Literal["squash", "short_side", "source"] = "squash"
    """Resize both sides, or the short side and cut out the centre, or as the model of --from."""
    crop_fraction: Annotated[float, Field(gt=0, le=1), Only("data.resize", ("short_side",))] = 1.0
    """Side of the centre crop as a share of the resized short side, with resize short_side."""
    interpolation: Literal["bilinear", "bicubic", "source"] = "bicubic"
    """Filter that resizes; source: that of the model of --from."""
    normalize: Literal["half", "imagenet", "dataset", "source"] = "half"
    """Mean and deviation: 0.5 each, ImageNet's, the training images', or the model's of --from."""
    val_fraction: Annotated[Annotated[float, Field(ge=0, lt=1)] | Auto, Short("val_fraction")] = (
        "auto"
    )
    """Share of the training images held out for validation where there is no val folder."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    """Share of the images held out for the test where there is no test folder."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the held-out images; not given: seed. Runs that share it share held-out images."""
    train_pictures: Annotated[int, Field(ge=1)] | None = None
    """Train on so many images, by class, in an order of seed where fewer are always among more."""
    on_bad_file: Annotated[Literal["stop", "skip"], Short("on_bad_file"), ReadOf("files")] = "stop"
    """What to do about images that cannot be decoded."""
    max_pixels: Annotated[int, Field(ge=1), ReadOf("files")] = 64_000_000
    """Images of more pixels count as bad files."""
    workers: Annotated[
        Annotated[int, Field(ge=0, le=256)] | Auto, Short("workers"), ReadOf("files")
    ] = "auto"
    """Processes that decode images; 0: the training process itself."""
    cache: Annotated[TextPath, ReadOf("store")] = ""
    """Folder for shards of an object store (s3://...); not given: the user's cache."""
    cache_bytes: Annotated[int, Field(ge=1), ReadOf("store")] = 100_000_000_000
    """Bytes of those shards kept at a time; what was used longest ago gives way."""
    order: Literal["full", "lanes"] = "full"
    """Order of an epoch: drawn over all images, or from shard to shard, for object stores."""
    lanes: Annotated[int, Field(ge=1, le=65_536), LANES] = 8
    """With order lanes: streams of shards that each batch takes as many images from."""
    window: Annotated[int, Field(ge=1), LANES] = 4096
    """With order lanes: images of a stream that are shuffled among each other."""


class ModelSettings(BaseModel):
    """A named architecture, and fields of it that should differ (`--model.depth 6`)."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    name: Annotated[str, Short("model")] = "auto"
    """An architecture as vit_s16, r50_vit_b16, bit_r50x1 or resnet_s (all: vitrail models), auto,
    or auto-vit for the best ViT."""

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields given beside the name; checked when the architecture is resolved."""
        return dict(self.model_extra or {})


class StartConfig(Section):
    """The model whose weights a run starts from."""

    model: Annotated[TextPath, Short("from")] = ""
    """Start from the weights of this model: a run, a model folder, a foreign checkpoint, a name."""
    sha256: Annotated[Sha256, START] = ""
    """Of its weights, classes and architecture; filled in when the run starts."""
    given: Annotated[str, START] = ""
    """Fields of the architecture that the file does not say, "num_heads=6 ln_eps=1e-6" (--set)."""
    origin: Annotated[str, START] = ""
    """The library whose file it is, where its tensors do not tell (--origin)."""
    table: Annotated[str, START] = ""
    """Which weights of a file that holds several, as model_ema (--table)."""
    map: Annotated[TextPath, START] = ""
    """A TOML file with the names of a home-made model (--map)."""
    head: Annotated[Literal["new", "by_name"], START] = "new"
    """The head: random values, or the model's own rows for classes that it knows by name."""


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685) on the dense layers of the blocks."""

    rank: Annotated[int, Field(ge=0, le=4096), Short("lora_rank")] = 0
    """Train adapters of this rank instead of the body (needs --from); 0: none."""
    alpha: Annotated[float, Field(gt=0), Only("lora.rank")] = 16.0
    """The product of both factors is scaled by alpha / rank."""


class DistillConfig(Section):
    """A teacher (DeiT, arXiv 2012.12877, section 4)."""

    teacher: Annotated[TextPath, Short("teacher")] = ""
    """Teacher model (knowledge distillation): whatever vitrail.load opens."""
    sha256: Annotated[Sha256, TEACHER] = ""
    """Of its weights, classes and architecture; filled in when the run starts."""
    kind: Annotated[Literal["hard", "soft"], TEACHER] = "hard"
    """Learn the teacher's best class, or its probabilities."""
    alpha: Annotated[Share, TEACHER] = 0.5
    """Weight of the teacher's part of the loss."""
    temperature: Annotated[float, Field(gt=0), TEACHER, Only("distill.kind", ("soft",))] = 3.0
    """Divides the logits of both, with kind soft."""


class AugmentConfig(Section):
    """What happens to a training image."""

    crop: Literal["none", "inception", "resize_crop", "pad_crop"] = "inception"
    """A random part: of any size and shape, of the enlarged image, or of the padded image."""
    crop_scale: Annotated[Pair, INCEPTION] = (0.05, 1.0)
    """Least and largest share of the area, with crop inception."""
    crop_ratio: Annotated[Pair, INCEPTION] = (3 / 4, 4 / 3)
    """Least and largest width / height, with crop inception."""
    crop_pad: Annotated[int, Field(ge=0, le=64), Only("augment.crop", ("pad_crop",))] = 4
    """Pixels of reflection around the image, with crop pad_crop."""
    crop_enlarge: Annotated[float, Field(ge=1, le=4), Only("augment.crop", ("resize_crop",))] = (
        7 / 6
    )
    """Resized side as a multiple of the window's, with crop resize_crop."""
    flip: Share = 0.5
    """Probability of a mirror image."""
    policy: Annotated[
        Literal["none", "randaugment", "trivialaugment", "three_augment"], Short("augment")
    ] = "none"
    """Random changes of colour and shape."""
    num_ops: Annotated[int, Field(ge=0, le=8), RANDAUGMENT] = 2
    """Random changes of each image, with policy randaugment."""
    magnitude: Annotated[float, Field(ge=0, le=30), RANDAUGMENT] = 10.0
    """Strength of a change, with policy randaugment; 10: full scale, as in TF and timm."""
    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest relative change of brightness, contrast and saturation; 0: none."""
    erasing: Share = 0.0
    """Probability that a rectangle is replaced by noise."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Blend pairs of images, with a share from Beta(alpha, alpha); 0: off."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Paste a part of another image, of an area from Beta(alpha, alpha); 0: off."""
    repeats: Annotated[int, Field(ge=1, le=8)] = 1
    """How often an image comes in a row, each time augmented anew (repeated augmentation)."""

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _in_order(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        most = 1.0 if info.field_name == "crop_scale" else math.inf
        if not 0 < value[0] <= value[1] <= most:
            limit = " up to 1" if most == 1 else ""
            raise ValueError(f"expected two numbers above 0{limit}, the smaller first")
        return value


class OptimConfig(Section):
    """How weights move along a gradient."""

    name: Literal["adamw", "sgd", "lamb", "muon", "schedule_free"] = "adamw"
    """AdamW, SGD with momentum, LAMB, Muon with AdamW, or AdamW without a schedule."""
    lr: Annotated[float, Field(gt=0), Short("lr")] = 1e-3
    """Peak learning rate."""
    betas: Annotated[Pair, NOT_SGD] = (0.9, 0.999)
    """Decay a step of the averages of gradient and squared gradient; not of sgd."""
    eps: Annotated[float, Field(gt=0), NOT_SGD] = 1e-8
    """Added to the root of the squared gradient's average; not of sgd."""
    momentum: Annotated[Share, Only("optim.name", ("sgd", "muon"))] = 0.9
    """Decay a step of the average gradient, of sgd and muon."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Share of the kernels that a step takes away, before it is multiplied by the rate."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of all gradients together, before the update rule; 0: off."""
    layer_decay: Annotated[float, Field(gt=0, le=1), Only("freeze", ("none",))] = 1.0
    """Each block's rate as a share of the next one's."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Gradient accumulation: parts of a batch, computed in turn, for less memory."""


class ScheduleConfig(Section):
    """The learning rate over the run."""

    name: Literal["cosine", "linear", "polynomial", "rsqrt", "stair", "constant"] = "cosine"
    """How the rate falls behind the warm-up."""
    warmup: Share | Annotated[int, Field(gt=1)] = 0.05
    """Linear rise from 0 to the peak: a share of the run, or steps when above 1."""
    end_lr: Annotated[
        float, Field(ge=0), Only("schedule.name", ("cosine", "linear", "polynomial"))
    ] = 0.0
    """Rate at the end, absolute, with cosine, linear and polynomial."""
    power: Annotated[float, Field(gt=0), Only("schedule.name", ("polynomial",))] = 2.0
    """Exponent of the share of the run that is left, with polynomial."""
    timescale: Annotated[int, Field(ge=1), Only("schedule.name", ("rsqrt",))] = 10_000
    """Steps behind the warm-up until the rate is the peak / sqrt(2), with rsqrt."""
    stair_at: Annotated[Positives, STAIR] = ()
    """Where the rate changes: shares of the run, or steps when above 1, with stair."""
    stair_factors: Annotated[Positives, STAIR] = ()
    """The rate from there on as shares of the peak, with stair."""
    cooldown: Share = 0.0
    """Share of the run, at its end, in which the rate goes linearly to 0."""


class LossConfig(Section):
    """What is minimised."""

    name: Literal["softmax", "sigmoid", "bce"] = "softmax"
    """Cross entropy over classes, or binary cross entropy a class (summed, or averaged)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every label that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weigh examples alike, or each class alike."""


class TrainConfig(Section):
    """Every setting of one run."""

    recipe: str = "auto"
    """A complete set of settings to start from, for instance small.residual or paper.finetune."""
    objective: Literal["classify", "masked_patches"] = "classify"
    """Learn labels, or the mean colours of hidden patches without labels."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Length of training in passes over the training set."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Length of training in optimizer steps."""
    examples: Annotated[int, Field(ge=1)] | None = None
    """Length of training in images seen."""
    time_limit_secs: Annotated[Secs | None, Short("time_limit")] = None
    """Length of training: 90s, 10m or 1.5h; --time-limit needs a unit."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Batch size (images per step)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of an average of the weights, which is evaluated and shipped; 0: off."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers in matrix products; weights and sums are float32."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps."""
    threads: Annotated[int, Field(ge=1)] | Auto = "auto"
    """CPU threads of the training process; the last bits of results can depend on them."""
    exact: bool = False
    """Add the parts of a step in a fixed tree: the same bits for any number of processes."""
    compile: bool = False
    """Compile the training step with torch.compile."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward pass instead of keeping them, for less memory."""
    residual_baseline: bool = True
    """After a training from scratch, train a small residual network as a baseline."""
    freeze: Literal["none", "body"] = "none"
    """Which part is not trained: body is all but the head (needs --from)."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Evaluations without a better val/loss before stopping; 0: never."""
    eval_every_epochs: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Passes over the training images between evaluations."""
    save_every_secs: Annotated[Secs, Short("save_every")] = 600.0
    """Time between checkpoints; --save-every needs a unit."""
    save_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between checkpoints, in addition to those of save_every_secs."""
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    """How many of the newest checkpoints are kept."""
    data: DataConfig = DataConfig()
    model: ModelSettings = ModelSettings()
    start: StartConfig = StartConfig()
    lora: LoraConfig = LoraConfig()
    distill: DistillConfig = DistillConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of `model` and its sections: dotted key and declaration."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


FIELDS = dict(fields_of(TrainConfig))
SHORT = {  # short option: key
    mark.name: key
    for key, field in FIELDS.items()
    for mark in field.metadata
    if isinstance(mark, Short)
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
    return list(FIELDS)


def meaning(field: FieldInfo) -> str:
    """What is said of a field in its declaration, on one line."""
    return " ".join((field.description or "").split())


def config_hash(config: BaseModel) -> str:
    """16 hex digits that change with any setting; those of `LATER` count where they are set."""
    values = config.model_dump(mode="json")
    for name, before in LATER.items():
        if values.get(name) == before:
            del values[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
