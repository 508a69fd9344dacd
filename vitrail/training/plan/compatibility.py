"""Settings of transfer that only make sense together: refused here before anything is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitrail.config import LossConfig, TrainConfig
from vitrail.data.sources.open_data import Splits
from vitrail.errors import UsageError
from vitrail.models.cost import running_values
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.training.plan.pinned_model import load_pinned


def check_compatible(config: TrainConfig, model: ModelConfig, splits: Splits) -> None:
    """Raises UsageError VIT-226, VIT-244, VIT-246, VIT-248 to VIT-251, VIT-253, VIT-255."""
    for key, why in idle_settings(config):
        raise UsageError("VIT-246", f"{key} has no effect: {why}.", hint="Leave it out.")
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
    if config.distill.teacher and splits.multi_label:
        raise UsageError(
            "VIT-253",
            "--teacher: the pictures have several labels each; a teacher answers with one class.",
            hint="Leave --teacher out.",
        )


def idle_settings(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """(setting, why it does nothing) of what was changed and is read by nothing."""
    data, distill = config.data, config.distill
    without = {
        "start": (config.start.model == "", "no model to start from was given (--from)"),
        "lora": (config.lora.rank == 0, "there are no adapters (--lora-rank)"),
        "distill": (distill.teacher == "", "there is no teacher (--teacher)"),
    }
    for section, (is_idle, why) in without.items():
        for key in _changed(config, section) if is_idle else ():
            yield f"{section}.{key}", why
    for key in ("resize", "interpolation", "normalize"):
        if without["start"][0] and data.model_dump()[key] == "source":
            yield f"data.{key} source", without["start"][1]
    if distill.teacher and distill.kind == "hard" and "temperature" in _changed(config, "distill"):
        yield "distill.temperature", "it belongs to --distill.kind soft"
    if data.resize == "source" and data.crop_fraction != 1.0:
        yield "data.crop_fraction", "pictures are resized as the model was trained"
    if config.freeze == "body" and config.optim.layer_decay < 1:
        yield "optim.layer_decay", "only the head is trained (--freeze body)"


def _changed(config: TrainConfig, section: str) -> list[str]:
    values, plain = config.model_dump()[section], TrainConfig().model_dump()[section]
    return [key for key, value in values.items() if value != plain[key]]


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


def check_teacher(config: TrainConfig, classes: Sequence[str]) -> TrainConfig:
    """`config` with the hash of the teacher, which is opened to see that it fits.

    Raises what `open_teacher` raises.
    """
    distill = config.distill
    found, model_config, sha256 = load_pinned(distill.teacher, distill.sha256, "distill.teacher")
    class_columns(distill.teacher, found.classes, model_config.num_classes, classes)
    return config.model_copy(update={"distill": distill.model_copy(update={"sha256": sha256})})


def class_columns(
    name: str, known: Sequence[str], outputs: int, classes: Sequence[str]
) -> list[int]:
    """Which output of the teacher stands for each of `classes`.

    known: its classes, by name; without names its `outputs` must be as many as the classes are.
    Raises UsageError VIT-252 where one is missing.
    """
    if not known:
        if outputs == len(classes):
            return list(range(outputs))
        raise UsageError(
            "VIT-252",
            f"teacher {name} has {outputs} outputs without names; the data has {len(classes)} "
            "classes.",
            hint="Choose a teacher that was trained on these classes.",
        )
    missing = [one for one in classes if one not in known]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise UsageError(
            "VIT-252",
            f"teacher {name} does not know the class {shown}; it knows "
            f"{', '.join(known[:5])}{' ...' if known[5:] else ''}.",
            hint="Choose a teacher that was trained on these classes.",
        )
    return [list(known).index(one) for one in classes]


def check_encoder(config: ModelConfig) -> ViTConfig:
    """Refuse what has no patches whose colour could be asked. Raises UsageError VIT-251."""
    if not isinstance(config, ViTConfig):
        raise UsageError(
            "VIT-251",
            f"objective masked_patches needs a Vision Transformer, got the family {config.family}.",
            hint="Choose one: --model vit_s16",
        )
    (height, width), (h, w) = config.image_size, config.grid
    if config.drop_rest or height % h or width % w:
        raise UsageError(
            "VIT-251",
            f"objective masked_patches: {height}x{width} px do not divide into {h}x{w} patches.",
            hint="Choose another --image-size, or a model without a stem.",
        )
    return config
