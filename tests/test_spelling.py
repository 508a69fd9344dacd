"""Names as they are shown and stored: one line, nothing unseen, and read back exactly."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vitrail.errors import DataError
from vitrail.files import csv_text
from vitrail.spelling import (
    cell,
    command_text,
    escaped,
    label_cell,
    printable,
    printable_lines,
    unescaped,
)

# Anything that a name may be: all characters, and bytes that are no UTF-8 as Python keeps them.
NAMES = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.characters(categories=["Cs"])),
    max_size=12,
)
PACKAGE = Path(__file__).parents[1] / "vitrail"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("caf\u00e9 \u4e2d", "caf\u00e9 \u4e2d"),
        ("a\nb\tc\x1b[31m", "a\\x0ab\\x09c\\x1b[31m"),
        ("x\udcff", "x\\xff"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x85\u2028\U000e0001", "\\u0085\\u2028\\U000e0001"),
        ("\u0645\u06cc\u200c\u0631\u0648\u0645", "\u0645\u06cc\u200c\u0631\u0648\u0645"),
    ],
)
def test_what_cannot_be_seen_is_written_out(name: str, shown: str) -> None:
    assert printable(name) == shown


@given(NAMES)
@example("escaped:")
@example("a\\x41")
@example("x\udcff\\\n")
def test_a_name_that_is_stored_reads_back(name: str) -> None:
    text = escaped(name)
    assert unescaped(text) == name
    text.encode("utf-8")
    assert text == printable(text)
    assert unescaped(escaped(name, also="\\|")) == name


@given(NAMES)
def test_a_name_stays_on_one_line_and_is_no_formula(name: str) -> None:
    assert len(printable(name).splitlines()) <= 1
    assert printable(printable(name)) == printable(name)
    assert cell(cell(name)) == cell(name)
    (row,) = csv.reader(io.StringIO(csv_text([name, 1], [])))
    assert row == [cell(name), "1"]


def test_cells() -> None:
    assert [cell(one) for one in ("=1+1", "@x", "+a", "-1", "+1.5", "a=b", "")] == [
        "\\x3d1+1",
        "\\x40x",
        "\\x2ba",
        "-1",
        "+1.5",
        "a=b",
        "",
    ]
    assert label_cell(["cat|dog"]) == "cat\\x7cdog"
    assert label_cell(["cat", "dog"]) == "cat|dog"


def test_what_follows_the_prefix_is_checked() -> None:
    for wrong in ("escaped:\\", "escaped:a\\xg0", "escaped:\\u12"):
        with pytest.raises(ValueError, match="backslash"):
            unescaped(wrong)


def test_an_error_keeps_its_own_lines_only() -> None:
    fault = DataError("VIT-301", "2 bad:\n  a\nerror VIT-100: forged\n  b", hint="x\ny")
    assert fault.message.splitlines() == ["2 bad:", "  a\\x0aerror VIT-100: forged", "  b"]
    assert fault.hint == "x\\x0ay"
    assert printable_lines("a\n  b") == "a\n  b"


def test_a_command_reads_back_in_bash() -> None:
    words = ["a b", "x\udcff", "it's\n\\t", "plain"]
    done = subprocess.run(
        ["/bin/bash", "-c", f"printf '%s\\0' {command_text(words)}"],
        capture_output=True,
        check=True,
    )
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == words


def test_tables_are_written_in_one_place() -> None:
    """So that one rule holds for every cell."""
    writers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"csv\.(Dict)?[wW]riter", path.read_text(encoding="utf-8"))
    }
    assert writers <= {"files.py"}
