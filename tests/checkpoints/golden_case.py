"""Golden cases as tests read them, and models with random tensors to be written and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.mapping.fact import GIVEN
from vitrail.checkpoints.mapping.origin import ExportLayout, Origin, Recognised
from vitrail.checkpoints.mapping.rules import (
    Header,
    MappingReport,
    TensorSource,
    read_state,
    write_state,
)
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.create import build
from vitrail.models.layers.tap import TapDict
from vitrail.models.names import ModelConfig, PublishedConfig
from vitrail.models.vit.posemb import sincos_2d

CASES = Path(__file__).resolve().parents[1] / "golden" / "cases"
# Arrays of io.npz by the name in our tap, where they are not the same.
ARRAYS = {"attn_pool": "pool/attention", "root": "stem", "block1": "stage0", "block2": "stage1"}
State = Mapping[str, Tensor]
# Of a ViT that says what it is but for its heads.
SMALL: dict[str, Any] = {
    "image_size": (16, 16),
    "patch_size": (8, 8),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 20,
    "num_classes": 3,
}


@dataclass
class Tensors:
    """Tensors in memory as a TensorSource."""

    header: Header
    values: State

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        return self.values[name]


def source(values: State, metadata: Mapping[str, Any] | None = None, **given: Any) -> Tensors:
    """Tensors with the header that a reader would give. given: what the user states."""
    shapes = {key: tuple(value.shape) for key, value in values.items()}
    stated = {GIVEN: given} if given else {}
    return Tensors(Header("file", shapes, metadata=dict(metadata or {}) | stated), values)


def case_source(case: str, **given: Any) -> Tensors:
    """The checkpoint of a golden case. given: what its file does not say, as image_size."""
    folder = CASES / case
    path = folder / json.loads((folder / "case.json").read_text())["checkpoint"]
    file = open_tensors(path)
    values = {name: file.read(name).clone() for name in file.header.shapes}
    file.close()
    stated = {GIVEN: given} if given else {}
    return Tensors(replace(file.header, metadata={**file.header.metadata, **stated}), values)


def outputs(case: str) -> dict[str, Tensor]:
    """Inputs and expected outputs of a golden case."""
    with np.load(CASES / case / "io.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def recognised(origin: Origin, tensors: TensorSource) -> Recognised:
    """What the origin makes of a header that must be its own."""
    found = origin.recognise(tensors.header)
    assert found is not None
    return found


def fill(found: Recognised, tensors: TensorSource) -> tuple[nn.Module, MappingReport]:
    """The model of a file, for evaluation."""
    model = build(found.config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state, report = read_state(tensors, found.rules, shapes)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval(), report


def read(origin: Origin, tensors: TensorSource) -> tuple[nn.Module, Recognised]:
    """A file whose every tensor must find its place."""
    found = recognised(origin, tensors)
    model, report = fill(found, tensors)
    assert report.is_complete, (report.missing, report.unused)
    return model, found


def write(
    origin: Origin,
    model: nn.Module,
    preprocess: Preprocess | None = None,
    classes: tuple[str, ...] = (),
) -> tuple[Tensors, ExportLayout]:
    """The model as the origin writes it; what the file does not say is stated again to read it."""
    config: PublishedConfig = model.config  # type: ignore[assignment]
    height, width = config.image_size
    preprocess = preprocess or Preprocess(height=height, width=width, resize=(height, width))
    record = origin.write(config, preprocess, classes)
    metadata = {name: json.loads(text) for name, text in record.files.items()}
    values = write_state(model.state_dict(), record.rules)
    return source(values, metadata, image_size=config.image_size), record


def assert_same_tensors(one: State, other: State) -> None:
    """Bit for bit, name by name."""
    assert set(one) == set(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert torch.equal(value, other[name]), name


def assert_round_trip(origin: Origin, model: nn.Module) -> Tensors:
    """Written, read and written again: the same tensors on both sides. Returns the file."""
    file, _ = write(origin, model)
    again, _ = read(origin, file)
    assert_same_tensors(model.state_dict(), again.state_dict())
    twice, _ = write(origin, again)
    assert_same_tensors(file.values, twice.values)
    return file


def assert_outputs(model: nn.Module, data: Mapping[str, Tensor]) -> None:
    """Logits within 1e-5 in float32; all that is given in float64 within 1e-9.

    The arrays between are recorded in float32 with values up to 42, and lie as far from the float64
    pass of either implementation: they are compared with ours, within 1e-5 of the largest.
    """
    logits = model(data["x"])
    if "logits" in data:
        assert (logits - data["logits"]).abs().max() <= 1e-5
    store: TapDict = {}
    doubled = as_double(model)(data["x"].double(), tap=store)
    taps = {key: value for key, value in store.items() if value is not None} | {"logits": doubled}
    for key, label in (("blocks", "output"), ("attn", "attention")):
        parts = [value for name, value in taps.items() if name.endswith(f"/{label}")]
        if key in data:
            taps[key] = torch.stack([part for part in parts if part.shape == data[key].shape[1:]])
    compared = 0
    for key, expected in data.items():
        plain = key.removesuffix("_f64")
        value = taps.get(ARRAYS.get(plain, plain))
        if value is None or value.shape != expected.shape:
            continue
        limit = 1e-9 if key != plain else 1e-5 * max(1.0, float(expected.abs().max()))
        assert (value - expected).abs().max() <= limit, key
        compared += 1
    assert compared >= 4
    model.float()


def as_double(model: nn.Module) -> nn.Module:
    """The model in float64, computed positions too: their buffer is float32."""
    model.double()
    if getattr(model, "pos_embed_fixed", None) is not None:
        config: Any = model.config
        table = torch.from_numpy(sincos_2d(config.grid, config.width)).unsqueeze(0)
        model.pos_embed_fixed = table
    return model


def random_model(config: ModelConfig, seed: int = 0) -> nn.Module:
    """Every tensor random, so that nothing that is lost stays unseen; logits of the order of 1."""
    generator = torch.Generator().manual_seed(seed)
    model = build(config)
    state = {}
    for name, value in model.state_dict().items():
        values = torch.randn(value.shape, generator=generator)
        fan_in = max(1, value[0].numel()) if value.ndim > 1 and "embed" not in name else 1
        state[name] = values / fan_in**0.5 if value.ndim > 1 else 1 + values / 2
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def pictures(config: ModelConfig, seed: int = 1) -> Tensor:
    """Three images that the model takes, (3, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, config.channels, *config.image_size, generator=generator)


def with_exchanged(found: Recognised) -> Recognised:
    """A negative control: in every rule of several of their tensors the first two exchange places.

    These are query and key of attention; where a rule has one tensor, the two norms of a unit.
    """
    rules = [
        replace(rule, theirs=(rule.theirs[1], rule.theirs[0], *rule.theirs[2:]))
        if len(rule.theirs) > 2
        else rule
        for rule in found.rules
    ]
    assert rules != found.rules
    return replace(found, rules=rules)
