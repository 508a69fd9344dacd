"""How a name is written where it is shown or stored, whatever is in it.

Names of files and classes come from outside: they may hold line breaks, ESC, marks that turn the
direction of the text around them, and bytes that are no UTF-8 (kept by Python as lone surrogates).
Two spellings, used everywhere:

- `printable`, for people: what cannot be seen is written out, \\x1b or \\u202e, a byte that is no
  text \\xff. On terminals, in pages, Markdown and tables.
- `escaped`, for files that are read again: where a name cannot stand as it is, "escaped:" and the
  printable name with its backslashes as \\x5c. `unescaped` gives the name back exactly.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

PREFIX = "escaped:"
JOINERS = "\u200c\u200d"  # part of words in Persian and Hindi, and of emoji; they turn nothing
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def printable(text: str) -> str:
    """`text` on one line, with everything that cannot be seen written out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in JOINERS else _written_out(one) for one in text
    )


def printable_lines(text: str) -> str:
    """As `printable`; a line break stays where two spaces follow it, as in lists of ours, so that
    a name never begins a line.
    """
    return "\n  ".join(map(printable, text.split("\n  ")))


def escaped(text: str, also: str = "") -> str:
    """`text` where it can stand as it is; else with the prefix, its backslashes and all letters of
    `also` written out too.
    """
    can_stand = not text.startswith(PREFIX) and not any(one in text for one in also)
    if can_stand and printable(text) == text:
        return text
    letters = (_written_out(one) if one == "\\" or one in also else printable(one) for one in text)
    return PREFIX + "".join(letters)


def as_utf8(text: str) -> str:
    """`text` exactly, for formats with escapes of their own; `escaped` where bytes of it are no
    text, which none of them can hold.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return escaped(text)
    return text


def unescaped(text: str) -> str:
    """The name that `escaped` wrote. Raises ValueError where what follows the prefix is none."""
    if not text.startswith(PREFIX):
        return text
    rest = text.removeprefix(PREFIX)
    if "\\" in _ESCAPE.sub("", rest):
        raise ValueError("a backslash without \\xNN, \\uNNNN or \\UNNNNNNNN")
    return _ESCAPE.sub(_read, rest)


PLURALS = {"is": "are", "has": "have", "was": "were", "does": "do"}


def count(number: int, noun: str, verb: str = "") -> str:
    """1 image, 2,000 images; with the verb that belongs to it: 1 image is, 2,000 images are."""
    if number == 1:
        return f"1 {noun} {verb}".rstrip()
    ending = "es" if noun.endswith(("s", "ch", "x")) else "s"
    many = noun[:-1] + "ies" if noun.endswith("ry") else noun + ending
    return f"{number:,} {many} {PLURALS.get(verb, verb.removesuffix('s'))}".rstrip()


def times(number: int) -> str:
    """once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def cell(text: str) -> str:
    """A text as tables have it: printable, and never the beginning of a spreadsheet's formula, so
    =1 is written \\x3d1. A number stays as it is.
    """
    text = printable(text)
    return _written_out(text[0]) + text[1:] if is_formula(text) else text


def label_cell(names: Iterable[str]) -> str:
    """Class names as tables have them, joined by "|"; within a name it is \\x7c."""
    return cell("|".join(printable(name).replace("|", "\\x7c") for name in names))


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would compute `text`; -1 is a number."""
    if text[:1] not in tuple("=+-@"):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def command_text(words: Iterable[str]) -> str:
    """A command line of POSIX shells; a word with what cannot be seen as $'...' of bash and zsh."""
    return " ".join(shlex.quote(one) if one.isprintable() else _dollar_quoted(one) for one in words)


def _dollar_quoted(word: str) -> str:
    marks = {"\\": "\\\\", "'": "\\'"}
    letters = [marks.get(one) or (one if one.isprintable() else _octets(one)) for one in word]
    return "$'" + "".join(letters) + "'"


def _octets(one: str) -> str:
    return "".join(f"\\x{octet:02x}" for octet in one.encode("utf-8", "surrogateescape"))


def _written_out(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _read(found: re.Match[str]) -> str:
    code = int(found[1] or found[2] or found[3], 16)
    return chr(code + 0xDC00 if found[1] and code >= 0x80 else code)
