"""Initial values: closed forms of the bounds and variances of spec and papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.models.bit.config import BiTConfig
from vitrail.models.create import create_model
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig

SIZES: dict[str, Any] = {
    "image_size": (60, 35),
    "patch_size": (5, 7),
    "width": 96,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 210,
    "num_classes": 11,
}


def values(**changes: Any) -> dict[str, Tensor]:
    """Name to initial value of a small model."""
    model = create_model(ViTConfig(**(SIZES | changes)), seed=3)
    return {name: value.detach() for name, value in model.named_parameters()}


def assert_uniform(value: Tensor, bound: float) -> None:
    """Inside +-bound, close to it, and with the variance bound^2 / 3 to 4 standard errors."""
    assert value.abs().max() <= bound
    assert value.abs().max() > 0.99 * bound
    # The variance of x^2 is 4/45 bound^4 for x uniform in +-bound.
    error = 4 * math.sqrt(4 / 45 / value.numel()) * bound**2
    assert value.square().mean().item() == pytest.approx(bound**2 / 3, abs=error)


def assert_normal(value: Tensor, deviation: float) -> None:
    """Mean 0 and the given standard deviation, to 4 standard errors."""
    count = value.numel()
    assert value.mean().abs() <= 4 * deviation / math.sqrt(count)
    measured = value.square().mean().sqrt().item()
    assert measured == pytest.approx(deviation, rel=4 / math.sqrt(2 * count))


def test_xavier_is_per_projection() -> None:
    """Not over the fused (3D, D) kernel, whose bound would be smaller by sqrt(2)."""
    start = values(pool="map", mlp="swiglu")
    bound = math.sqrt(6 / (96 + 96))
    for part in start["blocks.1.attn.qkv.weight"].chunk(3):
        assert_uniform(part, bound)
    for part in start["attn_pool.kv.weight"].chunk(2):
        assert_uniform(part, bound)
    for name in ("blocks.0.attn.proj", "attn_pool.q", "attn_pool.proj"):
        assert_uniform(start[f"{name}.weight"], bound)
    for part in start["blocks.0.mlp.fc1.weight"].chunk(2):  # packed SwiGLU
        assert_uniform(part, math.sqrt(6 / (96 + 210)))
    assert_uniform(start["attn_pool.mlp.fc1.weight"], math.sqrt(6 / (96 + 210)))
    assert_uniform(start["attn_pool.latent"], math.sqrt(6 / (1 + 96)))


def test_kernels_and_biases_of_the_mlp() -> None:
    start = values()
    assert_uniform(start["blocks.0.mlp.fc1.weight"], math.sqrt(6 / (96 + 210)))
    assert_uniform(start["blocks.1.mlp.fc2.weight"], math.sqrt(6 / (96 + 210)))
    assert_normal(start["blocks.0.mlp.fc1.bias"], 1e-6)
    assert_normal(start["blocks.0.mlp.fc2.bias"], 1e-6)


def test_lecun_normal() -> None:
    """Variance 1 / fan_in after the cut at 2 deviations."""
    start = values(representation_size=130)
    fan_in = 3 * 5 * 7
    for name, fan in (("patch_embed.proj.weight", fan_in), ("pre_logits.weight", 96)):
        measured = start[name].square().mean().item()
        assert measured == pytest.approx(1 / fan, rel=4 * math.sqrt(2 / start[name].numel()))
        assert start[name].abs().max() <= 2 * math.sqrt(1 / fan) / 0.87962566 + 1e-6


def test_tables_and_tokens() -> None:
    start = values(distillation_token=True, num_registers=5)
    assert_normal(start["pos_embed"], 0.02)
    assert_normal(start["reg_token"], 0.02)
    assert_normal(start["dist_token"], 0.02)
    assert not start["cls_token"].any()
    flat = values(posemb="learned_2d")
    assert_normal(flat["pos_embed_x"], 0.02)
    assert_normal(flat["pos_embed_y"], 0.02)
    assert_normal(values(posemb="relative")["blocks.1.attn.relative.keys"], 0.02)


def test_constants() -> None:
    start = values(
        layer_scale=0.125, qk_norm=True, pre_norm=True, distillation_token=True, head_bias_init=-7.0
    )
    ones = [name for name in start if "norm" in name and name.endswith("weight")]
    assert len(ones) == 2 + 2 * 4  # before and after the blocks; two norms, of q and of k a block
    assert all((start[name] == 1).all() for name in ones)
    assert (start["blocks.0.ls1.gamma"] == 0.125).all()
    for name in ("head", "head_dist"):
        assert not start[f"{name}.weight"].any()
        assert (start[f"{name}.bias"] == -7).all()
    zeros = [name for name in start if name.endswith("bias") and "mlp" not in name]
    assert not any(start[name].any() for name in zeros if "head" not in name)


def test_stems_and_bit() -> None:
    """LeCun-normal kernels; of post-activated units the last norm starts at 0."""
    stem: dict[str, Any] = {"stem": "resnet", "stem_width": 32, "stem_stages": (1, 2)}
    start = values(**stem, patch_size=(1, 1))
    kernel = start["patch_embed.backbone.stages.1.blocks.0.conv2.weight"]  # (64, 64, 3, 3)
    measured = kernel.square().mean().item()
    assert measured == pytest.approx(1 / 576, rel=4 * math.sqrt(2 / kernel.numel()))
    units = "patch_embed.backbone.stages.1.blocks"
    assert not start[f"{units}.1.norm3.weight"].any()
    for name in (
        f"{units}.0.norm2",
        f"{units}.0.downsample.norm",
        "patch_embed.backbone.stem.norm",
    ):
        assert (start[f"{name}.weight"] == 1).all()
        assert not start[f"{name}.bias"].any()
    for style, scale in (("v2", 1.0), ("v1_gn", 0.0)):
        config = BiTConfig(
            image_size=(9, 8),
            depths=(1,),
            style=style,  # type: ignore[arg-type]
            num_classes=5,
            head_bias_init=-7.0,
        )
        bit = dict(create_model(config).named_parameters())
        assert (bit["stages.0.blocks.0.norm3.weight"] == scale).all()
        assert not bit["head.fc.weight"].any()
        assert (bit["head.fc.bias"] == -7).all()


def test_convolutional_tokenizer_is_he_normal() -> None:
    convs: dict[str, Any] = {"stem": "conv", "stem_convs": 2, "stem_width": 50, "pool": "seq"}
    start = values(**convs, patch_size=(1, 1))
    for number, fan_in in enumerate((9 * 3, 9 * 50)):
        assert_normal(start[f"patch_embed.convs.{number}.weight"], math.sqrt(2 / fan_in))
    assert_uniform(start["seq_pool.score.weight"], math.sqrt(6 / (96 + 1)))


def test_first_loss_is_ln_of_the_number_of_classes() -> None:
    model = create_model(ViTConfig(**SIZES))
    logits = model(torch.randn(3, 3, 60, 35))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 4, 10]))
    assert loss.item() == pytest.approx(math.log(11), abs=1e-6)


def test_seed_decides_and_global_generator_is_left_alone() -> None:
    config = ViTConfig(**SIZES)
    torch.manual_seed(8)
    before = torch.get_rng_state()
    models = [create_model(config, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    kernels = [model.get_parameter("blocks.0.attn.qkv.weight") for model in models]
    assert torch.equal(kernels[0], kernels[1])
    assert not torch.equal(kernels[0], kernels[2])


def test_other_options_leave_a_parameter_as_it_was() -> None:
    """Draws are keyed by name: a study that changes one thing changes one thing."""
    start, other = values(), values(num_classes=5, num_registers=2, depth=3, layer_scale=0.1)
    for name in set(start) & set(other) - {"head.weight", "head.bias"}:
        assert torch.equal(start[name], other[name]), name


def test_values_are_fixed() -> None:
    """In every release the same, to the rounding of the processor: sums of vit_digits, seed 0."""
    model = create_model("vit_digits", num_classes=10, channels=1)
    start = dict(model.named_parameters())
    for name, expected in GOLDEN_SUMS.items():
        assert start[name].double().sum().item() == pytest.approx(expected, rel=1e-5)


GOLDEN_SUMS = {
    "patch_embed.proj.weight": -1.571658,
    "pos_embed": -1.495707,
    "blocks.3.attn.qkv.weight": 8.714041,
    "blocks.0.mlp.fc1.bias": -1.252385e-05,
}


def test_default_device_and_dtype_do_not_matter() -> None:
    config = resolve_model("vit_digits", num_classes=10)
    expected = create_model(config).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = create_model(config).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {value.dtype for value in found.values()} == {torch.float32}
