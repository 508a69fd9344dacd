"""What a network with BatchNorm means for a run, said before its first step.

A mean and a variance are those of the images that pass together: a batch, or each part of it with
accumulation. Batches are never partial (`data/loading/order.py`), and evaluation takes the running
values, so a short last batch is nowhere seen. Where the layers are frozen nothing of this happens.
"""

from __future__ import annotations

from vitrail.config import TrainConfig
from vitrail.models.cost import running_values
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

FEW_IMAGES = 8  # arXiv 1803.08494, figure 1: below that GroupNorm is clearly better


def sentences(config: TrainConfig, model: ModelConfig) -> tuple[str, ...]:
    """What is worth saying of a run of `config`, whose batch size is settled; none without
    BatchNorm."""
    if not running_values(model):
        return ()
    if config.freeze == "body" or config.lora.rank:
        return ("BatchNorm keeps the means and variances of the model that training starts from",)
    batch, parts = int(config.batch_size), config.optim.accumulate
    seen = batch // parts
    field = "model.stem_norm" if isinstance(model, ViTConfig) else "model.norm"
    number = count(seen, "image")
    if parts > 1:
        return (
            f"BatchNorm sees {number} at a time, each of the {count(parts, 'part')} of a "
            f"batch of {batch}: "
            f"not what it computes of the whole batch. The same in any parts: --{field} group",
        )
    if seen < FEW_IMAGES:
        return (
            f"BatchNorm sees {number} at a time, few for a mean and a variance: "
            f"a larger --batch-size, or --{field} group",
        )
    return ()
