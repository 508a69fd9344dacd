"""The manual page vitrail(1), made of the pages of help: `vitrail help --man`, `make man`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from vitrail.cli.help_page import Option, Page, all_pages
from vitrail.cli.registry import GLOBAL

TITLE = "Train, evaluate, explain and convert Vision Transformer image classifiers"
CODES = (  # of exit, as docs/cli.md has them
    ("0", "done"),
    ("1", "internal error: please report it"),
    ("2", "usage or configuration"),
    ("3", "data"),
    ("4", "model or checkpoint refused, damaged or incompatible"),
    ("5", "environment: missing extra, device, memory, disk"),
    ("6", "training failed: not finite"),
    ("7", "a gate that was asked for was not met"),
    ("130, 143", "interrupted, after a checkpoint was written"),
    ("141", "the reader of the output has gone"),
)


def man_page() -> str:
    """The page in roff with the macros of man(7)."""
    return "\n".join(lines())


def lines() -> Iterator[str]:
    """Its lines."""
    yield f'.TH VITRAIL 1 "" "vitrail {version("vitrail")}" "User Commands"'
    yield from (".SH NAME", f"vitrail \\- {plain(TITLE)}")
    yield from (".SH SYNOPSIS", ".B vitrail", r"\fIVERB\fR [\fIOPTIONS\fR]")
    yield ".SH OPTIONS EVERYWHERE"
    for names, meaning in GLOBAL.items():
        yield from row(names, meaning)
    for page in all_pages():
        yield from verb_lines(page)
    yield ".SH EXIT STATUS"
    for code, meaning in CODES:
        yield from row(code, meaning)


def verb_lines(page: Page) -> Iterator[str]:
    """The section of a verb."""
    yield from (f'.SH "VITRAIL {plain(page.name.upper())}"', f".B {plain(page.usage)}", ".PP")
    yield plain(page.about)
    for title, options in {"Arguments": page.arguments, **page.groups}.items():
        yield f'.SS "{plain(title)}"'
        for one in options:
            yield from option_lines(one)
    yield from ('.SS "Examples"', ".nf")
    yield from (plain(words) for words, _ in page.examples)
    yield ".fi"


def option_lines(one: Option) -> Iterator[str]:
    """An option with its meaning and default."""
    default = f" [{one.default}]" if one.default else ""
    left = one.left if one.names[0].startswith("-") else one.names[0]
    yield from row(left, one.meaning + default)


def row(left: str, text: str) -> Iterator[str]:
    """A tagged paragraph."""
    yield from (".TP", f".B {plain(left)}", plain(text))


def plain(text: str) -> str:
    """Text without meaning to roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
