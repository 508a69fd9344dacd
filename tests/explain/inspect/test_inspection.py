"""The paper's inspection figures: definitions by hand and in NumPy, laws, files."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.explain.small_models import KINDS, bit, picture, resnet, vit
from tests.models.check_model import random_images, tapped
from tests.reference import explain_numpy
from vitrail.explain.inspect import distance, filters, positions, similarity
from vitrail.explain.inspect.inspection_figures import Inspected, write_figures
from vitrail.models.create import Model, ResidualNet, create_model
from vitrail.models.vit.config import ViTConfig


def test_distance_by_hand() -> None:
    """Three patches in a row, 4 px apart, and a cls token with half of all attention. The middle
    one attends to both neighbours, an end to the other end.
    """
    config = ViTConfig(
        image_size=(4, 12), patch_size=(4, 4), width=4, depth=1, num_heads=1, mlp_dim=4
    )
    attention = torch.tensor(
        [[[1.0, 0, 0, 0], [0.5, 0, 0, 0.5], [0.5, 0.25, 0, 0.25], [0.5, 0.5, 0, 0]]]
    )
    sums = distance.sums(attention[None], distance.distances(config), config.num_prefix)
    assert sums[0, 0].item() == pytest.approx((8 + 4 + 8) / 3)
    assert sums[1, 0].item() == pytest.approx((4 + 2 + 4) / 3)
    entropies = [np.log(2), 1.5 * np.log(2), np.log(2)]
    assert sums[2, 0].item() == pytest.approx(np.mean(entropies))


@pytest.mark.parametrize("kind", KINDS)
def test_distance_equals_the_reference(kind: str) -> None:
    """Patches of 5 x 7 px, so that rows and columns differ; prefix tokens left out; two batches."""
    model = vit(kind)
    config, images = model.config, random_images(model.config, 3)
    _, store = tapped(model, images)
    pixels = tuple(size / n for size, n in zip(config.image_size, config.grid, strict=True))
    found = distance.reach(model, [images[:2], images[2:]])
    assert found.num == 3
    for layer in range(config.depth):
        attention = store[f"block{layer:02d}/attention"].detach().numpy()
        each = [explain_numpy.distance(one, config.grid, pixels) for one in attention]  # type: ignore[arg-type]
        expected = np.mean(each, axis=0)
        assert np.abs(found.renormalised[layer] - expected[:, 0]).max() <= 1e-9
        assert np.abs(found.plain[layer] - expected[:, 1]).max() <= 1e-9
        patches = attention[:, :, config.num_prefix :]
        entropy = -(patches * np.log(patches)).sum(axis=-1).mean(axis=(0, 2))
        assert np.abs(found.entropy[layer] - entropy).max() <= 1e-9
    assert found.most == pytest.approx(np.log(config.num_tokens))


def test_uniform_attention_has_the_largest_entropy_and_the_mean_distance() -> None:
    config = vit("registers").config
    N = config.num_tokens
    table = distance.distances(config)
    sums = distance.sums(torch.full((1, 1, N, N), 1 / N), table, config.num_prefix)
    assert sums[2, 0].item() == pytest.approx(np.log(N))
    assert sums[0, 0].item() == pytest.approx(table.mean().item())
    assert sums[1, 0].item() == pytest.approx(table.mean().item() * config.num_patches / N)
    alone = torch.eye(N)[None, None]
    assert distance.sums(alone, table, config.num_prefix).abs().max() == 0


def test_nothing_kept_has_no_distance() -> None:
    """Where a query attends to prefix tokens only, the renormalised distance is 0, not NaN."""
    config = vit("cls").config
    attention = torch.zeros(1, 1, config.num_tokens, config.num_tokens)
    attention[..., 0] = 1
    assert distance.sums(attention, distance.distances(config), 1).isfinite().all()


def test_components_are_those_of_the_covariance() -> None:
    """Directions and shares against an eigendecomposition; unit length; sign fixed."""
    kernel = np.random.default_rng(0).normal(size=(11, 2, 3, 5))
    found = filters.components_of(kernel, 7)
    rows = kernel.transpose(0, 2, 3, 1).reshape(11, -1)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    for number in range(7):
        direction = vectors[:, -1 - number]
        one = found.patches[number].reshape(-1)
        assert abs(abs(one @ direction) - 1) <= 1e-9
        assert found.shares[number] == pytest.approx(values[-1 - number] / values.sum())
        assert one[np.abs(one).argmax()] > 0
    assert filters.components_of(kernel, 28).patches.shape == (10, 3, 5, 2)


def test_the_first_kernel_of_every_kind() -> None:
    assert filters.first_kernel(vit("cls")).shape == (12, 2, 5, 7)
    assert filters.first_kernel(vit("hybrid")).shape == (32, 2, 3, 3)
    kernel = filters.first_kernel(bit())  # standardised, as it is applied
    assert kernel.shape == (32, 2, 3, 3)
    assert kernel.mean(dim=(1, 2, 3)).abs().max() <= 1e-9
    assert filters.first_kernel(vit("seq")).shape[1] == 2
    small = resnet()
    assert torch.equal(filters.first_kernel(small), small.get_parameter("stem.conv.weight"))
    assert filters.first_kernel(vit("residual")).shape == (5, 2, 3, 3)
    kernel = filters.first_kernel(resnet(norm="group_std"))
    assert kernel.mean(dim=(1, 2, 3)).abs().max() <= 1e-9


def test_position_tables_are_those_that_are_added() -> None:
    """What the model adds to its patches: the difference of embedded and patches."""
    for kind in ("cls", "registers", "gap"):
        for posemb in ("learned", "learned_2d", "sincos_2d"):
            prefix = posemb == "learned" and kind != "gap"
            model = vit(kind, posemb=posemb, posemb_prefix=prefix)
            _, store = tapped(model, picture(model), "patches", "embedded")
            added = (store["embedded"][:, model.config.num_prefix :] - store["patches"])[0]
            table = positions.position_table(model)
            assert np.abs(table - added.detach().numpy()).max() <= 1e-12
    for kind in ("every", "shared"):  # the figure shows the table behind the stem
        model = vit(kind)
        _, store = tapped(model, picture(model), "patches", "embedded")
        added = (store["embedded"][:, model.config.num_prefix :] - store["patches"])[0]
        assert np.abs(positions.position_table(model) - added.detach().numpy()).max() <= 1e-12


def test_rotary_similarity_is_the_mean_cosine_of_the_angles() -> None:
    """What rotation does to the product of two equal vectors, averaged over their directions."""
    model = vit("rope")
    found = positions.similarities(positions.position_table(model))
    size = model.config.head_dim
    angles = torch.atan2(model.rope[1], model.rope[0])[:, : size // 2].double().numpy()
    expected = np.cos(angles[:, None] - angles[None]).mean(axis=2)
    assert np.abs(found - expected).max() <= 1e-6


def test_similarities_by_hand() -> None:
    table = np.array([[1.0, 0], [1, 1], [0, 0], [-2, 0]])
    half = 1 / np.sqrt(2)
    expected = [[1, half, 0, -1], [half, 1, 0, -half], [0, 0, 0, 0], [-1, -half, 0, 1]]
    assert np.abs(positions.similarities(table) - expected).max() <= 1e-15


def test_structure_tells_one_dimension_from_two() -> None:
    """Similarity that falls with the distance in the plane, or with that in reading order."""
    h, w = 5, 7
    y, x = np.divmod(np.arange(h * w), w)
    plane = -np.hypot(y[:, None] - y, x[:, None] - x)
    line = -np.abs(np.arange(h * w)[:, None] - np.arange(h * w)).astype(float)
    in_plane, in_line = positions.structure(plane, (h, w)), positions.structure(line, (h, w))
    assert in_plane["explained_2d"] == pytest.approx(1)
    assert in_line["explained_1d"] == pytest.approx(1)
    assert in_plane["explained_1d"] < 0.9
    noise = np.random.default_rng(0).normal(size=(h * w, h * w))
    assert positions.structure(noise, (h, w))["explained_2d"] < 0.1
    assert np.isnan(positions.structure(np.ones((4, 4)), (2, 2))["explained_2d"])


def test_sincos_knows_the_plane() -> None:
    """Its similarity depends on the 2-D offset only."""
    model = create_model("vit_ti8", image_size=48, num_classes=2, posemb="sincos_2d")
    cosines = positions.similarities(positions.position_table(model))  # type: ignore[arg-type]
    assert positions.structure(cosines, (6, 6))["explained_2d"] == pytest.approx(1, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 12), st.integers(1, 9), st.floats(0.1, 50), st.integers(0, 2**31))
def test_cka_does_not_see_turning_and_scaling(n: int, D: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, D)), rng.normal(size=(n, D + 2))
    turned = scale * x @ np.linalg.qr(rng.normal(size=(D, D)))[0] + rng.normal(size=D)
    a, b, c = (similarity.gram(one) for one in (x, turned, y))
    for unbiased in (False, True):
        same = similarity.linear_cka(a, b, unbiased=unbiased)
        one, other = (similarity.linear_cka(k, c, unbiased=unbiased) for k in (a, b))
        if np.isfinite(same):
            assert same == pytest.approx(1, abs=1e-6)
            assert one == pytest.approx(other, abs=1e-6, nan_ok=True)
        reverse = similarity.linear_cka(c, a, unbiased=unbiased)
        assert one == pytest.approx(reverse, abs=1e-9, nan_ok=True)
    assert -1e-9 <= similarity.linear_cka(a, c, unbiased=False) <= 1 + 1e-9


def test_cka_equals_the_references() -> None:
    """Biased: Kornblith's formula with covariances. Unbiased: summed term by term."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 5))
    cx, cy = x - x.mean(axis=0), y - y.mean(axis=0)
    between = np.linalg.norm(cy.T @ cx) ** 2
    expected = between / np.linalg.norm(cx.T @ cx) / np.linalg.norm(cy.T @ cy)
    a, b = similarity.gram(x), similarity.gram(y)
    assert similarity.linear_cka(a, b, unbiased=False) == pytest.approx(expected, abs=1e-12)
    pairs = [explain_numpy.hsic(k, m) for k, m in ((a, b), (a, a), (b, b))]
    expected = pairs[0] / np.sqrt(pairs[1] * pairs[2])
    assert similarity.linear_cka(a, b) == pytest.approx(expected, abs=1e-9)


def test_unbiased_cka_of_independent_features_is_near_zero() -> None:
    """Where the plain estimate, with fewer images than features, is near 1."""
    rng = np.random.default_rng(2)
    a, b = (similarity.gram(rng.normal(size=(20, 400))) for _ in range(2))
    assert similarity.linear_cka(a, b, unbiased=False) > 0.8
    assert abs(similarity.linear_cka(a, b)) < 0.2
    assert np.isnan(similarity.linear_cka(a, np.zeros((20, 20))))


def test_representations_are_means_over_patches() -> None:
    model = vit("registers")
    images = random_images(model.config, 5)
    _, store = tapped(model, images)
    found = similarity.representations(model, [images[:2], images[2:]])
    assert list(found) == ["embedded", "block00", "block01"]
    expected = store["block01/output"][:, model.config.num_prefix :].mean(dim=1).detach().numpy()
    assert np.abs(found["block01"] - expected).max() <= 1e-12
    convolutional = similarity.representations(bit(), [random_images(bit().config, 5)])
    assert list(convolutional) == ["stem", "stage0", "stage1", "feature_map"]
    _, store = tapped(bit(), random_images(bit().config, 5), "stage1")
    expected = store["stage1"].mean(dim=(2, 3)).detach().numpy()
    assert np.abs(convolutional["stage1"] - expected).max() <= 1e-12


def pictures_for(model: Model, count: int = 6) -> Callable[[], Iterator[torch.Tensor]]:
    return lambda: iter(random_images(model.config, count).split(4))  # type: ignore[no-untyped-call]


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_all_figures_of_two_models(tmp_path: Path) -> None:
    first, second = vit("registers"), vit("gap", posemb="sincos_2d")
    shown = [
        Inspected("a <b>", first, pictures_for(first)),
        Inspected("c", second, pictures_for(second)),
    ]
    done = write_figures(shown, tmp_path)
    names = [path.name for path in done.files]
    assert names == [
        "filters.png",
        "filters.csv",
        "positions.png",
        "positions.csv",
        "distance.svg",
        "entropy.svg",
        "attention.csv",
        "cka.png",
        "cka.csv",
    ]
    for path in done.files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 40
        if path.suffix == ".svg":
            assert ET.fromstring(path.read_text()).tag.endswith("svg")
    said = {one.text: float(one.get("y", 0)) for one in ET.parse(tmp_path / "entropy.svg").iter()}
    assert said["uniform"] > said["a <b>"] + 12  # the level's name does not touch the legend
    rows = read(tmp_path / "attention.csv")
    reach = distance.reach(first, pictures_for(first)())
    assert len(rows) == 2 * 2 * 3
    assert float(rows[4]["distance_px"]) == pytest.approx(reach.renormalised[1, 1])
    assert float(rows[4]["entropy_nats"]) == pytest.approx(reach.entropy[1, 1])
    table = read(tmp_path / "cka.csv")
    assert len(table) == 3 * 3 * 3
    for row in table:
        if (row["model"], row["layer"]) == (row["other_model"], row["other_layer"]):
            assert float(row["cka"]) == pytest.approx(1)
    cosines = read(tmp_path / "positions.csv")
    assert len(cosines) == 2 * 6 * 6
    assert len(read(tmp_path / "filters.csv")) == 2 * 11 * 5 * 7 * 2


@pytest.mark.parametrize("kind", [bit, resnet])
def test_what_a_model_cannot_have_is_said(kind: Callable[[], ResidualNet], tmp_path: Path) -> None:
    done = write_figures([Inspected("b", kind(), pictures_for(kind()))], tmp_path)
    assert [path.name for path in done.files] == [
        "filters.png",
        "filters.csv",
        "cka.png",
        "cka.csv",
    ]
    assert any("no position embedding" in note for note in done.notes)
    assert any("no attention" in note for note in done.notes)
    alone = write_figures([Inspected("v", vit("relative"))], tmp_path)
    assert [path.name for path in alone.files] == ["filters.png", "filters.csv"]
    assert any("--data" in note for note in alone.notes)
    assert any("pairs" in note for note in alone.notes)
    few = write_figures([Inspected("v", vit("cls"), pictures_for(vit("cls"), 3))], tmp_path)
    assert any("CKA needs 4 images" in note for note in few.notes)
