"""Every option and pair of options: the common suite, and the NumPy reference in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.models.check_model import check_export, check_model, random_images, random_model, tapped
from tests.models.tiny_configs import (
    OPTIONS,
    Choice,
    all_pairs,
    build_config,
    covering_choices,
    is_possible,
    pairs_of,
)
from tests.reference import vit_numpy
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.fields import LEARNED

CHOICES = covering_choices()
# The pairs that exclude each other; everything else is in some configuration above.
KINDS: dict[str, list[tuple[Any, str]]] = {
    option: [
        (value, value[option] if isinstance(value, dict) else value) for value in OPTIONS[option]
    ]
    for option in ("posemb", "pool")
}
REFUSED: list[tuple[tuple[str, object], tuple[str, object]]] = [
    *(
        (("posemb_prefix", True), ("posemb", v))
        for v, kind in KINDS["posemb"]
        if kind not in LEARNED
    ),
    *(
        (("posemb", value), ("posemb_at", place))
        for value, kind in KINDS["posemb"]
        for place in ("every", "shared")
        if kind in ("none", "relative", "rope_2d")
    ),
    (("posemb", "sincos_2d"), ("posemb_at", "every")),
    *((("posemb_at", place), ("shape", OPTIONS["shape"][3])) for place in ("every", "shared")),
    *((("distillation_token", True), ("pool", v)) for v, kind in KINDS["pool"] if kind != "cls"),
    *((("norm_after_pool", True), ("pool", v)) for v, kind in KINDS["pool"] if kind != "gap"),
    (("distillation_token", True), ("norm_after_pool", True)),
    (("distillation_token", True), ("representation_size", 13)),
]


def describe(choice: Choice) -> str:
    """The options that differ from their first value."""
    return " ".join(f"{name}={OPTIONS[name][index]}" for name, index in choice.items() if index)


@pytest.mark.parametrize("choice", CHOICES, ids=map(str, range(len(CHOICES))))
def test_check_model(choice: Choice) -> None:
    check_model(build_config(choice))


@pytest.mark.parametrize("choice", CHOICES, ids=map(str, range(len(CHOICES))))
def test_equals_numpy_reference(choice: Choice) -> None:
    """Logits and every intermediate, |diff| <= 1e-10 in float64 (rung 2 of the ladder)."""
    config = build_config(choice)
    model, images = random_model(config), random_images(config, 2)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    with torch.no_grad():
        _, store = tapped(model, images)
    expected = vit_numpy.forward(state, config, images.numpy())
    assert set(store) == set(expected)
    for name, value in expected.items():
        diff = np.abs(store[name].numpy() - value).max()
        assert diff <= 1e-10, f"{name} differs by {diff} with {describe(choice)}"


@pytest.mark.parametrize("index", range(0, len(CHOICES), 12))
def test_export_equals_eager(index: int) -> None:
    check_export(random_model(build_config(CHOICES[index])))


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CHOICES)))
def test_export_equals_eager_for_every_choice(index: int) -> None:
    check_export(random_model(build_config(CHOICES[index])))


def test_every_pair_of_options_is_covered() -> None:
    covered = set[frozenset[tuple[str, int]]]().union(*map(pairs_of, CHOICES))
    missing = [
        tuple((name, OPTIONS[name][index]) for name, index in sorted(pair))
        for pair in all_pairs() - covered
    ]
    assert sorted(map(str, missing)) == sorted(str(tuple(sorted(pair))) for pair in REFUSED)
    assert all(is_possible(choice) for choice in CHOICES)


def test_reference_tells_wrong_options_apart() -> None:
    """Negative control: with one option of the reference wrong, it must not agree."""
    config = build_config({})
    model, images = random_model(config), random_images(config, 1)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    logits = model(images).detach().numpy()
    for change in ({"gelu": "gelu_tanh"}, {"ln_eps": 1e-5}, {"posemb": "none"}):
        other = ViTConfig(**(config.model_dump(exclude={"posemb_prefix"}) | change))
        wrong = vit_numpy.forward(state, other, images.numpy())["logits"]
        assert np.abs(wrong - logits).max() > 1e-7, change
