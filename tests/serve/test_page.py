"""The page as it is sent: its files, its headers, and what it may do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.serve.running import Running, running
from vitrail.page.assets import MEDIA_TYPES, assets, served_model_script
from vitrail.serve.routes.page import PATHS

FILES = assets(served_model_script())
TOKEN = "0123456789abcdef-secret"
EXPORTED = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.M)
IMPORTED = re.compile(r"^import (?:\{ ([^}]+) \}|\* as \w+) from \"\./([^\"]+)\";", re.M)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(token=TOKEN) as found:
        yield found


@pytest.mark.parametrize("path", PATHS)
def test_the_page_is_there_without_a_token(server: Running, path: str) -> None:
    answer = server.ask("GET", path)
    name = PATHS[path]
    assert (answer.status, answer.body) == (200, FILES[name])
    assert answer.headers["content-type"] == MEDIA_TYPES["." + name.rpartition(".")[2]]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.promise("S11")
def test_what_the_page_may_do(server: Running) -> None:
    policy = server.ask("GET", "/").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in policy
    assert "*" not in policy


def test_nothing_is_written_into_the_markup_and_nothing_comes_from_elsewhere() -> None:
    text = FILES["index.html"].decode()
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script>", text)
    for name, content in FILES.items():
        found = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|//[a-z]+\.[a-z]|innerHTML|eval\(|document\.write", found
        ), name


def test_every_file_that_is_named_is_there_and_every_one_is_named() -> None:
    text = FILES["index.html"].decode()
    named = {*re.findall(r'(?:href|src)="(page/[^"]+)"', text), "index.html"}
    for name in [name for name in FILES if name.endswith(".js")]:
        named |= {f"page/{one}" for _, one in IMPORTED.findall(FILES[name].decode())}
    assert named == set(FILES)


def test_what_a_script_takes_from_another_is_exported_there() -> None:
    for name in [name for name in FILES if name.endswith(".js")]:
        for names, other in IMPORTED.findall(FILES[name].decode()):
            exported = set(EXPORTED.findall(FILES[f"page/{other}"].decode()))
            wanted = {one.strip() for one in names.split(",") if one.strip()}
            assert wanted <= exported, (name, other)


def test_every_id_that_a_script_asks_for_is_in_the_markup() -> None:
    text = FILES["index.html"].decode()
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    asked = set(re.findall(r'by\("([^"]+)"\)', FILES["page/main.js"].decode()))
    referred = set(re.findall(r'aria-labelledby="([^"]+)"|\sfor="([^"]+)"', text))
    assert asked | {one or other for one, other in referred} <= set(ids)
