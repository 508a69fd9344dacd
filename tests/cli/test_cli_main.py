"""The frame around every verb: help, version, errors, exit codes, streams."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from tests.cli.cli_command import fake, run
from vitrail import errors
from vitrail.cli.display.output import Output, plain, table
from vitrail.cli.main import SWITCHES
from vitrail.cli.registry import GLOBAL, VERBS
from vitrail.errors import DataError

PYTHON = [sys.executable, "-m", "vitrail"]


def verb_that(monkeypatch: pytest.MonkeyPatch, fault: BaseException | None) -> None:
    """Make `vitrail doctor` raise `fault`."""
    app = App(name="vitrail doctor")

    def doctor() -> None:
        if fault is not None:
            raise fault

    app.default(doctor)
    fake(monkeypatch, "vitrail.cli.verbs.doctor", app=app)


def test_help_names_every_verb_and_global_option() -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        done = run(*words)
        assert done.code == 0
        assert done.err == ""
        assert all(f"  {name}  " in done.out for name in VERBS)
        assert all(name in done.out for name in GLOBAL)


def test_global_table_and_switches_agree() -> None:
    named = {word for key in GLOBAL for word in key.split(", ")}
    assert named == {*SWITCHES, "--version", "-h", "--help"}


def test_version_is_that_of_the_package() -> None:
    import vitrail

    assert run("--version").out == f"vitrail {vitrail.__version__}\n"
    assert run("--version", "--json").document == {"version": vitrail.__version__}


def test_help_is_quick_and_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from vitrail.cli.main import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'cyclopts', 'pydantic')))"
    )
    secs = []
    for _ in range(3):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)  # not the clock: others compute too
        secs.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    assert min(secs) < 0.3


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_of_a_verb_loads_no_torch(verb: str) -> None:
    before = "torch" in sys.modules
    done = run(verb, "--help")
    assert done.code == 0
    assert f"Usage: vitrail {verb}" in done.out
    assert "--json" in done.out
    assert before or "torch" not in sys.modules


def test_unknown_verb_names_the_nearest() -> None:
    done = run("trian")
    assert done.code == 2
    assert done.err.startswith("error VIT-211: unknown verb trian. Did you mean train?\n")
    assert done.out == ""


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.VitrailError("VIT-100", "x"), 1),
        (errors.UsageError("VIT-2nn", "x"), 2),
        (errors.DataError("VIT-3nn", "x"), 3),
        (errors.ModelError("VIT-4nn", "x"), 4),
        (errors.EnvironmentFault("VIT-5nn", "x"), 5),
        (errors.TrainingError("VIT-6nn", "x"), 6),
        (errors.GateError("VIT-7nn", "x"), 7),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 1),
        (MemoryError(), 5),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 5),
        (None, 0),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, fault: BaseException | None, code: int
) -> None:
    verb_that(monkeypatch, fault)
    done = run("doctor")
    assert done.code == code
    assert "Traceback" not in done.err + done.out


def test_internal_errors_ask_for_a_report_and_show_a_traceback_with_v(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verb_that(monkeypatch, ZeroDivisionError("boom"))
    done = run("doctor")
    assert done.err.startswith("error VIT-100: internal error ZeroDivisionError: boom\n")
    assert "report" in done.err
    assert "Traceback" not in done.err
    assert "ZeroDivisionError: boom" in run("-v", "doctor").err.split("Traceback")[1]


def test_errors_with_json_are_a_document_too(monkeypatch: pytest.MonkeyPatch) -> None:
    verb_that(monkeypatch, errors.DataError("VIT-302", "no folders", hint="make some"))
    done = run("doctor", "--json")
    expected = {"code": "VIT-302", "message": "no folders", "hint": "make some", "exit_code": 3}
    assert done.document == expected
    assert done.err == "error VIT-302: no folders\nmake some\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"'{sys.executable}' -m vitrail models | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert done.returncode in (0, 141)  # 0 where everything was written before head ended


def in_a_verb(*lines: str) -> subprocess.CompletedProcess[str]:
    """A command whose verb runs these lines."""
    body = "".join(f"    {line}\n" for line in lines)
    code = (
        "import os, sys; from types import ModuleType; from cyclopts import App\n"
        f"m = ModuleType('x'); m.app = App()\ndef doctor():\n{body}"
        "m.app.default(doctor); sys.modules['vitrail.cli.verbs.doctor'] = m\n"
        "from vitrail.cli.main import main; sys.exit(main(['doctor']))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_broken_pipe_is_quiet() -> None:
    done = in_a_verb(
        "ours, theirs = os.pipe()",
        "os.dup2(theirs, 1); os.close(ours)",
        "sys.stdout.write('by a library'); sys.stdout.flush()",
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


def test_a_broken_pipe_to_another_process_is_no_quiet_end() -> None:
    done = in_a_verb(
        "ours, theirs = os.pipe(); os.close(ours)", "os.write(theirs, b'to a worker that died')"
    )
    assert done.returncode == 5
    assert done.stderr.startswith("error VIT-506: a file cannot be used: Broken pipe.")


def test_a_name_never_forges_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\nerror VIT-100: forged\x1b[31m\udcff"
    output = Output()
    output.line(f"{name}  1.0")
    output.note(name)
    output.error(DataError("VIT-303", f"{name} does not exist.", hint=f"Look at {name}"))
    said, told = capsys.readouterr()
    assert len(said.splitlines()) == 1
    assert [line.split(":")[0] for line in told.splitlines()] == [
        "a\\x0aerror VIT-100",
        "error VIT-303",
        "Look at a\\x0aerror VIT-100",
    ]
    assert "\x1b[31m" not in said + told
    assert table([[name, "1"], ["b", "2"]])[0].startswith("a\\x0aerror")


def test_json_holds_names_exactly_or_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).document({"a\n": Path("x\udcff"), "b": ["\u202e"]})
    assert json.loads(capsys.readouterr().out) == {"a\n": "escaped:x\\xff", "b": ["\u202e"]}


def test_plain_makes_json_of_what_we_have() -> None:
    import numpy as np

    values: dict[Any, Any] = {
        "a": float("nan"),
        1: Path("b"),
        "c": np.arange(3),
        "d": np.float32(0.5),
    }
    assert plain(values) == {"a": None, "1": "b", "c": [0, 1, 2], "d": 0.5}
    assert plain(Output(json=True))["json"] is True


def test_table_aligns_names_left_and_numbers_right() -> None:
    assert table([["class", "n"], ["cat", "7"], ["horse", "11"]]) == [
        "class   n",
        "cat     7",
        "horse  11",
    ]


def test_names_after_two_dashes_are_no_options() -> None:
    done = run("predict", "m", "--", "--json")
    assert done.code == 3
    assert "--json does not exist" in done.err
