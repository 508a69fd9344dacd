"""The runtime that is always there: torch, in float32 or under autocast to bfloat16."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from vitrail.runtime.runtime import Array, RuntimeInfo

BATCH = 32  # not measured: what prediction has always used


class FeatureModel(Protocol):
    """What every architecture of vitrail offers."""

    @property
    def config(self) -> BaseModel: ...
    def features(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TorchRuntime:
    """`model`, on the device where its parameters lie; input_size: channels, height and width in
    px. The model computes in evaluation mode and is left in the mode it was in.
    """

    model: nn.Module
    input_size: tuple[int, int, int]
    precision: str = "float32"

    @property
    def device(self) -> torch.device:
        """Where the model computes; the CPU for one without parameters."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def info(self) -> RuntimeInfo:
        """Engine "torch", with the threads that torch has now."""
        threads = torch.get_num_threads()
        return RuntimeInfo(
            "torch", self.precision, str(self.device), threads, self.input_size, BATCH
        )

    def logits(self, images: Array) -> Tensor:
        """Float32 (B, K) on the model's device, of normalised images (B, C, H, W), a tensor or an
        array.
        """
        with self._inference():
            return cast(Tensor, self.model(self._placed(images)).float())

    def features(self, images: Array) -> Tensor:
        """Float32 (B, R) on the model's device: what enters the head."""
        with self._inference():
            return cast(FeatureModel, self.model).features(self._placed(images)).float()

    @cached_property
    def identity(self) -> str:
        """sha256 hex digits of the model's architecture, every number in it, and the share of its
        tokens that is kept.
        """
        digest = hashlib.sha256(type(self.model).__name__.encode())
        digest.update(cast(FeatureModel, self.model).config.model_dump_json().encode())
        if (kept := getattr(self.model, "kept_tokens", 1.0)) < 1:
            digest.update(f"\0tokens {kept!r}\0".encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"\0{name}:{value.dtype}:{tuple(value.shape)}\0".encode())
            numbers = value.detach().cpu().contiguous().reshape(-1)
            digest.update(numbers.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _placed(self, images: Array) -> Tensor:
        return torch.as_tensor(images).to(self.device, non_blocking=True)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(
                    self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
                ),
            ):
                yield
        finally:
            self.model.train(was_training)
