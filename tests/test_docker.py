"""Dockerfiles and the examples of docs/deploy: the files and options that they name are there."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.dockerfile import Instruction, copied, instructions
from tests.export.exported import classifier_of
from vitrail.cli.arguments import bind
from vitrail.cli.verbs.serve import app as serve_app

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
PROBES = re.findall(r'"(/v2/health/[a-z]+)"', (ROOT / "vitrail/serve/routes/health.py").read_text())
FILES = ["Dockerfile", "Dockerfile.train"]


def last(name: str, word: str) -> Instruction:
    return [one for one in instructions(ROOT / name) if one.word == word][-1]


def check_serve(words: list[str]) -> None:
    """`words` are a call of vitrail serve that its parser takes."""
    assert words[0] == "serve"
    bind(serve_app, words[1:], {"output": None})


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_reaches_the_builder(name: str) -> None:
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    sources = copied(ROOT / name)
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert set(sources) <= let_in


@pytest.mark.parametrize("name", FILES)
def test_it_does_not_run_as_root_and_fetches_nothing_by_itself(name: str) -> None:
    user = last(name, "USER").rest.split(":")[0]
    assert user.isdigit()
    assert int(user) > 0
    words = {one.word for one in instructions(ROOT / name)}
    assert "ADD" not in words
    assert all(one.words[0] == "pip" for one in instructions(ROOT / name) if one.word == "RUN")


def test_the_image_to_serve_has_no_torch_and_checks_every_wheel() -> None:
    steps = [one for one in instructions(ROOT / "Dockerfile") if one.word == "RUN"]
    final = [one.rest for one in steps if one.stage == 2]
    assert "--require-hashes" in final[0]
    assert all("--no-deps" in line or "--require-hashes" in line for line in final)


def test_the_commands_of_the_image_are_understood() -> None:
    assert last("Dockerfile", "ENTRYPOINT").words == ["vitrail"]
    check_serve(last("Dockerfile", "CMD").words)
    check = last("Dockerfile", "HEALTHCHECK").rest
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", check)
    assert address is not None
    assert address[1] in last("Dockerfile", "CMD").words
    assert address[2] in PROBES
    ast.parse(Instruction("CMD", check.partition("CMD ")[2], 2).words[2])


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml", "kserve.yaml"])
def test_examples_of_deployment_name_options_that_exist(name: str) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra hub")
    found = list(yaml.safe_load_all((DEPLOY / name).read_text()))
    calls = list(commands_in(found))
    assert calls
    for words in calls:
        check_serve(words)
    text = (DEPLOY / name).read_text()
    probed = re.findall(r"path: (/v2/[\w/]+)", text)
    assert set(probed) <= set(PROBES)


def commands_in(value: Any) -> Any:
    """Lists that begin with "serve", anywhere."""
    if isinstance(value, list) and value[:1] == ["serve"]:
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from commands_in(item)


def test_the_deployment_of_ray_serve_answers_a_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its own class, with decorators that do nothing in the place of Ray's."""
    fake = ModuleType("ray.serve")
    plain: Any = lambda **_: lambda thing: thing  # noqa: E731
    fake.batch = plain  # type: ignore[attr-defined]
    fake.deployment = lambda **_: _with_bind  # type: ignore[attr-defined]
    parent = ModuleType("ray")
    parent.serve = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", parent)
    monkeypatch.setitem(sys.modules, "ray.serve", fake)
    scope: dict[str, Any] = {"__name__": "ray_serve"}
    exec(compile((DEPLOY / "ray_serve.py").read_text(), "ray_serve.py", "exec"), scope)
    classifier_of().save(tmp_path / "model")
    replica = scope["Classify"](str(tmp_path / "model"))
    image = np.zeros((16, 12, 3), np.uint8)
    (good, bad) = asyncio.run(replica.answers([image, b"no image"]))
    assert good["error"] is None
    assert len(good["top"]) == 5
    assert bad["error"]
    assert bad["top"] == []


def _with_bind(kind: Any) -> Any:
    kind.bind = lambda *_: None
    return kind
