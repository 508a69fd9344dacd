"""The suite itself: what its rules promise does happen."""

from __future__ import annotations

import socket
import tomllib

import pytest

from tests.conftest import ROOT


def test_no_test_reaches_another_machine() -> None:
    """192.0.2.1 belongs to nobody (RFC 5737); the warning of the guard is an error here."""
    with pytest.raises(UserWarning, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_the_share_of_code_that_runs_has_a_floor() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert settings["coverage"]["report"]["fail_under"] >= 92
    assert settings["coverage"]["run"]["branch"] is True
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "coverage report" in makefile.split("\ntest: $")[1].split("\n\n")[0]
    assert "test" in makefile.split("\nnightly:")[1].splitlines()[0].split()
    assert "make test\n" in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")


def test_the_seed_is_told_and_can_be_given(request: pytest.FixtureRequest, seed: int) -> None:
    assert seed == request.config.getoption("--seed")
    nightly = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nnightly:")[1]
    assert "--seed $(SEED)" in nightly
    assert "--hypothesis-seed $(SEED)" in nightly
