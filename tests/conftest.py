"""Fixtures and rules of the whole suite: no network, seeds that are printed and can be varied."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from vitrail.system.child_process import SAFE_PATH

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command does, before torch is loaded
settings.register_profile("any-machine", deadline=None)  # a busy machine changes no verdict
settings.load_profile("any-machine")

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        default=0,
        help="added to the seeds of random proofs; other than 0 it also shuffles the test files",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('--seed')} (repeat with --seed)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("ray") or item.get_closest_marker("network"):
            item.add_marker("enable_socket")  # Ray reaches its own host by an outer address
    seed = config.getoption("--seed")
    if seed:
        files = sorted({item.path for item in items})
        random.Random(seed).shuffle(files)
        place = {path: index for index, path in enumerate(files)}
        items.sort(key=lambda item: place[item.path])


@pytest.fixture(autouse=True)
def _safe_path() -> Iterator[None]:
    """A command leaves the working directory out of its children; a test that runs one in this
    process must not leave it out of those of the next, which import from `tests`.
    """
    before = os.environ.get(SAFE_PATH)
    yield
    if before is None:
        os.environ.pop(SAFE_PATH, None)


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """Where random proofs begin: 0, in `make nightly` another number every day."""
    return int(request.config.getoption("--seed"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the project; skips where it is absent."""
    folder = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not available: {folder} is absent")
    return folder
