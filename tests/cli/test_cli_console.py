"""What a run says: a table in a pipe, a progress line on a terminal, JSON lines with --json."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vitrail.cli.display.console import COLUMNS, ConsoleReporter, JsonReporter, evaluation_line
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import clock
from vitrail.config import TrainConfig
from vitrail.training.reporter import Reporter, RunResult

STEP = {
    "step": 7,
    "total_steps": 70,
    "epoch": 0.7,
    "train/loss": 2.10431,
    "optim/lr": 3e-4,
    "perf/images_per_s": 4120.4,
    "perf/data_wait": 0.02,
    "eta_secs": 41.2,
}
EVALUATION = {"step": 10, "epoch": 1.0, "val/loss": 1.77121, "val/top1": 0.46111, "is_best": True}
RESULT = RunResult(
    Path("runs/digits-1"),
    38.2,
    70,
    best={"step": 60, "epoch": 6.0, "val/loss": 0.1, "val/top1": 0.97222},
    test={"top1": 0.96111, "top1_interval": [0.922, 0.981]},
    baselines={"nearest neighbour": 0.98, "majority class": 0.1},
    next_commands=["vitrail report runs/digits-1"],
)


def plan() -> Any:
    """As much of a Plan as a reporter reads."""
    source = [0] * 7
    splits = SimpleNamespace(
        name="digits",
        classes=("0", "1"),
        parts=lambda: {"train": source, "val": source[:3]},
        counts=lambda: {"train": len(source), "val": 3},
        notes=(),
    )
    from vitrail.models.names import resolve_model

    model = resolve_model("vit_digits", num_classes=2, image_size=(8, 8), channels=1)
    return SimpleNamespace(
        config=TrainConfig(),
        sources={"seed": "built-in"},
        choices=(("batch_size", 64, "20 steps an epoch"),),
        splits=splits,
        facts=SimpleNamespace(size=(8, 8), channels=1),
        model=model,
    )


def tell(reporter: Reporter) -> str:
    """stdout of a whole run."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        reporter.plan(plan(), Path("runs/digits-1"))
        reporter.notice("a class has 3 images")
        reporter.step(STEP)
        reporter.evaluation(EVALUATION)
        reporter.result(RESULT)
    return out.getvalue()


def test_a_pipe_gets_one_plain_line_an_evaluation() -> None:
    lines = tell(ConsoleReporter(Output())).splitlines()
    assert lines.pop(0).startswith("vitrail 0.1.0 | torch 2")
    assert lines[0].startswith("data   digits  2 classes | train 7, val 3 | 8x8 gray")
    assert "4 layers | width 48 | 4 heads | patch 2x2" in lines[1]
    assert lines[2] == "auto   batch_size  64  (20 steps an epoch)"
    assert "vitrail train --resume runs/digits-1" in lines[3]
    assert lines[4].split() == [name for name, _ in COLUMNS]
    cells = "1.00 2.1043 1.7712 0.4611 3.0e-04 4,120 2% 0:41 best"
    assert lines[5].split() == cells.split()
    assert lines[6] == (
        "done in 38 s, step 70 | best val/top1 0.9722 (epoch 6.00) | "
        "test/top1 0.9611 (95 % 0.922-0.981)"
    )
    assert lines[7] == "baselines  nearest neighbour 0.98, majority class 0.10"
    assert lines[8] == "next  vitrail report runs/digits-1"


def test_columns_stand_below_their_names() -> None:
    head, row = tell(ConsoleReporter(Output())).splitlines()[5:7]
    assert len(head) == len(row.removesuffix("   best"))


def test_quiet_says_the_result_only() -> None:
    assert tell(ConsoleReporter(Output(quiet=True))).startswith("done in 38 s")


def test_json_lines_end_with_the_result() -> None:
    events = [json.loads(line) for line in tell(JsonReporter(Output(json=True))).splitlines()]
    assert [event["event"] for event in events] == ["plan", "notice", "evaluation", "result"]
    assert events[0]["settings"]["optim"]["lr"] == 1e-3
    assert events[2]["val/top1"] == 0.46111
    assert events[3]["run_dir"] == "runs/digits-1"
    assert events[3]["test"]["top1"] == 0.96111
    assert events[3]["stopped"] is None


def test_missing_numbers_are_dashes() -> None:
    assert evaluation_line({"epoch": 2}).split() == ["2.00", "-", "-", "-", "-", "-", "-", "-"]


def test_clock() -> None:
    assert [clock(secs) for secs in (None, 41.4, 61, 3723)] == ["-", "0:41", "1:01", "1:02:03"]


SCRIPT = """
import sys; sys.path.insert(0, sys.argv[1])
from tests.cli.test_cli_console import EVALUATION, RESULT, STEP, plan
from vitrail.cli.display.console import ConsoleReporter
from vitrail.cli.display.output import Output
from pathlib import Path
r = ConsoleReporter(Output(no_color="--no-color" in sys.argv))
r.plan(plan(), Path("runs/digits-1")); r.step(STEP); r.evaluation(EVALUATION); r.result(RESULT)
"""


def on_terminal(*options: str, script: str = SCRIPT, **environment: str) -> str:
    """What a script prints on a pseudo-terminal."""
    parent, child = pty.openpty()
    values = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    values |= {"TERM": "xterm", **environment}
    command = [sys.executable, "-c", script, str(Path(__file__).parents[2]), *options]
    process = subprocess.Popen(command, stdout=child, stderr=child, env=values)
    os.close(child)
    text = b""
    with contextlib.suppress(OSError):  # EIO: the other side has closed
        while chunk := os.read(parent, 65536):
            text += chunk
    os.close(parent)
    assert process.wait() == 0, text.decode()
    return text.decode()


def test_a_terminal_gets_a_progress_line() -> None:
    text = on_terminal()
    assert "\x1b[" in text
    assert "step 7/70" in text
    assert "0.4611" in text


def test_no_escape_codes_where_they_are_not_wanted() -> None:
    for options, environment in (
        (("--no-color",), {}),
        ((), {"NO_COLOR": "1"}),
        ((), {"TERM": "dumb"}),
    ):
        text = on_terminal(*options, **environment)
        assert "\x1b" not in text
        assert "0.4611" in text


WORK = """
import sys, time; sys.path.insert(0, sys.argv[1])
from vitrail.cli.display.output import Output; from vitrail.cli.display.progress import counted
with counted(Output(no_color="--no-color" in sys.argv)) as tell:
    for done in range(1, 4):
        time.sleep(0.25)
        tell("images [bold]of[/] it", done, 4)
    import threading; print(threading.active_count(), "threads")
"""


def test_counted_work_is_a_line_on_a_terminal_without_a_thread() -> None:
    text = on_terminal(script=WORK)
    assert "images [bold]of[/] it  3/4" in text
    assert "1 threads" in text
    assert "/4" not in on_terminal("--no-color", script=WORK)
