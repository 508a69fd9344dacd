"""The end of a run: what there is no time for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vitrail.training import finish


@pytest.mark.parametrize(
    ("left_secs", "slowness", "explained"),
    [(2.0, 1.0, True), (1.0, 1.0, False), (2.0, 2.0, False), (4.0, 2.0, True)],
)
def test_explanations_need_more_time_on_a_slow_machine(
    left_secs: float, slowness: float, explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXPLAIN_SECS are those of an idle machine; half of the time left is the pictures'."""
    given: list[float] = []

    def inside_of(classifier: Any, secs: float) -> str:
        given.append(secs)
        return "inside"

    written: list[Any] = []
    monkeypatch.setattr(finish, "inside_of", inside_of)
    monkeypatch.setattr(finish, "write_report", lambda path, inside: written.append(inside))
    said: list[str] = []
    last: Any = SimpleNamespace(
        limit="a limit",
        slowness=slowness,
        secs=lambda usual: left_secs,
        leave_out=said.append,
        run=SimpleNamespace(path="runs/a"),
    )
    finish._report(last, SimpleNamespace())  # type: ignore[arg-type]
    assert given == ([left_secs / 2] if explained else [])
    assert written == ["inside" if explained else None]
    assert [one.partition(" (")[0] for one in said] == (
        [] if explained else ["explanations left out of the report"]
    )
