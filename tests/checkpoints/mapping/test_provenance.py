"""Where numbers came from: one line each, and the same as data."""

from __future__ import annotations

import pytest

from vitrail.checkpoints.mapping.fact import (
    Fact,
    Said,
    assumed,
    elsewhere,
    fact,
    facts_of,
    unknown,
    with_given,
)
from vitrail.checkpoints.mapping.rules import Header
from vitrail.models.vit.config import ViTConfig

CONFIG = ViTConfig(
    image_size=(24, 32), patch_size=(8, 8), width=24, depth=2, num_heads=3, mlp_dim=48
)
HEADER = Header("a.pth", {})


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            fact("gelu", "gelu", Said("assumed", "as most")),
            "assumed gelu gelu: as most (--set gelu=...)",
        ),
        (fact("ln_eps", 1e-6, Said("row", "of vit_s16")), "certain ln_eps 1e-06 (of vit_s16)"),
        (fact("image_size", (24, 32), Said("stated")), "stated image_size 24x32"),
        (fact("width", 24, Said("file", "shapes")), "file width 24 (shapes)"),
        (
            unknown("num_heads", (1, 2, 3)),
            "unknown num_heads, one of 1, 2, 3 (--set num_heads=...)",
        ),
        (Fact("block", "pre-norm", "assumed"), "assumed block pre-norm"),
    ],
)
def test_a_line_has_the_value_and_the_way_to_state_another(said: Fact, line: str) -> None:
    assert f"{said.word} {said.text()}" == line


def test_the_user_comes_first_then_the_file_then_the_origin() -> None:
    header = with_given(HEADER, {"num_heads": 3}, Said("stated"))
    header = with_given(header, {"num_heads": 4, "ln_eps": 1e-5}, Said("file", "config.json"))
    found = {one.field: one for one in facts_of(header, CONFIG, assumed("usual", "gelu", "ln_eps"))}
    assert header.metadata["given"] == {"num_heads": 3, "ln_eps": 1e-5}
    assert [found[name].source for name in ("num_heads", "ln_eps", "gelu", "width")] == [
        "stated",
        "file",
        "assumed",
        "file",
    ]
    assert {one.field for one in elsewhere(found.values())} == {"num_heads", "gelu"}
    assert found["image_size"].to_json() == {
        "field": "image_size",
        "value": [24, 32],
        "source": "file",
        "where": "shapes",
        "possible": [],
        "option": "--set image_size=...",
    }
