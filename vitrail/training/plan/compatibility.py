"""Settings against the architecture, the images and the machine, before anything is done."""

from __future__ import annotations

from vitrail.checkpoints.adapt.fixed_patch import fixed_config
from vitrail.config import LossConfig, TrainConfig
from vitrail.data.sources.open_data import Splits
from vitrail.data.sources.shard_source import ShardSource
from vitrail.device import MOST_THREADS, memory_bytes, num_cores, pick_device, pick_precision
from vitrail.errors import EnvironmentFault, UsageError
from vitrail.models.cost import activation_bytes, parameters, running_values, standardised_bytes
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count
from vitrail.training.optim.schedule import check_schedule


def check_run(
    config: TrainConfig,
    model: ModelConfig,
    splits: Splits,
    total_steps: int | None,
    *,
    is_new: bool,
) -> None:
    """Settings that only make sense together with data and machine.

    is_new: false of a run that is resumed, which goes on with the cores that there are.
    Raises UsageError, EnvironmentFault VIT-503.
    """
    batch, n = int(config.batch_size), len(splits.train)
    if batch > n:
        raise UsageError(
            "VIT-219",
            f"batch size {batch} is larger than the {count(n, 'training image')}.",
            hint="Use --batch-size auto, or a number up to that.",
        )
    if batch % config.optim.accumulate:
        raise UsageError(
            "VIT-219",
            f"batch size {batch} cannot be split into {config.optim.accumulate} equal parts "
            "(optim.accumulate).",
            hint="Choose a divisor of the batch size.",
        )
    if config.data.order == "lanes":
        _check_lanes(config, splits)
    if splits.multi_label and config.loss.name == "softmax":
        raise UsageError(
            "VIT-220",
            "loss softmax: the images have several labels each, expected sigmoid or bce.",
            hint="Use --loss.name sigmoid",
        )
    check_compatible(config, model, splits)
    _check_memory(config, model)
    check_schedule(config.schedule, total_steps)
    device = pick_device(config.device)
    pick_precision(config.precision, device)
    if is_new:
        _check_threads(config)


def _check_lanes(config: TrainConfig, splits: Splits) -> None:
    """Raises UsageError VIT-227 where images lie in no shards, VIT-219 where a batch cannot be
    shared out among the lanes.
    """
    lanes, batch, n = config.data.lanes, int(config.batch_size), len(splits.train)
    if not isinstance(splits.train, ShardSource):
        raise UsageError(
            "VIT-227",
            "--data.order lanes goes from shard to shard; these images are in no shards.",
            hint="Leave it out, or make shards: vitrail data shard DATA OUT",
        )
    if batch % lanes or lanes % config.optim.accumulate or lanes > n:
        parts = config.optim.accumulate
        raise UsageError(
            "VIT-219",
            f"--data.lanes {lanes}: expected a divisor of the batch size {batch}, a multiple of "
            f"the {count(parts, 'part')} of a step (optim.accumulate), and at most "
            f"{count(n, 'training image')}.",
            hint=f"For instance --data.lanes {parts}",
        )


def check_compatible(config: TrainConfig, model: ModelConfig, splits: Splits) -> None:
    """Raises UsageError VIT-226, VIT-244, VIT-248 to VIT-251, VIT-253, VIT-255, VIT-287."""
    if config.optim.name == "schedule_free":
        _check_schedule_free(config)
    if config.start.model == "":
        _check_random_start(config)
    if config.lora.rank:
        _check_adapters(config, model)
    if config.compile and config.checkpoint_activations and running_values(model):
        raise UsageError(
            "VIT-255",
            "--compile and checkpoint_activations with BatchNorm: torch.compile cannot compute "
            "again what must not move the running values again.",
            hint="Leave one of them out, or use GroupNorm (--model.norm group, of a stem "
            "--model.stem_norm group).",
        )
    if config.objective == "masked_patches":
        _check_masked_patches(config, model)
    if isinstance(model, ViTConfig) and model.max_patches is not None:
        _check_variable(config, model.max_patches, splits)
    if config.distill.teacher and splits.multi_label:
        raise UsageError(
            "VIT-253",
            "--teacher: the images have several labels each; a teacher answers with one class.",
            hint="Leave --teacher out.",
        )


def _check_schedule_free(config: TrainConfig) -> None:
    """Its average takes the place of a schedule and of --ema."""
    name, cooldown = config.schedule.name, config.schedule.cooldown
    contradictions = {
        f"--schedule.name {name}: the rate warms up and stays": (
            name != "constant",
            "Use --schedule.name constant",
        ),
        f"--schedule.cooldown {cooldown:g}: the rate stays": (
            cooldown > 0,
            "Use --schedule.cooldown 0",
        ),
        f"--ema {config.ema:g}: it ships an average of its own": (
            config.ema > 0,
            "Use --ema 0",
        ),
    }
    for what, (is_so, hint) in contradictions.items():
        if is_so:
            message = f"--optim.name schedule_free does not go with {what}."
            raise UsageError("VIT-244", message, hint=f"{hint}, or another --optim.name.")


def _check_random_start(config: TrainConfig) -> None:
    if config.freeze == "body":
        raise UsageError(
            "VIT-226",
            "--freeze body: the body would keep its random values, since no --from was given.",
            hint="Name a model: --from MODEL, or leave --freeze out.",
        )
    if config.lora.rank:
        raise UsageError(
            "VIT-248",
            f"--lora-rank {config.lora.rank}: adapters change a trained body; no --from was given.",
            hint="Name a model: --from MODEL, or leave --lora-rank out.",
        )


def _check_adapters(config: TrainConfig, model: ModelConfig) -> None:
    if config.freeze == "body":
        raise UsageError(
            "VIT-249",
            "--freeze body and --lora-rank contradict each other: one trains the head alone, the "
            "other the head and adapters in the body.",
            hint="Keep one of them. With either the body's own weights stay as they are.",
        )
    if not isinstance(model, ViTConfig):
        raise UsageError(
            "VIT-250",
            "--lora-rank: adapters belong to the dense layers of a Transformer's blocks, and "
            f"this model ({model.family}) has none.",
            hint="Leave --lora-rank out, or use --freeze body.",
        )


def _check_masked_patches(config: TrainConfig, model: ModelConfig) -> None:
    check_encoder(model)
    without_labels = {
        "--freeze": config.freeze != "none",
        "--lora-rank": config.lora.rank > 0,
        "--teacher": config.distill.teacher != "",
        "augment.mixup": config.augment.mixup > 0,
        "augment.cutmix": config.augment.cutmix > 0,
        "start.head": config.start.head != "new",
        **{
            f"loss.{key}": value != LossConfig().model_dump()[key]
            for key, value in config.loss.model_dump().items()
        },
    }
    given = [key for key, is_given in without_labels.items() if is_given]
    if given:
        raise UsageError(
            "VIT-251",
            f"{given[0]} does not go with objective masked_patches, which learns from no label.",
            hint="Leave it out. A complete set of settings: --recipe paper.masked_patches",
        )


def _check_variable(config: TrainConfig, max_patches: int, splits: Splits) -> None:
    """Raises UsageError VIT-287 for what needs images of one size."""
    resize = config.data.resize
    one_size = {
        "images in memory, which have one size already": splits.train.images is not None,
        f"--augment.mixup {config.augment.mixup:g}": config.augment.mixup > 0,
        f"--augment.cutmix {config.augment.cutmix:g}": config.augment.cutmix > 0,
        f"--data.resize {resize}": resize not in ("squash", "source"),
        "--teacher": config.distill.teacher != "",
        "--compile": config.compile,
    }
    for what, is_so in one_size.items():
        if is_so:
            raise UsageError(
                "VIT-287",
                f"--model.max-patches {max_patches}: images keep their aspect ratio, which does "
                f"not go with {what}.",
                hint="Leave one of them out.",
            )


def check_encoder(config: ModelConfig) -> ViTConfig:
    """Refuse what has no patches whose colour could be asked. Raises UsageError VIT-251."""
    if not isinstance(config, ViTConfig):
        raise UsageError(
            "VIT-251",
            f"objective masked_patches needs a Vision Transformer, got the family {config.family}.",
            hint="Choose one: --model vit_s16",
        )
    for field in ("patch_sizes", "patch_drop", "max_patches"):
        if getattr(config, field):
            raise UsageError(
                "VIT-251",
                f"objective masked_patches does not go with model.{field}: it asks for the colours "
                "of the patches of one grid, all of them.",
                hint=f"Leave --model.{field} out.",
            )
    (height, width), (h, w) = config.image_size, config.grid
    if config.drop_rest or height % h or width % w:
        raise UsageError(
            "VIT-251",
            f"objective masked_patches: {height}x{width} px do not divide into {h}x{w} patches.",
            hint="Choose another --image-size, or a model without a stem.",
        )
    return config


def _check_threads(config: TrainConfig) -> None:
    """Raise UsageError VIT-219 for more threads than can run."""
    if isinstance(config.threads, int) and config.threads > MOST_THREADS * num_cores():
        raise UsageError(
            "VIT-219",
            f"threads {config.threads}: this machine has {num_cores()} cores.",
            hint="Leave --threads out.",
        )


def _check_memory(config: TrainConfig, model: ModelConfig) -> None:
    """Refuse a batch that will not fit. Raises EnvironmentFault VIT-503."""
    batch, available = int(config.batch_size), memory_bytes()
    if pick_device(config.device).type != "cpu":
        return
    accumulate = config.optim.accumulate
    is_checkpointed = config.checkpoint_activations or config.freeze == "body"
    need = training_bytes(model, batch // accumulate, is_checkpointed=is_checkpointed)
    if need > available:
        fits = largest_batch(model, available, is_checkpointed=is_checkpointed)
        parts = f" in {count(accumulate, 'part')}" if accumulate > 1 else ""
        raise EnvironmentFault(
            "VIT-503",
            f"batch {batch}{parts} needs about {need / 1e9:.1f} GB, {available / 1e9:.1f} GB free. "
            f"Largest that fits at a time: {fits}.",
            hint=_less_memory(batch, fits),
        )


def _less_memory(batch: int, fits: int) -> str:
    """What to do where `batch` images at a time are too many and `fits` are not."""
    if not fits:
        return "Use a smaller model (--model) or a smaller --image-size."
    parts = next(n for n in range(2, batch + 1) if batch % n == 0 and batch // n <= fits)
    return (
        f"Use --optim.accumulate {parts}: the same batch in {count(parts, 'part')}, one after "
        "the other. "
        f"Or --batch-size {min(fits, batch)}, a smaller model or a smaller --image-size."
    )


def training_bytes(model: ModelConfig, batch: int, *, is_checkpointed: bool = False) -> int:
    """Memory of a step: activations, and the weights with gradients, moments and averages."""
    model = with_most_tokens(model)
    return activation_bytes(model, batch, is_checkpointed=is_checkpointed) + weight_bytes(model)


def largest_batch(
    model: ModelConfig, available_bytes: int, *, is_checkpointed: bool = False
) -> int:
    """The largest batch whose step fits into `available_bytes`; 0 where none does."""
    model = with_most_tokens(model)
    one = activation_bytes(model, 1, is_checkpointed=is_checkpointed)
    return max(0, (available_bytes - weight_bytes(model)) // one)


def with_most_tokens(model: ModelConfig) -> ModelConfig:
    """`model` at the smallest of its patches, with which a step needs most."""
    if not isinstance(model, ViTConfig) or not model.patch_sizes:
        return model
    return fixed_config(model, min(model.patch_sizes, key=lambda size: size[0] * size[1]))


def weight_bytes(model: ModelConfig) -> int:
    """Of a step, whatever the batch: a weight, its gradient, two moments, an average; kernels once
    more where they are standardised."""
    return 20 * parameters(model) + standardised_bytes(model)
