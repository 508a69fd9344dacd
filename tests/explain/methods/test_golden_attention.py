"""Attention of models that other libraries wrote, against the arrays those libraries gave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden.case import CASES, STATED, read_case
from tests.rounding import EXACT, float32_error, row_sum_error
from vitrail.checkpoints.external import read_external
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import explain
from vitrail.explain.methods.walk import blocks_of, evaluating, logits_of, run_blocks
from vitrail.models.vit.model import ViT

OTHER_SIZE = "fb_dinov2_resized"  # its images need the position table of another grid
WITH_ATTENTION = sorted(
    folder.name
    for folder in CASES.iterdir()
    if folder.name != OTHER_SIZE
    and (folder / "io.npz").is_file()
    and "attn" in np.load(folder / "io.npz").files
)


def open_case(name: str) -> tuple[ViT, dict[str, torch.Tensor]]:
    """The model in the file, and the arrays."""
    case = read_case(name)
    path = case.folder if name.startswith(("hf_", "timm_")) else case.checkpoint
    model = read_external(path, given=STATED.get(name)).model
    assert isinstance(model, ViT)
    return model, case.arrays


def attention_of(model: ViT, images: torch.Tensor) -> list[torch.Tensor]:
    """Layer by layer, (B, heads, N, N)."""
    found: list[torch.Tensor] = []
    with evaluating(model):
        layers = range(model.config.depth)
        run_blocks(model, model.embed(images), layers, lambda _, values: found.append(values))
    return found


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_every_layer(name: str) -> None:
    """All images, layers and heads within 1e-5; maps are made of the same numbers.

    In float64, so that all of the difference is the rounding of the library that wrote the arrays
    (6e-6 at most): the verdict is the same on every processor.
    """
    model, data = open_case(name)
    model.double()
    images = data["x"].double()
    found = attention_of(model, images)
    assert len(found) == len(data["attn"])
    for layer, expected in zip(found, data["attn"], strict=True):
        assert (layer - expected).abs().max() <= 1e-5
    config = model.config
    maps = explain(model, images[:1], Request("attention", layer=0, head=0, token=(0, 0)))
    row = data["attn"][0, 0, 0, config.num_prefix, config.num_prefix :]
    assert np.abs(maps.grid - row.view(config.grid).numpy()).max() <= 1e-5
    if "attn_pool" in data:
        pooled = explain(model, images[:1], Request("attention", layer="pool", head=1)).grid
        expected = data["attn_pool"][0, 1, 0, config.num_prefix :].view(config.grid)
        assert np.abs(pooled - expected.numpy()).max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", WITH_ATTENTION)
@pytest.mark.parametrize("by_probabilities", [False, True], ids=["seen", "used"])
def test_logits_of_the_fused_path(name: str, by_probabilities: bool, dtype: torch.dtype) -> None:
    """Attention that is looked at, and that makes the tokens where gradients are wanted: the logits
    of the fused kernel up to the order of additions (float64), up to the roundings of both ways
    (float32). Every row sums to 1.
    """
    model, data = open_case(name)
    model.to(dtype)
    images = data["x"].to(dtype)
    sums: list[torch.Tensor] = []
    with evaluating(model):
        fused = model(images)
        with torch.set_grad_enabled(by_probabilities):
            x = run_blocks(
                model,
                model.embed(images),
                range(model.config.depth),
                lambda _, attention: sums.append(attention.detach().sum(-1)),
            )
            tapped = logits_of(model, x).detach()
    is_exact = dtype == torch.float64
    largest = EXACT if is_exact else 2 * float32_error(model, fused)
    assert (tapped - fused).abs().max() <= largest
    assert len(sums) == model.config.depth
    of_rows = EXACT if is_exact else row_sum_error(model.config.num_tokens)
    assert all((one - 1).abs().max() <= of_rows for one in sums)


def test_there_are_cases_of_every_library() -> None:
    origins = {name.split("_")[0] for name in WITH_ATTENTION}
    assert origins >= {"timm", "fb", "hf", "google", "bv", "torchvision"}


def test_negative_control() -> None:
    """With queries and keys exchanged it is another matrix."""
    model, data = open_case("timm_vit_token")
    width = model.config.width
    with torch.no_grad():
        for name in ("weight", "bias"):
            rows = blocks_of(model)[0].get_parameter(f"attn.qkv.{name}")[: 2 * width]
            rows.copy_(rows.roll(width, 0))
    assert (attention_of(model, data["x"])[0] - data["attn"][0]).abs().max() > 1e-3
