"""The rows of benchmarks/serving.py, a part of each; the whole ones stand in docs/serve.md."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
from benchmarks.serving import figures_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.promise("S6")
def test_swaps() -> None:
    found = figures_of("swaps", 0.1)
    assert found["statuses"] == {200: found["requests"]}
    assert (found["wrong"], found["swaps"]) == (0, 5)


@pytest.mark.promise("S2")
def test_ends() -> None:
    found = figures_of("ends", 0.1)
    assert found["exit 0"] == found["rounds"] == 5
    assert found["answered"] == found["accepted"] > 0
    assert found.get("wrong", 0) == found.get("tracebacks", 0) == 0
    assert found.get("logged, not answered", 0) == 0


@pytest.mark.promise("S2")
def test_killed_decoders() -> None:
    found = figures_of("decoders", 0.2)
    assert set(found["statuses"]) <= {200, 422}
    assert found["statuses"].get(422, 0) <= found["kills"]
    assert found["wrong"] == 0


@pytest.mark.promise("S1")
def test_overload() -> None:
    """Figures of time are not asserted: others use the machine, too."""
    found = figures_of("overload", 0.1)
    assert set(found["statuses"]) <= {200, 503, 504}
    assert found["statuses"][503] > 0
    assert found["wrong"] == 0
    assert found["goodput / capacity"] > 0.5
    before, first, *later = found["memory MB before, by quarters"]
    assert first - before < 150
    assert max(later) - first < 50


@pytest.mark.promise("S3")
def test_hostile_clients() -> None:
    found = figures_of("hostile", 0.2)
    assert set(found["healthy"]) == {200}
    assert (found["wrong"], found["ready after"]) == (0, 200)
    assert found["memory grown MB"] < 100
    assert found["bytes left in the account"] == 0
