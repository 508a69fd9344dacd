"""The files around the package: workflows, hooks, templates and documents agree with the rest."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.plain_yaml import parse

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"
CITATION = ROOT / "CITATION.cff"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), GITHUB / "pull_request_template.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def read(path: Path) -> Any:
    """The content of a YAML file."""
    return parse(path.read_text(encoding="utf-8"))


def ids(path: Path) -> str:
    return path.name


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    """The jobs of all workflows by name."""
    return {name: job for path in WORKFLOWS for name, job in read(path)["jobs"].items()}


def steps(jobs: dict[str, Any], key: str) -> list[str]:
    """`run` or `uses` of every step that has it."""
    return [step[key] for job in jobs.values() for step in job["steps"] if key in step]


def test_jobs_run_nothing_but_targets_of_the_makefile(jobs: dict[str, Any]) -> None:
    commands = steps(jobs, "run")
    assert {"make check", "make test", "make wheel", "make docs"} <= set(commands)
    unknown = [text for text in commands if text.removeprefix("make ") not in TARGETS]
    assert unknown == []
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    asked = " ".join(re.findall(r"^make (.+)", ci, re.MULTILINE)).split()
    same = {"test-parts": "test"}  # untraced
    targets = {same.get(word, word) for word in asked if not word.startswith("-")}
    assert {f"make {target}" for target in targets} <= set(commands)


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_workflows_may_only_read(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == []
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert [name for name, job in workflow["jobs"].items() if "timeout-minutes" not in job] == []


def test_actions_are_named_by_commit(jobs: dict[str, Any]) -> None:
    actions = steps(jobs, "uses")
    assert actions
    assert [name for name in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []


def test_versions_of_python_and_systems_agree(
    jobs: dict[str, Any], project: dict[str, Any]
) -> None:
    matrix = jobs["test"]["strategy"]["matrix"]
    prefix = "Programming Language :: Python :: 3."
    classifiers = project["classifiers"]
    stated = ["3." + line.removeprefix(prefix) for line in classifiers if line.startswith(prefix)]
    assert matrix["python"] == stated == ["3.11", "3.12", "3.13", "3.14"]
    assert project["requires-python"] == f">={stated[0]}"
    assert {entry["python"] for entry in matrix["include"]} <= set(stated)
    systems = {*matrix["os"], *(entry["os"] for entry in matrix["include"])}
    assert systems == {"ubuntu-latest", "macos-latest"}
    assert [line for line in classifiers if line.startswith("Operating System")] == [
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
    ]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        f"Python {stated[0]} to {stated[-1]} on Linux or macOS; Windows is not supported" in readme
    )


def test_the_citation_says_what_the_package_says(project: dict[str, Any]) -> None:
    citation = read(CITATION)
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # required by CFF 1.2.0
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["abstract"] == project["description"]
    assert citation["keywords"] == project["keywords"]
    assert project["urls"]["Documentation"].startswith(citation["repository-code"])


def test_hooks_use_what_is_installed(project: dict[str, Any]) -> None:
    repositories = read(HOOKS)["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    hooks = {hook["id"]: hook for hook in repositories[0]["hooks"]}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    assert hooks["ruff-format"]["entry"] == ".venv/bin/ruff format --force-exclude"
    assert hooks["ruff-check"]["entry"] == ".venv/bin/ruff check --force-exclude"
    assert hooks["check"]["entry"].removeprefix("make ") in TARGETS
    assert any(line.startswith("ruff==") for line in project["optional-dependencies"]["check"])


@pytest.mark.parametrize("path", FORMS, ids=ids)
def test_issue_forms_ask_something(path: Path) -> None:
    form = read(path)
    if path.name == "config.yml":
        assert {"name", "url", "about"} == set(form["contact_links"][0])
        return
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    assert form["name"]
    assert form["description"]
    assert len({part["id"] for part in questions}) == len(questions) > 0
    assert all(part["attributes"]["label"] for part in questions)


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_documents_name_targets_and_files_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`make ([^`]+)`", text) + re.findall(
        r"^ {4,}make ([a-z -]+?)(?:  |$)", text, re.MULTILINE
    )
    assert {target for words in named for target in words.split()} <= TARGETS
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    files = [link for link in links if link and "://" not in link]
    assert [link for link in files if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md"])
def test_documents_name_paths_and_programs_that_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:tests|docs|benchmarks|vitrail)/[\w/]+\.(?:py|md)\b", text)
    assert [path for path in paths if not (ROOT / path).is_file()] == []
    programs = re.findall(r"-m (benchmarks\.\w+)", text)
    assert [program for program in programs if find_spec(program) is None] == []


def test_the_expected_documents_exist() -> None:
    names = {path.name for path in DOCUMENTS}
    expected = (
        "README CONTRIBUTING CODE_OF_CONDUCT SECURITY RELEASE CHANGELOG pull_request_template"
    )
    assert {f"{name}.md" for name in expected.split()} <= names


def test_phony_targets_and_the_tests_of_documents_exist() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    documents = re.search(r"^DOCS := (.+)$", MAKEFILE, re.MULTILINE)
    assert phony
    assert documents
    assert set(phony[1].split()) == TARGETS
    assert [name for name in documents[1].split() if not (ROOT / name).is_file()] == []


def test_a_release_touches_every_place_of_the_version() -> None:
    text = (ROOT / "RELEASE.md").read_text(encoding="utf-8")
    for place in ("pyproject.toml", "vitrail/__init__.py", "CITATION.cff", "CHANGELOG.md"):
        assert f"`{place}`" in text
    assert {"check", "test", "nightly", "wheel", "test-wheel"} <= set(
        re.findall(r"make ([a-z-]+)", text)
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",  # a key twice
        "a:\n   b: 1\n  c: 2",  # no such level
        "a: b: c",
        "a: 'b",
        "a: [b",
        "a:\n\tb: 1",
        "a: b\n  c",
        "a: |\n  b",
        "a: *b",
        "- a\nb: 1",
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not understood|indentation|neither a key"):
        parse(text)


def test_plain_yaml_is_read() -> None:
    text = 'a: "3 # 1" # note\nb:\n  - c: [x, 2]\n    d:\n  - e:\n      f: true\n  - g\n'
    assert parse(text) == {
        "a": "3 # 1",
        "b": [{"c": ["x", 2], "d": None}, {"e": {"f": True}}, "g"],
    }
