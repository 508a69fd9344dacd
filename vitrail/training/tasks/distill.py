"""Learning from a teacher beside the labels (DeiT, arXiv 2012.12877, section 4).

- hard: cross-entropy with the class that the teacher holds most likely (equation 3).
- soft: temperature^2 times the divergence of the student's distribution from the teacher's, both at
  that temperature, the mean over the images (equation 2). DeiT's code divides by the number of
  classes as well.

With a distillation token the label's loss is that of the first head and the teacher's part that of
the second; without one, both are of the only head. The teacher sees the pixels that the student
sees, cropped, changed and mixed alike, at its own size, with its own mean and deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.config import DistillConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.device import sent
from vitrail.training.plan.check_settings import class_columns
from vitrail.training.plan.pinned_model import load_pinned

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as gray images are made
TEACHER_BATCH = 128


@dataclass(frozen=True)
class Teacher:
    """A classifier that answers for the student's classes. columns: int64 (K,), its outputs."""

    model: nn.Module
    preprocess: Preprocess
    temperature: float
    columns: Tensor

    @torch.no_grad()
    def logits(self, images: Tensor, preprocess: Preprocess) -> Tensor:
        """Logits (B, K) for `images` (B, C, H, W), normalised by the student's `preprocess`."""
        seen = recast(images, preprocess, self.preprocess)
        parts = [self.model(part).float() for part in torch.split(seen, TEACHER_BATCH)]
        return torch.cat(parts)[:, self.columns] / self.temperature


def open_teacher(config: DistillConfig, classes: Sequence[str], device: torch.device) -> Teacher:
    """The teacher that `config` names.

    Raises what `vitrail.load` raises, ModelError VIT-404, UsageError VIT-252 for other classes.
    """
    found, model_config, _ = load_pinned(config.teacher, config.sha256, "distill.teacher")
    columns = torch.tensor(
        class_columns(config.teacher, found.classes, model_config.num_classes, classes)
    )
    model = found.model.to(device).eval().requires_grad_(False)
    return Teacher(model, found.preprocess, found.temperature, columns.to(device))


def recast(images: Tensor, theirs: Preprocess, ours: Preprocess) -> Tensor:
    """Normalised `images` (B, C, H, W) of one preprocessing as another one's: its channels, its
    size (squashed), its mean and deviation.
    """
    pixels = images * _column(theirs.std, images) + _column(theirs.mean, images)  # in [0, 1]
    if ours.channels != theirs.channels:
        gray = (pixels * _column(LUMA, images)).sum(1, keepdim=True) if ours.channels == 1 else None
        pixels = pixels.expand(-1, 3, -1, -1) if gray is None else gray
    if (ours.height, ours.width) != tuple(images.shape[2:]):
        mode = "bicubic" if ours.interpolation in ("bicubic", "lanczos") else "bilinear"
        size = (ours.height, ours.width)
        pixels = F.interpolate(pixels, size, mode=mode, antialias=True).clamp(0, 1)
    return (pixels - _column(ours.mean, images)) / _column(ours.std, images)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return sent(torch.tensor(values, dtype=like.dtype).view(-1, 1, 1), like.device)


def teacher_loss(logits: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """The teacher's part of the loss, a float32 scalar. Both (B, K) logits."""
    logits = logits.float()
    if config.kind == "hard":
        return F.cross_entropy(logits, teacher.argmax(dim=1))
    ours = F.log_softmax(logits / config.temperature, dim=1)
    theirs = F.log_softmax(teacher.float() / config.temperature, dim=1)
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return divergence * config.temperature**2
