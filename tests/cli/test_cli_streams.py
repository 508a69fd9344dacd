"""Streams that are missing, closed, full or without a reader, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HELP, MISTAKE = "--help", "modls"
FULL = "error VIT-506: standard output cannot be written: No space left on device."


def shell(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command line of bash in which `vitrail` is ours."""
    ours = f"vitrail() {{ '{sys.executable}' -m vitrail \"$@\"; }}; "
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2]), **more}
    return subprocess.run(
        ["bash", "-c", ours + command],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        errors="replace",
    )


@pytest.mark.parametrize(
    ("typed", "code", "error"),
    [
        (f"vitrail {HELP} >/dev/full", 5, FULL),
        (f"vitrail {HELP} --json >/dev/full", 5, FULL),
        (f"vitrail {MISTAKE} --json >/dev/full", 2, "error VIT-211"),
        (f"vitrail {MISTAKE} 2>/dev/full", 2, ""),
        (f"vitrail {HELP} >/dev/full 2>&1", 5, ""),
        (f"vitrail {HELP} >&-", 0, ""),
        (f"vitrail {HELP} <&-", 0, ""),
        (f"vitrail {MISTAKE} 2>&-", 2, ""),
        (f"vitrail {MISTAKE} -v 2>&- >&- <&-", 2, ""),
        (f"vitrail {MISTAKE} 2>&1 | true; exit ${{PIPESTATUS[0]}}", 2, ""),
    ],
)
def test_streams(typed: str, code: int, error: str) -> None:
    done = shell(typed)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(error)
    assert bool(done.stderr) == bool(error)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_nothing_is_written_into_a_file_that_got_the_number_of_a_closed_stream() -> None:
    code = (
        "import os, sys, tempfile\n"
        "from vitrail.cli.display.streams import open_streams\n"
        "open_streams()\n"
        "with tempfile.TemporaryFile() as file:\n"
        "    os.write(1, b'from C'); print('from Python', flush=True)\n"
        "    assert file.fileno() > 2; sys.exit(os.fstat(file.fileno()).st_size)"
    )
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_a_narrow_terminal_and_odd_languages() -> None:
    for more in (
        {"COLUMNS": "1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "tr_TR.UTF-8"},
        {"LANG": "xx"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin1"},
    ):
        done = shell("vitrail report no\u0131\U0001f436; exit $?", **more)
        assert done.returncode == 4, done.stderr
        assert "Traceback" not in done.stderr


def test_a_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    done = shell(f"mkdir {gone}; cd {gone}; rmdir {gone}; vitrail doctor")
    assert done.returncode == 5
    assert "the working directory cannot be used: it was removed" in done.stderr
