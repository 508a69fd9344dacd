"""Images of variable resolution against a reference in NumPy, image by image and without masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.models.check_model import random_model
from vitrail.data.images.packing import PLACE, packed
from vitrail.errors import UsageError
from vitrail.models.layers.axis_matrix import Kernel, axis_matrix, half_pixel_places
from vitrail.models.layers.tap import TapDict
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

BASE: dict[str, Any] = {
    "image_size": (20, 9),  # a table of 4 x 3
    "patch_size": (5, 3),
    "channels": 2,
    "width": 12,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 7,
    "num_classes": 5,
    "max_patches": 17,
}
MODELS: dict[str, dict[str, Any]] = {
    "gap": {"pool": "gap", "num_registers": 2, "norm_after_pool": True},
    "map": {"pool": "map", "num_registers": 1, "map_prefix": False, "posemb_resize": "bicubic"},
    "map-all": {"pool": "map", "num_registers": 1},
    "cls": {"pool": "cls", "posemb_prefix": True},
    "cls_gap": {"pool": "cls_gap", "posemb_prefix": False, "qk_norm": True},
}
GRIDS = ((4, 3), (1, 7), (5, 3), (2, 2))  # of the table; wide; larger; smaller


def model_of(name: str, dtype: torch.dtype = torch.float64) -> ViT:
    return random_model(ViTConfig(**BASE | MODELS[name]), dtype=dtype)


def images_of(grids: tuple[tuple[int, int], ...] = GRIDS) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal((2, 5 * h, 3 * w)).astype(np.float32) for h, w in grids]


def packed_batch(images: list[NDArray[np.float32]], length: int = 17) -> Tensor:
    return torch.from_numpy(np.stack([packed(one, (5, 3), length) for one in images])).double()


def reference_table(model: ViT, grid: tuple[int, int]) -> NDArray[np.float64]:
    """(h, w, D): the table, resized along one axis after the other."""
    config = model.config
    table = model.get_parameter("pos_embed").detach().double().numpy()[0]
    table = table[config.posemb_rows - config.num_patches :].reshape(*config.grid, config.width)
    kernel: Kernel = "cubic" if config.posemb_resize == "bicubic" else "linear"
    rows, columns = (
        axis_matrix(half_pixel_places(old, new), old, kernel, antialias=True, scale=old / new)
        for old, new in zip(config.grid, grid, strict=True)
    )
    return np.asarray(np.einsum("yh,xw,hwd->yxd", rows, columns, table))


def reference(model: ViT, image: NDArray[np.float32]) -> Tensor:
    """Logits (K,) of one image: its patches one by one, then the blocks without any mask."""
    h, w = image.shape[1] // 5, image.shape[2] // 3
    kernel = model.get_parameter("patch_embed.proj.weight").detach().double().numpy()
    bias = model.get_parameter("patch_embed.proj.bias").detach().double().numpy()
    table, found = reference_table(model, (h, w)), []
    for row in range(h):
        for column in range(w):
            cell = image[:, 5 * row : 5 * row + 5, 3 * column : 3 * column + 3].astype(np.float64)
            found.append(np.einsum("dcyx,cyx->d", kernel, cell) + bias + table[row, column])
    patches = torch.from_numpy(np.stack(found))[None]
    tokens: list[Tensor] = []
    if model.config.cls_token:
        first = model.get_parameter("pos_embed")[:, :1] if model.config.posemb_prefix else 0
        tokens.append(model.get_parameter("cls_token") + first)
    if model.config.num_registers:
        tokens.append(model.get_parameter("reg_token"))
    x = torch.cat([*tokens, patches], dim=1)
    for index in range(model.config.depth):
        x = model.run_block(index, x)
    return model.read(model.final_norm(x))[0]


@pytest.mark.parametrize("name", MODELS)
def test_every_image_is_as_if_it_were_alone(name: str) -> None:
    model, images = model_of(name), images_of()
    with torch.no_grad():
        together = model(packed_batch(images))
        for image, logits in zip(images, together, strict=True):
            expected = reference(model, image)
            assert (logits - expected).abs().max() <= 1e-10
            alone = model(torch.from_numpy(image)[None].double())[0]
            assert (alone - expected).abs().max() <= 1e-10


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    """Whatever stands behind an image's patches, even no number at all."""
    model, batch = model_of(name, dtype), packed_batch(images_of()).to(dtype)
    spoilt = batch.clone()
    spoilt[:, :, PLACE:][spoilt[:, :, 0] < 0] = float("nan")
    longer = torch.cat([batch, torch.full_like(batch[:, :6], -1)], dim=1)
    with torch.no_grad():
        expected = model(batch)
        assert torch.equal(model(spoilt), expected)
        assert torch.equal(model(longer), expected)
    assert expected.isfinite().all()


def test_rounding_is_all_that_a_batch_adds() -> None:
    """float32: 12 channels and 2 blocks round to about 1e-6 of logits of about 3."""
    model, images = model_of("map", torch.float32), images_of()
    with torch.no_grad():
        together = model(packed_batch(images).float())
        for image, logits in zip(images, together, strict=True):
            alone = model(torch.from_numpy(packed(image, (5, 3), 17))[None])
            assert (alone[0] - logits).abs().max() <= 1e-5


def test_a_mask_that_is_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the tests above."""
    model, images = model_of("gap"), images_of()
    with torch.no_grad():
        right = model(packed_batch(images))
        monkeypatch.setattr(ViT, "encode", _without_bias(ViT.encode))
        wrong = model(packed_batch(images))
    assert (right[2] - wrong[2]).abs().max() <= 1e-10  # the longest has no padding
    assert (right - wrong).abs().max() > 1e-3


def _without_bias(encode: Any) -> Any:
    return lambda self, x, tap=None, count=None, bias=None: encode(self, x, tap, count)


def test_gradients_reach_every_parameter() -> None:
    """Of tables too, through their resizing; by finite differences along one direction."""
    model, batch = model_of("map"), packed_batch(images_of())
    parameters = dict(model.named_parameters())
    loss = model(batch).square().sum()
    slopes = torch.autograd.grad(loss, list(parameters.values()))
    assert all(slope.abs().max() > 0 for slope in slopes)
    generator = torch.Generator().manual_seed(1)
    steps = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters.values()]
    expected = sum((s * d).sum() for s, d in zip(slopes, steps, strict=True))
    found = []
    with torch.no_grad():
        for size in (1e-5, -1e-5):
            for parameter, step in zip(parameters.values(), steps, strict=True):
                parameter.add_(step, alpha=size)
            found.append(model(batch).square().sum())
            for parameter, step in zip(parameters.values(), steps, strict=True):
                parameter.sub_(step, alpha=size)
    assert torch.isclose((found[0] - found[1]) / 2e-5, torch.as_tensor(expected), rtol=1e-6)


def test_taps_of_a_packed_batch() -> None:
    model, batch = model_of("map"), packed_batch(images_of())
    store: TapDict = {"block01/attention": None, "pool/attention": None}
    with torch.no_grad():
        tapped = model(batch, tap=store)
        assert torch.allclose(tapped, model(batch), atol=1e-12)
    weights = store["block01/attention"]
    assert weights is not None
    assert weights.shape == (4, 3, 16, 16)  # a register and 15 patches, the most that one has
    assert not weights[3, :, :, 1 + 4 :].any()  # 2 x 2 patches
    pooled = store["pool/attention"]
    assert pooled is not None
    assert not pooled[:, :, :, 0].any()  # map_prefix=False


@pytest.mark.parametrize(
    "shape",
    [(1, 2, 20, 10), (1, 3, 20, 9), (1, 2, 30, 27), (1, 17, 31), (1, 2, 0, 9), (2, 20, 9)],
)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        model_of("gap")(torch.zeros(shape, dtype=torch.float64))
    assert caught.value.code == "VIT-224"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"posemb": "sincos_2d"}, "posemb='learned'"),
        ({"posemb": "rope_2d"}, "posemb='learned'"),
        ({"posemb_at": "every"}, "posemb_at='stem'"),
        ({"pool": "seq"}, "pool='seq'"),
        ({"image_size": (21, 9), "drop_rest": True}, "drop_rest"),
        ({"distillation_token": True, "pool": "cls"}, "distillation_token"),
        ({"max_patches": None, "posemb_resize": "bicubic"}, "no effect without max_patches"),
        ({"max_patches": 70_000}, "65536"),
        ({"max_patches": 3}, "at least 4"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        ViTConfig(**BASE | MODELS["gap"] | {"norm_after_pool": False} | changes)
    assert caught.value.code == "VIT-222"
