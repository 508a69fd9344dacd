"""An image's explanation: its size, where a crop lies, what files hold, and how it is drawn."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.explain.small_models import vit
from vitrail.classifier import Classifier
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import UsageError
from vitrail.explain import overlay
from vitrail.explain.image_input import explain_image
from vitrail.explain.methods.maps import Request
from vitrail.explain.placing import resized, to_image

CLASSES = ("ant", "bee", "cat", "dog", "eel")
SQUASH = Preprocess(height=10, width=21, resize=(10, 21))


def classifier(preprocess: Preprocess = SQUASH, kind: str = "cls") -> Classifier:
    """Of colour images, 10 x 21 px."""
    model = vit(kind, torch.float32, channels=3)
    return Classifier(model, preprocess, CLASSES, temperature=2.0)


def pixels(height: int = 31, width: int = 47) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_from_the_classifier(tmp_path: Path) -> None:
    clf = classifier()
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    found = clf.explain(tmp_path / "a.png")
    said = clf.predict(tmp_path / "a.png")[0]
    assert found.method == "relevance"
    assert found.source == str(tmp_path / "a.png")
    assert found.label == said.label
    assert [label for label, _ in found.top] == [one.label for one in said.top]
    scores = [score for _, score in found.top]
    assert scores == pytest.approx([one.score for one in said.top], abs=1e-6)
    assert found.map.shape == (31, 47)
    assert found.grid.shape == (2, 3)
    for picture in (pixels(), Image.fromarray(pixels()), (tmp_path / "a.png").read_bytes()):
        assert np.array_equal(clf.explain(picture).map, found.map)
    assert clf.explain(pixels()).source == ""


def test_the_class_by_name_or_number() -> None:
    clf = classifier()
    by_name, by_number = clf.explain(pixels(), target="dog"), clf.explain(pixels(), target=3)
    assert (by_name.target, by_name.label, by_number.label) == (3, "dog", "dog")
    assert np.array_equal(by_name.map, by_number.map)
    assert clf.explain(pixels(), target="3").label == "dog"
    with pytest.raises(UsageError) as caught:
        clf.explain(pixels(), target="beee")
    assert caught.value.code == "VIT-276"
    assert "Did you mean bee?" in str(caught.value)
    assert clf.explain(pixels(), "rollout").label == ""


def test_images_that_cannot_be_read_raise(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DecodeFault):
        classifier().explain(tmp_path / "a.jpg")
    with pytest.raises(TypeError, match="Linear"):
        Classifier(torch.nn.Linear(1, 1), SQUASH).explain(pixels())


def test_a_crop_is_put_back() -> None:
    """What the model does not see is 0; the rest lies where it is in the image."""
    preprocess = Preprocess(height=10, width=10, resize=12, crop="center")
    values = np.ones((10, 10), np.float32)
    placed = to_image(values, preprocess, (24, 60))  # resized to 12 x 30
    assert placed.shape == (24, 60)
    assert np.array_equal(placed > 0.5, np.pad(np.ones((20, 20), bool), ((2, 2), (20, 20))))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(17, 60),
    st.integers(17, 60),
    st.integers(7, 13),
    st.integers(7, 13),
    st.sampled_from(["center", "center_floor"]),
)
def test_the_crop_is_that_of_the_preprocessing(
    height: int, width: int, h: int, w: int, crop: str
) -> None:
    """An image of its own row and column numbers: what the model sees tells the place."""
    preprocess = Preprocess(height=h, width=w, resize=(height, width), crop=crop)  # type: ignore[arg-type]
    placed = to_image(np.ones((h, w)), preprocess, (height, width))
    rows, columns = (np.unique(places) for places in np.nonzero(placed))
    numbers = np.mgrid[:height, :width].transpose(1, 2, 0).astype(np.uint8)
    seen = preprocess.pixels(np.dstack([numbers, numbers[..., :1]]))
    assert seen[0, 0, 0] == rows[0]
    assert seen[-1, -1, 1] == columns[-1]
    assert (len(rows), len(columns)) == (h, w)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 23), st.integers(1, 23))
def test_resizing_keeps_bounds_and_constants(h: int, w: int, H: int, W: int) -> None:
    values = np.random.default_rng(h * 100 + w).random((h, w))
    large = resized(values, (H, W))
    assert large.shape == (H, W)
    assert large.dtype == np.float64
    assert values.min() - 1e-12 <= large.min() <= large.max() <= values.max() + 1e-12
    assert np.abs(resized(np.full((h, w), 0.3), (H, W)) - 0.3).max() <= 1e-12
    assert np.array_equal(resized(values, (h, w)), values)


def test_tokens() -> None:
    found = classifier().explain(pixels(), "rollout")
    assert found.matrix is not None
    assert np.array_equal(found.tokens(1, 0), found.matrix[3].reshape(2, 3))
    own = classifier().explain(pixels(), "rollout", token=(1, 0))
    assert np.array_equal(own.grid, found.tokens(1, 0))
    with pytest.raises(UsageError, match="2 x 3 patches"):
        found.tokens(2, 0)
    with pytest.raises(UsageError, match="no values from token to token"):
        classifier().explain(pixels(), "gradcam").tokens(0, 0)


def test_files(tmp_path: Path) -> None:
    found = classifier().explain(pixels(), "relevance")
    found.save(tmp_path / "a.png")
    found.save(tmp_path / "spot.png", style="spotlight")
    found.save(tmp_path / "a.npz")
    for name in ("a.png", "spot.png"):
        with Image.open(tmp_path / name) as image:
            assert (image.mode, image.size) == ("RGB", (47 * 4, 31 * 4))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["map"], found.map)
        assert np.array_equal(file["grid"], found.grid)
        assert np.array_equal(file["layer_1"], found.layers[1])
        assert found.matrix is not None
        assert np.array_equal(file["matrix"], found.matrix)
        facts = json.loads(str(file["facts"]))
    assert facts["label"] == found.label
    assert facts["top"][0]["score"] == found.top[0][1]


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    found = classifier().explain(pixels(), "rollout")
    path = found.save(tmp_path / "a.png")
    with pytest.raises(UsageError) as caught:
        found.save(path)
    assert caught.value.code == "VIT-206"
    found.save(path, replace=True)
    for wrong in ({"path": tmp_path / "a.gif"}, {"path": tmp_path / "b.png", "style": "hot"}):
        with pytest.raises(UsageError) as caught:
            found.save(**wrong)
        assert caught.value.code == "VIT-278"
    assert not (tmp_path / "b.png").exists()


def test_gray_images() -> None:
    clf = classifier(Preprocess(height=10, width=21, resize=(10, 21), mean=(0.5,), std=(0.5,)))
    clf.model = vit("cls", torch.float32, channels=1).eval()
    gray = pixels()[:, :, 0]
    found = clf.explain(gray, "rollout")
    assert found.map.shape == gray.shape
    assert found.overlay().mode == "RGB"


def test_in_float64_numbers_stay_float64() -> None:
    model = vit("cls", channels=3)
    found, logits = explain_image(model, SQUASH, pixels(), Request("rollout"))
    assert found.map.dtype == found.grid.dtype == logits.dtype == np.float64


def test_heat_is_strongest_where_the_map_is() -> None:
    picture = np.full((224, 224, 3), 128, np.uint8)
    values = np.zeros((224, 224), np.float32)
    values[:112] = 1
    image = np.asarray(overlay.heat(picture, values)).astype(int)
    assert np.abs(image[60, 100] - 128).max() > 60  # three quarters of the strongest colour
    assert np.abs(image[170, 100] - 128).max() == 0
    high = overlay.heat(picture, values + np.float32(7), 7.0)  # only differences have colour
    assert np.array_equal(np.asarray(high), image)
    assert np.array_equal(np.asarray(overlay.heat(picture, values * 0, 7.0)), picture)
    signed = np.asarray(overlay.heat(picture, values - 0.5))
    assert signed[60, 100, 0] > signed[60, 100, 2]  # red speaks for the class
    assert signed[170, 100, 2] > signed[170, 100, 0]  # blue against it


def test_spotlight_is_the_authors_rendering() -> None:
    """Black where nothing is read, the image itself where most is; a constant map stays dark."""
    picture = np.full((240, 240, 3), 200, np.uint8)
    grid = np.zeros((8, 8), np.float32)
    grid[3, 4] = 3.0
    opacity = overlay.spotlight_values(grid, (240, 240))
    assert (opacity.min(), opacity.max()) == (0, 1)
    top, left = np.unravel_index(opacity.argmax(), opacity.shape)
    assert abs(int(top) - 105) <= 3
    assert abs(int(left) - 135) <= 3
    image = np.asarray(overlay.spotlight(picture, opacity))
    assert image[235, 5].max() == 0
    assert image[top, left].min() == 200


@pytest.mark.parametrize(
    ("size", "expected"),
    [((28, 28), (224, 224)), ((2000, 1000), (1024, 512)), ((300, 400), (300, 400))],
)
def test_size_of_a_drawing(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = overlay.enlarged(np.zeros((*size, 3), np.uint8))
    assert (image.height, image.width) == expected


def test_a_drawing_is_the_same_every_time() -> None:
    stream = [io.BytesIO(), io.BytesIO()]
    for target in stream:
        classifier().explain(pixels(), "integrated-gradients", steps=2).overlay().save(
            target, "PNG"
        )
    assert stream[0].getvalue() == stream[1].getvalue()
