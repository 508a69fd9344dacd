"""`vitrail completion SHELL`: a script that completes verbs, options, choices and files.

cyclopts writes it, from parsers that are made of the pages of help: one source for both.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.display.streams import say_result
from vitrail.cli.help_page import Option, Page, all_pages
from vitrail.cli.registry import GLOBAL, VERBS

Shell = Literal["bash", "zsh", "fish"]
FILES = ("PATH", "FILE", "RUN", "MODEL", "DATA", "MODELS", "FILES", "PICTURES", "IN", "OUT")

app = app_of("vitrail completion")


@app.default
def completion(shell: Shell, /, *, output: Annotated[Output, Parameter(parse=False)]) -> int:
    """Write the completion script of a shell to stdout.

    Parameters
    ----------
    shell
        The shell: its script goes where it looks for such (bash:
        ~/.local/share/bash-completion/completions/vitrail; zsh: _vitrail in a folder of $fpath;
        fish: ~/.config/fish/completions/vitrail.fish).
    """
    script = root().generate_completion(prog_name="vitrail", shell=shell)
    if output.json:
        output.document({"shell": shell, "script": script})
    else:
        say_result(script)
    return 0


def root() -> App:
    """A parser of the whole command line that only knows names, kinds and choices."""
    top = App(name="vitrail", help_flags=["--help", "-h"], version_flags=["--version"])
    parts = {verb: App(name=verb, help=VERBS[verb].summary) for verb in ("data",)}
    for page in all_pages():
        verb, _, part = page.name.partition(" ")
        owner = parts[verb] if part else top
        owner.command(stand_in(page), name=part or verb, help=page.about)
    for one in parts.values():
        top.command(one)
    return top


def stand_in(page: Page) -> Any:
    """A function with the arguments and options of `page`, which is never called."""

    def nothing(**_: object) -> None:
        raise AssertionError

    options = [*page.options, *everywhere()]
    parameters = [parameter(one, number) for number, one in enumerate([*page.arguments, *options])]
    nothing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    nothing.__annotations__ = {one.name: one.annotation for one in parameters}
    return nothing


def everywhere() -> list[Option]:
    """The global options but help and version, which the parser has."""
    names = [tuple(key.split(", ")) for key in GLOBAL]
    texts = list(GLOBAL.values())
    return [Option(one, "", "", text) for one, text in zip(names, texts, strict=True)][:4]


def parameter(one: Option, number: int) -> inspect.Parameter:
    """A parameter of the stand-in."""
    is_option = one.names[0].startswith("-")
    kind: Any = Path if one.value.strip("[].") in FILES else str
    if one.choices:
        kind = Literal[one.choices]
    elif is_option and not one.value:
        kind = bool
    names = one.names if is_option else ()
    annotation = Annotated[kind, Parameter(name=names or None, help=one.meaning, negative=())]
    return inspect.Parameter(
        f"p{number}",
        inspect.Parameter.KEYWORD_ONLY if is_option else inspect.Parameter.POSITIONAL_ONLY,
        default=None,
        annotation=annotation,
    )
