"""Copies are found, and images that only look alike are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from vitrail.data.check import near_duplicates as module
from vitrail.data.check.near_duplicates import (
    TooManyPairs,
    close_pairs,
    copies,
    fine_distances,
    mirror,
)
from vitrail.data.check.perceptual_hash import joined, sketch, sketch_all
from vitrail.data.images.rgb import Pixels


def scene(seed: int, height: int = 83, width: int = 71) -> Image.Image:
    """An image of coloured rectangles, unlike any other."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(25):
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(3, height // 2), rng.integers(3, width // 2)
        canvas[top : top + tall, left : left + wide] = rng.integers(0, 256, 3)
    return Image.fromarray(canvas)


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return Image.open(stream).convert("RGB")


def changed(image: Image.Image) -> dict[str, Image.Image]:
    """Copies as they occur."""
    width, height = image.size
    sizes = {"half": 0.5, "double": 2.0, "odd": 1.37}
    found = {
        name: image.resize((round(width * by), round(height * by)), Image.Resampling.BICUBIC)
        for name, by in sizes.items()
    }
    return found | {
        "jpeg 40": saved(image, "JPEG", 40),
        "webp 60": saved(image, "WEBP", 60),
        "small jpeg": saved(found["half"], "JPEG", 75),
        "squashed": image.resize((64, 64), Image.Resampling.BILINEAR),
        "gray": image.convert("L").convert("RGB"),
        "dark": image.point(lambda value: int(0.6 * value) + 10),
    }


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)


def test_copies_of_every_kind_are_found_and_nothing_else() -> None:
    originals = [scene(seed) for seed in range(60)]
    pictures = [pixels(one) for one in originals]
    expected = set()
    for place, image in enumerate(originals[:6]):
        for copied in changed(image).values():
            expected.add((place, len(pictures)))
            pictures.append(pixels(copied))
    found, radius = copies(joined([sketch(one) for one in pictures]))
    assert radius == module.RADIUS
    assert all(one.kind == "copy" for one in found)
    family = {place: first for first, place in expected}
    for one in found:  # copies of the same image are copies of each other
        assert family.get(one.first, one.first) == family.get(one.second, one.second)
    assert {place for one in found for place in (one.first, one.second)} >= set(family)
    assert {one.first for one in found} >= set(range(6))


def test_mirrored_and_recoloured_copies_are_told_apart() -> None:
    originals = [scene(seed) for seed in range(20)]
    red, green, blue = originals[3].split()
    pictures = [*originals, saved(ImageOps.mirror(originals[5]), "JPEG", 80)]
    gray = originals[7].convert("L")
    pictures.append(ImageOps.colorize(gray, (40, 0, 0), (255, 255, 90)))
    found, _ = copies(joined([sketch(pixels(one)) for one in pictures]))
    assert [(one.first, one.second, one.kind) for one in sorted(found, key=lambda c: c.first)] == [
        (5, 20, "mirrored"),
        (7, 21, "recoloured"),
    ]
    assert red != blue != green


def test_images_that_all_look_alike_are_no_copies() -> None:
    base = scene(1)
    rng = np.random.default_rng(0)

    def variant(image: Image.Image) -> Pixels:
        field = Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).resize(image.size)
        return pixels(Image.blend(image, field.convert("RGB"), 0.03))

    alike = [variant(base) for _ in range(40)]
    some = joined([sketch(one) for one in alike])
    pairs, near = close_pairs(module.coarse_vectors(some)[0], module.RADIUS)
    assert len(pairs) > 100  # each is close to several others
    assert copies(some)[0] == []
    few = joined([sketch(one) for one in [*alike[:2], *(pixels(scene(k)) for k in range(2, 30))]])
    assert len(copies(few)[0]) == 1  # alone, two of them would be a pair


def test_pairs_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 36))
    vectors = (centres[rng.integers(40, size=211)] + 0.07 * rng.normal(size=(211, 36))).astype(
        np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    monkeypatch.setattr(module, "ROWS", 17)
    monkeypatch.setattr(module, "COLUMNS", 29)
    for is_mirrored in (False, True):
        turned = mirror(vectors) if is_mirrored else vectors
        apart = np.linalg.norm(turned[:, None].astype(float) - vectors[None], axis=2)
        radius = float(np.quantile(apart, 0.02))
        a, b = np.nonzero((apart <= radius) & np.triu(np.ones((211, 211), bool), 1))
        pairs, near = close_pairs(vectors, radius, is_mirrored=is_mirrored)
        found = {(min(p), max(p)): d for p, d in zip(pairs.tolist(), near, strict=True)}
        assert set(found) == set(zip(a.tolist(), b.tolist(), strict=True))
        assert len(found) > 100
        assert [found[i, j] for i, j in zip(a, b, strict=True)] == (
            pytest.approx(apart[a, b], abs=1e-3)
        )


def test_mirroring_a_sketch_is_sketching_the_mirrored_image() -> None:
    images = np.stack([pixels(scene(seed)) for seed in range(5)])
    plain, turned = sketch_all(images), sketch_all(images[:, :, ::-1])
    vectors, _ = module.coarse_vectors(plain)
    assert mirror(vectors) == pytest.approx(module.coarse_vectors(turned)[0], abs=1e-3)
    both = joined([plain, turned])
    pairs = np.array([[k, 5 + k] for k in range(5)])
    distances, colour = fine_distances(both, pairs, is_mirrored=True)
    assert distances == pytest.approx(0, abs=2e-3)
    assert colour == pytest.approx(0, abs=1)
    assert (fine_distances(both, pairs)[0] > 0.3).all()


def test_the_search_narrows_where_too_much_looks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [pixels(scene(seed)) for seed in range(12)]
    some = joined([sketch(one) for one in pictures + pictures[:4]])
    monkeypatch.setattr(module, "MAX_PAIRS", 3)
    with pytest.raises(TooManyPairs):
        close_pairs(module.coarse_vectors(some)[0], 0.08)
    monkeypatch.setattr(module, "MAX_PAIRS", 4)
    found, radius = copies(some, 1.28)
    assert {(one.first, one.second) for one in found} == {(k, 12 + k) for k in range(4)}
    assert radius < 1.28


def test_images_without_structure_have_no_copies() -> None:
    flat = [np.full((20, 30, 3), level, np.uint8) for level in (0, 0, 9, 200)]
    tiny = [pixels(scene(0).resize((3, 4))) for _ in range(2)]
    assert copies(joined([sketch(one) for one in flat + tiny]))[0] == []
    assert copies(joined([]))[0] == []
