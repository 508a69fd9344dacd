"""/openapi.json: made of the table that routes are made of, and true."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from tests.serve.running import Running, running, some_classifier, some_png
from vitrail.serve.problem import TITLES
from vitrail.serve.routes.app import ENDPOINTS, application

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier) as found:
        yield found


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return server.ask("GET", "/openapi.json").json


def test_routes_are_those_of_the_document(server: Running, document: Any) -> None:
    app: Any = application(server.service)
    routes = [one for one in app._app._router.routes if isinstance(one, Route)]
    served = {(one.path, method) for one in routes for method in (one.methods or set()) - {"HEAD"}}
    described = {
        (path, method.upper()) for path, found in document["paths"].items() for method in found
    }
    assert served == described
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"]


def test_the_page_of_the_documentation_names_every_route(document: Any) -> None:
    text = PAGE.read_text(encoding="utf-8").replace("NAME", "{name}")
    for path in document["paths"]:
        if not path.startswith("/page/"):
            assert f" {path}" in text, path


def test_the_curl_lines_of_the_documentation(server: Running, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    (tmp_path / "a.jpg").write_bytes(some_png(1))
    blocks = re.findall(r"```\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = re.findall(
        r"^curl (?:.*\\\n)*.*$", "\n".join(blocks).replace("photos-1", "m0"), re.MULTILINE
    )
    assert len(lines) == 2
    expected = server.classify(some_png(1)).json[0]["label"]
    for line in lines:
        command = line.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert expected in done.stdout, done


def test_it_holds_together(document: Any) -> None:
    for path, found in document["paths"].items():
        for operation in found.values():
            names = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert names == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"].endswith(".")
            assert set(operation["responses"]) - {"200"} <= {str(one) for one in TITLES}
            assert ("requestBody" in operation) == (operation is found.get("post"))


def test_answers_have_the_form_that_it_says(server: Running, document: Any) -> None:
    """By the part of JSON Schema that the document uses."""
    answers = {
        ("/v1/models", "get"): server.ask("GET", "/v1/models").json,
        ("/v1/classify", "post"): server.classify(some_png()).json,
        ("/v1/explain", "post"): server.ask("POST", "/v1/explain", some_png()).json,
    }
    for (path, method), answer in answers.items():
        schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]
        validate(answer, schema["schema"])
    problem = server.classify(b"x").json
    validate(problem, document["components"]["schemas"]["Problem"])


def validate(value: Any, schema: Any) -> None:
    """Raises AssertionError where the value is not of the schema."""
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "number": (int, float),
        "integer": int,
    }
    kinds |= {"boolean": bool, "null": type(None)}
    if "oneOf" in schema:
        assert sum(fits(value, one) for one in schema["oneOf"]) == 1
        return
    given = schema.get("type", [])
    wanted = [given] if isinstance(given, str) else given
    assert not wanted or any(isinstance(value, kinds[one]) for one in wanted), (value, schema)
    assert schema.get("const", value) == value
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        for name, part in schema.get("properties", {}).items():
            if name in value:
                validate(value[name], part)
    if isinstance(value, list):
        for one in value:
            validate(one, schema.get("items", {}))


def fits(value: Any, schema: Any) -> bool:
    """Whether it validates."""
    try:
        validate(value, schema)
    except AssertionError:
        return False
    return True


def test_paths_without_a_token_are_few() -> None:
    open_paths = {one.path for one in ENDPOINTS if one.is_open}
    others = {path for path in open_paths if not path.startswith("/page/")}
    assert others == {"/", "/favicon.ico", "/v2/health/live", "/v2/health/ready"}


def test_a_parameter_without_meaning_is_refused(server: Running) -> None:
    answer = server.classify(some_png(), "?tpo=3")
    assert (answer.status, answer.json["code"]) == (422, "VIT-202")
    assert "top" in answer.json["detail"]
