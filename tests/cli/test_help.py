"""Help at 80 columns, its examples, the man page and the completion of shells."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.cli_command import run
from vitrail.cli.arguments import bind
from vitrail.cli.help_page import GLUE, Option, all_pages, help_lines, pages, rows, split_default
from vitrail.cli.man_page import CODES, man_page
from vitrail.cli.registry import EXAMPLES, VERBS, option_names
from vitrail.cli.settings import take_settings

PAGES = {page.name: page for page in all_pages()}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", ["--help", *(f"help {name}" for name in PAGES), "help data"])
@pytest.mark.parametrize("more", ["", "-v"])
def test_help_fits_into_80_columns(words: str, more: str) -> None:
    done = run(*words.split(), *more.split())
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert GLUE not in done.out
    for line in lines:  # wrapped once, and a default stays together
        opened = line.count("[default:") + line.count("[from recipe")
        assert opened == 0 or line.endswith("]") or len(line) > 55, line
    name = " ".join(words.split()[1:])
    text = " ".join(done.out.split())
    if name in PAGES:
        for page in pages(name.split()[0], is_long=bool(more)):
            if page.name == name:
                for one in [*page.arguments, *page.options]:
                    assert " ".join(one.meaning.split()) in text  # no word is broken
                    assert one.names[-1] in text


@pytest.mark.parametrize("name", list(PAGES))
def test_help_verb_and_verb_help_are_the_same(name: str) -> None:
    assert run("help", *name.split()).out == run(*name.split(), "--help").out
    record = run(*name.split(), "-h", "--json").document
    assert record["verb"] == name
    assert f"Usage: vitrail {name}" in record["help"]


def test_a_verb_with_commands_shows_them() -> None:
    for words in (["data"], ["data", "--help"], ["help", "data"]):
        text = run(*words).out
        assert all(f"\n  {one} " in text for one in ("check", "split", "show", "get"))


@pytest.mark.parametrize("name", list(PAGES))
def test_two_examples_a_verb_that_the_parser_takes(name: str) -> None:
    verb = name.split()[0]
    app = import_module(VERBS[verb].module).app
    assert len(EXAMPLES[name]) >= 2
    for words, _ in EXAMPLES[name]:
        tokens = [*name.split()[1:], *shlex.split(words.split(" > ")[0])]
        tokens = [one for one in tokens if one != "--json"]
        if VERBS[verb].takes_settings:
            _, tokens = take_settings(tokens, option_names(app))
        assert callable(bind(app, tokens, {"output": None, "settings": {}}))
        assert f"vitrail {name} {words}".strip() in " ".join(run("help", *name.split()).out.split())
    assert set(EXAMPLES) == set(PAGES)


def test_groups_types_defaults_and_choices() -> None:
    text = run("train", "--help").out
    titles = ["Model", "Length (give one)", "Optimization", "Data", "Hardware"]
    places = [text.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)
    assert re.search(r"--freeze none\|body .*\n.*\[default: none\]", text)
    assert re.search(r"--lr FLOAT +Peak learning rate. \[from recipe\]", text)
    assert re.search(r"--workers INT .*\n?.*\[default: auto\]", text)
    assert "--optim.weight-decay" not in text
    assert "--optim.weight-decay FLOAT" in run("train", "--help", "-v").out
    assert "[default: 0]" in run("eval", "--help").out.split("--workers INT")[1][:100]


def test_long_options_and_defaults_are_not_torn() -> None:
    long = Option(("--" + "x" * 70,), "VALUE", "y " * 60, "It means something.")
    assert max(map(len, rows([long], 80))) <= 80
    assert split_default("One.\nDefault: two.") == ("One.", "two")
    assert split_default("One.") == ("One.", "")
    assert all(
        len(line) <= 40 or "|" in line or "vitrail" in line for line in help_lines("runs", 40)
    )


def test_the_man_page_has_every_option_and_is_roff(tmp_path: Path) -> None:
    text = man_page()
    assert run("help", "--man").out == text + "\n"
    plain = text.replace("\\-", "-").replace("\\&", "")
    for page in PAGES.values():
        assert f'.SH "VITRAIL {page.name.upper()}"' in plain
        assert all(f".B {one.left}\n" in plain for one in page.options)
    macros = {line.split()[0] for line in text.splitlines() if re.match(r"[.']", line)}
    assert macros == {".TH", ".SH", ".SS", ".TP", ".B", ".PP", ".nf", ".fi"}
    if groff := shutil.which("groff"):
        done = subprocess.run(
            [groff, "-man", "-ww", "-Tutf8"], input=text, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_exit_codes_are_those_of_the_documents() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([\d, ]+) \|", text.split("## Exit codes")[1], flags=re.MULTILINE)
    assert [code for code, _ in CODES] == listed[: len(CODES)]


def test_bash_completes_verbs_options_choices_and_files(tmp_path: Path) -> None:
    script = tmp_path / "vitrail.bash"
    script.write_text(run("completion", "bash").out)
    (tmp_path / "photos").mkdir()
    ask = (
        f'source {script}; cd {tmp_path}; ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); '
        'COMPREPLY=(); _vitrail; echo "${COMPREPLY[*]}"; }; '
        "ask vitrail tr; ask vitrail train --optim.l; ask vitrail train --augment ra; "
        "ask vitrail data sho; ask vitrail data split --near ; ask vitrail eval ph"
    )
    found = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    verbs, options, choice, part, near, file = found.stdout.splitlines()
    assert (verbs, choice, part) == ("train", "randaugment", "show")
    assert set(options.split()) == {"--optim.lr", "--optim.layer-decay"}
    assert (near, file) == ("--near-duplicates", "photos")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid_and_name_everything(shell: str, tmp_path: Path) -> None:
    text = run("completion", shell).out
    assert all(one in text for one in VERBS)
    assert "optim.lr" in text
    assert run("completion", shell, "--json").document == {"shell": shell, "script": text[:-1]}
    if place := shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([place, "-n", tmp_path / "script"], check=True, capture_output=True)


def test_an_unknown_shell_is_refused() -> None:
    done = run("completion", "tcsh")
    assert done.code == 2
    assert "VIT-202" in done.err
