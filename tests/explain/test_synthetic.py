"""Images with a known object: pure functions of (seed, index), and the mask is where it is."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.explain.synthetic import CLASSES, SHAPES, TEXTURES, objects


def test_every_image_is_a_function_of_seed_and_index() -> None:
    whole = objects(9, (29, 37), seed=4)
    part = objects(4, (29, 37), seed=4, first=5)
    assert np.array_equal(whole.images[5:], part.images)
    assert np.array_equal(whole.masks[5:], part.masks)
    assert np.array_equal(whole.labels[5:], part.labels)
    assert not np.array_equal(whole.images, objects(9, (29, 37), seed=5).images)


@pytest.mark.parametrize("size", [(48, 48), (29, 37), (61, 31), (17, 17)])
@pytest.mark.parametrize("pairs", [False, True])
def test_the_mask_is_where_the_object_is(size: tuple[int, int], pairs: bool) -> None:
    """Inside there are two colours; objects do not overlap and take 5 to 20 % of a square."""
    found = objects(12, size, seed=1, pairs=pairs)
    assert found.images.shape == (12, *size, 3)
    assert found.images.dtype == np.uint8
    assert list(found.labels) == [i % len(CLASSES) for i in range(12)]
    areas = found.masks.sum(axis=(1, 2)) / min(size) ** 2
    assert 0.04 <= areas.min() <= areas.max() <= 0.2
    for image, mask in zip(found.images, found.masks, strict=True):
        assert len(np.unique(image[mask], axis=0)) == 2
        assert len(np.unique(image[~mask], axis=0)) > 50
    if not pairs:
        assert len(found.other_labels) == len(found.other_masks) == 0
        return
    assert (found.other_labels != found.labels).all()
    assert not (found.masks & found.other_masks).any()
    for image, mask in zip(found.images, found.other_masks, strict=True):
        assert len(np.unique(image[mask], axis=0)) == 2


def test_classes_are_pairs_of_a_texture_and_a_shape() -> None:
    assert len(set(CLASSES)) == len(CLASSES) >= 6
    for name in CLASSES:
        texture, shape = name.split()
        assert texture in TEXTURES
        assert shape in SHAPES
    for part in (0, 1):  # neither alone tells the class
        assert len({name.split()[part] for name in CLASSES}) < len(CLASSES)


def test_the_background_does_not_say_the_class() -> None:
    """The nearest class mean of the pixels outside both objects is right by chance only."""
    found = objects(360, (24, 24), seed=2)
    outside = np.where(found.masks[..., None], 127, found.images).reshape(360, -1).astype(float)
    train, test = slice(0, 240), slice(240, 360)
    means = np.stack(
        [outside[train][found.labels[train] == label].mean(axis=0) for label in range(len(CLASSES))]
    )
    nearest = ((outside[test][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == found.labels[test]).mean() <= 0.35  # chance 1/6, interval to 0.24


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="16 px"):
        objects(1, (15, 40))
