"""What the gate compares, on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.errors import GateError
from vitrail.export.gate import EXACT, compare, require


def test_figures() -> None:
    before = np.array([[0.9, 0.1], [0.6, 0.4], [0.50001, 0.49999], [0.2, 0.8]])
    after = np.array([[0.9, 0.1], [0.4, 0.6], [0.49999, 0.50001], [0.2, 0.8]])
    found = compare(before, after, np.array([0, 0, 0, 1]))
    assert found.max_dp == pytest.approx(0.2)
    assert (found.changed, found.changed_with_margin) == (2, 1)  # the third is a tie
    assert found.accuracy == (1.0, 0.5)
    assert found.accuracy_drop == pytest.approx(50)
    rise = (np.log(0.6) - np.log(0.4) + np.log(0.50001) - np.log(0.49999)) / 4
    assert found.nll_rise == pytest.approx(rise)
    assert len(found.missed(EXACT)) == 6


def test_several_labels() -> None:
    before = np.array([[0.9, 0.2, 0.7], [0.1, 0.50001, 0.3]])
    after = np.array([[0.9, 0.2, 0.4], [0.1, 0.49999, 0.3]])
    labels = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    found = compare(before, after, labels, scores="sigmoid")
    assert (found.changed, found.changed_with_margin) == (2, 1)
    assert found.accuracy is not None
    assert found.accuracy[1] == pytest.approx(4 / 6)


def test_values_that_are_not_finite_miss() -> None:
    before = np.array([[0.9, 0.1]])
    found = compare(before, before * np.nan, None)
    with pytest.raises(GateError) as error:
        require(found, EXACT, "it", code="VIT-703", hint="")
    assert error.value.code == "VIT-703"


def test_equal_answers_pass() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), 50)
    found = compare(p, p + 1e-7, np.arange(50) % 5)
    require(found, EXACT, "it", code="VIT-703", hint="")
    assert found.accuracy_drop == 0
