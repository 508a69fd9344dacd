"""Headers of golden cases with one thing wrong: read, not one's own, or refused with a code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.golden_case import case_source
from vitrail.checkpoints.huggingface.layout import HUGGINGFACE
from vitrail.checkpoints.mapping.origin import Recognised
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.bit_npz import BIT
from vitrail.checkpoints.origins.google import GOOGLE
from vitrail.errors import ModelError

CASES = (
    ("google_vit_token", GOOGLE),
    ("google_hybrid_stages", GOOGLE),
    ("bv_vit_map_scan", BIG_VISION),
    ("bv_bit_v1", BIG_VISION),
    ("bit_tf_npz", BIT),
    ("hf_deit_distilled", HUGGINGFACE),
    ("hf_dinov2_registers", HUGGINGFACE),
)
CODES = ("", "VIT-418", "VIT-420")
SHAPES = st.lists(st.sampled_from([0, 1, 2, 7, 32, 10**6]), max_size=5).map(tuple)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**9),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-1, 99), max_size=3),
    st.dictionaries(
        st.sampled_from(["0", "height", "width", "shortest_edge"]), st.integers(-1, 99)
    ),
)
HEADERS = {case: case_source(case).header for case, _ in CASES}


def outcome(origin: Any, header: Header) -> str:
    """What becomes of a header: a code, or "" where it is read or not the origin's own. Any other
    exception fails the test."""
    try:
        found = origin.recognise(header)
    except ModelError as error:
        return error.code if error.hint else "no hint"
    return "" if found is None or isinstance(found, Recognised) else "neither"


@pytest.mark.parametrize(("case", "origin"), CASES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_shapes(case: str, origin: Any, data: st.DataObject) -> None:
    """A tensor of another shape, gone, or under another name."""
    shapes = dict(HEADERS[case].shapes)
    name = data.draw(st.sampled_from(sorted(shapes)))
    shape = shapes.pop(name)
    change = data.draw(st.sampled_from(["gone", "shape", "name"]))
    if change == "shape":
        shapes[name] = data.draw(SHAPES)
    elif change == "name":
        shapes[data.draw(st.sampled_from(["block9", "blockx/unit1/", "x/", ""])) + name] = shape
    assert outcome(origin, Header("file", shapes, metadata=HEADERS[case].metadata)) in CODES


@pytest.mark.parametrize("case", ["hf_deit_distilled", "hf_dinov2_registers"])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_settings(case: str, file: str, data: st.DataObject) -> None:
    """A field of another value or gone."""
    header = HEADERS[case]
    values = dict(header.metadata[file])
    name = data.draw(st.sampled_from(sorted(values)))
    if data.draw(st.booleans()):
        values[name] = data.draw(VALUES)
    else:
        del values[name]
    metadata = {**header.metadata, file: values}
    assert outcome(HUGGINGFACE, Header("file", header.shapes, metadata=metadata)) in CODES
