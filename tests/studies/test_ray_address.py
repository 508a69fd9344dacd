"""An address where no cluster is, without Ray."""

from __future__ import annotations

import socket
import time

import pytest

from vitrail.errors import EnvironmentFault
from vitrail.studies.ray_engine import check_reachable


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_nobody_listens(prefix: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        began = time.monotonic()
        with pytest.raises(EnvironmentFault, match="no Ray cluster") as error:
            check_reachable(f"{prefix}127.0.0.1:{taken.getsockname()[1]}")
        assert time.monotonic() - began < 5
    assert error.value.code == "VIT-511"
    assert "ray start" in error.value.hint


def test_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["auto", "local"])
def test_names_are_left_to_ray(address: str) -> None:
    check_reachable(address)


def test_a_port_that_cannot_be() -> None:
    with pytest.raises(EnvironmentFault, match="no Ray cluster"):
        check_reachable("127.0.0.1:99999")
