"""Settings of transfer that only make sense together: refused here before anything is done."""

from __future__ import annotations

from collections.abc import Iterator

from vitrail.config import LossConfig, TrainConfig
from vitrail.data.sources import Splits
from vitrail.errors import UsageError
from vitrail.models.configs import ViTConfig
from vitrail.models.names import ModelConfig
from vitrail.training.masked_patches import check_encoder


def check_together(config: TrainConfig, model: ModelConfig, splits: Splits) -> None:
    """Raises UsageError VIT-226, VIT-246, VIT-248 to VIT-251, VIT-253."""
    for key, why in idle_settings(config):
        raise UsageError("VIT-246", f"{key} has no effect: {why}.", hint="Leave it out.")
    if config.start.model == "":
        _check_random_start(config)
    if config.lora.rank:
        _check_adapters(config, model)
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
