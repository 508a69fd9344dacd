"""`vitrail VERB ...`: call the verb; what goes wrong becomes one message and an exit code.

Verbs are imported when they are asked for: `vitrail --help` loads neither torch nor a parser.
Exit codes: 0 done, 1 internal, 2 usage, 3 data, 4 model, 5 environment, 6 training failed,
7 gate not met, 130 / 143 interrupted, 141 the reader of our output has gone.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from vitrail.cli.display.output import Output
from vitrail.cli.display.streams import (
    ReaderGoneError,
    close_streams,
    has_reader,
    open_streams,
    say_result,
)
from vitrail.cli.last_resort import end_when_interrupted, exit_code
from vitrail.cli.registry import GLOBAL, VERBS, Verb
from vitrail.device import process_age
from vitrail.errors import UsageError, VitrailError, environment_fault, nearest
from vitrail.system.child_process import SAFE_PATH
from vitrail.system.supported import require_posix

SWITCHES = {
    "--json": "json",
    "-q": "quiet",
    "--quiet": "quiet",
    "-v": "verbose",
    "--verbose": "verbose",
    "--no-color": "no_color",
}
HELP = ("-h", "--help")
WIDTH = 100  # of help, at most


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    open_streams()
    if argv is None:
        end_when_interrupted()
    # GNU OpenMP's threads spin while they wait: on a busy machine a training step takes several
    # times as long (docs/decisions.md). Read when torch is loaded, which nothing before this did.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ.setdefault(SAFE_PATH, "1")  # for every process that a library starts
    output, tokens = take_global(sys.argv[1:] if argv is None else argv)
    if argv is None:  # else Python has done other things before this command
        output = replace(output, began=time.monotonic() - process_age())
    try:
        return settled(tokens, output)
    except ReaderGoneError:  # nobody is left to tell
        return 141
    finally:
        close_streams()


def settled(tokens: Sequence[str], output: Output) -> int:
    """`dispatch`, with what goes wrong said and turned into an exit code."""
    try:
        return dispatch(tokens, output)
    except VitrailError as fault:
        return output.error(fault)
    except KeyboardInterrupt as stop:
        output.note("interrupted")
        return exit_code(stop)
    except ReaderGoneError:
        raise
    except Exception as error:  # the last boundary: everything a user sees has a code
        if isinstance(error, BrokenPipeError) and not has_reader():
            raise ReaderGoneError from error  # written by a library
        ours = environment_fault(error) or internal(error)
        ours.__cause__ = error
        return output.error(ours)


def take_global(argv: Sequence[str]) -> tuple[Output, list[str]]:
    """The global options, wherever they stand before `--`, and the other words."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    switched = {SWITCHES[word]: True for word in argv[:end] if word in SWITCHES}
    output = replace(Output(), words=tuple(argv), **switched)
    return output, [word for word in argv[:end] if word not in SWITCHES] + list(argv[end:])


def dispatch(tokens: Sequence[str], output: Output) -> int:
    """Call the verb that `tokens` name. Raises UsageError VIT-211 where there is none."""
    if "--version" in tokens:
        output.result({"version": version("vitrail")}, [f"vitrail {version('vitrail')}"])
        return 0
    tokens = [*tokens[1:], "--help"] if tokens[:1] == ["help"] else list(tokens)
    if not tokens or tokens[0] in (*HELP, "--man"):
        return show_help(tokens, output)
    require_posix()
    name = tokens[0]
    if name not in VERBS:
        raise unknown_verb(name)
    if {*HELP} & {*tokens[: tokens.index("--") if "--" in tokens else None]}:
        return show_verb(name, tokens[1:], output)
    if tokens[1:] == [] and name == "data":  # its commands say what they do
        return show_verb(name, [], output)
    return call(VERBS[name], tokens[1:], output)


def show_help(tokens: Sequence[str], output: Output) -> int:
    """`vitrail --help`, or with --man the man page."""
    if "--man" in tokens:
        from vitrail.cli.man_page import man_page

        say_result(man_page())
        return 0
    output.result({"verbs": {name: verb.summary for name, verb in VERBS.items()}}, verb_lines())
    return 0


def show_verb(name: str, words: Sequence[str], output: Output) -> int:
    """The help of a verb or of one of its commands; with -v every setting."""
    from vitrail.cli.help_page import help_lines, parts

    width = min(WIDTH, shutil.get_terminal_size().columns)
    part = next((word for word in words if word in parts(name)), "")
    lines = help_lines(name, width, part=part, is_long=output.verbose)
    output.result({"verb": f"{name} {part}".strip(), "help": "\n".join(lines)}, lines)
    return 0


def unknown_verb(name: str) -> UsageError:
    """VIT-211 with the verb that is meant."""
    from vitrail.cli.suggestions import verb_meant

    kind = "option" if name.startswith("-") else "verb"
    meant = verb_meant(name)
    close = f"Did you mean {meant}?" if meant else nearest(name, VERBS)
    return UsageError(
        "VIT-211", f"unknown {kind} {name}. {close}", hint="All verbs: vitrail --help"
    )


def call(verb: Verb, tokens: Sequence[str], output: Output) -> int:
    """Parse and run one verb; its exit code."""
    from vitrail.cli.arguments import bind
    from vitrail.cli.display.progress import close_lines
    from vitrail.cli.registry import option_names, setting_options

    os.getcwd()  # a folder that was removed ends libraries without a word
    app = importlib.import_module(verb.module).app
    settings: dict[str, str] = {}
    taken: list[str] = []
    if verb.takes_settings:
        from vitrail.cli.settings import take_settings

        settings, tokens = take_settings(tokens, option_names(app), app.name[0])
        taken = setting_options()
    verb_call = bind(app, tokens, {"output": output, "settings": settings}, taken)
    try:
        code = verb_call()
    finally:
        close_lines()
    return code if isinstance(code, int) else 0


def verb_lines() -> list[str]:
    """The text of `vitrail --help`."""
    width = max(map(len, [*VERBS, *GLOBAL]))
    return [
        "Usage: vitrail VERB [OPTIONS]",
        "",
        "Train, evaluate, explain and convert Vision Transformer image classifiers.",
        "",
        "Verbs:",
        *(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()),
        "",
        "Options everywhere:",
        *(f"  {name:<{width}}  {summary}" for name, summary in GLOBAL.items()),
        "",
        "Start: vitrail train builtin:digits      One verb: vitrail help train",
    ]


def internal(error: Exception) -> VitrailError:
    """VIT-100: a fault of ours."""
    text = str(error).splitlines()[0] if str(error) else ""
    return VitrailError(
        "VIT-100",
        f"internal error {type(error).__name__}: {text}",
        hint="A fault of vitrail: please report it with the output of the same command and -v",
    )
