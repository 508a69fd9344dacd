"""What training minimises: softmax, sigmoid and binary cross-entropy with soft or several labels.

Sources: softmax cross-entropy of the ViT paper (arXiv 2010.11929, section 4.1 and appendix B.1);
sigmoid cross-entropy summed over classes as in big_vision `utils.sigmoid_xent`; binary
cross-entropy averaged over classes as in DeiT-III (arXiv 2204.07118, section 3). All of them run in
float32 whatever the logits' type: exponentials lose too much in bfloat16. A head of zeros gives
ln(classes), classes * ln 2 and ln 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.config import LossConfig
from vitrail.errors import DataError
from vitrail.spelling import count


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Targets (B, K) float32 from class numbers (B,) int64; several-label targets (B, K) are passed
    on as float32.
    """
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"targets {tuple(labels.shape)} do not have {count(num_classes, 'class')}"
            )
        return labels.float()
    return F.one_hot(labels, num_classes).float()  # (B, K)


def smooth(targets: Tensor, amount: float) -> Tensor:
    """Targets (B, K) moved by `amount` in [0, 1) towards the uniform 1 / K (arXiv 1512.00567,
    section 7).
    """
    return targets if amount == 0 else targets * (1.0 - amount) + amount / targets.shape[1]


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Class weights (K,) float32 inversely proportional to the classes' counts: sum(counts) / (K *
    count).

    Their mean over the training examples is 1, so that the scale of the loss and of the learning
    rate stays. Raises DataError VIT-327 for a class without a single example.
    """
    if empty := [index for index, count in enumerate(counts) if count <= 0]:
        raise DataError(
            "VIT-327",
            f"balanced class weights need at least one training image a class; classes number "
            f"{', '.join(map(str, empty[:10]))} have none ({len(empty)} of {len(counts)}).",
            hint="Add images of these classes, or use --loss.class-weights none.",
        )
    numbers = torch.tensor(counts, dtype=torch.float64)
    return (numbers.sum() / (len(counts) * numbers)).float()


def loss(
    logits: Tensor, targets: Tensor, config: LossConfig, class_weights: Tensor | None = None
) -> Tensor:
    """The mean over the batch of the loss that `config` names, a float32 scalar.

    logits: (B, K). targets: (B, K) float, rows that sum to 1 (softmax) or values in [0, 1]
    (sigmoid, bce), without label smoothing: it is applied here. class_weights: (K,), multiplies
    each class's term.
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} differ in shape"
        )
    logits = logits.float()
    targets = smooth(targets.float(), config.label_smoothing)
    if config.name == "softmax":
        terms = -targets * F.log_softmax(logits, dim=1)  # (B, K)
    else:  # two log-sigmoids: torch's one-sided formula loses small terms to cancellation
        terms = -targets * F.logsigmoid(logits) - (1.0 - targets) * F.logsigmoid(-logits)  # (B, K)
    if class_weights is not None:
        terms = terms * class_weights.float()
    return terms.mean() if config.name == "bce" else terms.sum(dim=1).mean()
