"""From the words of a command line to one function and its arguments.

cyclopts binds the declared options; settings of a run (`--optim.lr 3e-4`) are taken out
before it, as text, because their one validator is `vitrail.config.TrainConfig`. Whatever is wrong
becomes a UsageError with a way out.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from cyclopts import App
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from vitrail.cli.registry import commands, option_names, verbs_with
from vitrail.cli.suggestions import option_meant, option_named
from vitrail.errors import UsageError, nearest, shortened

MOST = 2**53  # of any number; beyond, whole numbers and floats differ
LIMITS = {  # of options that several verbs have
    "workers": (0, 256),
    "threads": (1, 4096),
    "processes": (1, 256),
    "seeds": (1, 10_000),
    "seed": (0, MOST),
}


def app_of(name: str) -> App:
    """An empty parser; help and the version are shown by `main.py`."""
    return App(name=name, help_flags=[], version_flags=[])


def bind(
    app: App, tokens: Sequence[str], given: dict[str, Any], taken: Sequence[str] = ()
) -> Callable[[], object]:
    """The call that `tokens` ask for; what the command line does not fill is taken from `given`.
    taken: options that the verb has too and that were taken out before.

    Raises UsageError VIT-201 (missing, surplus), VIT-202 (bad value), VIT-205 (name=value),
    VIT-211 (unknown).
    """
    known = [*option_names(commands(app).get(tokens[0] if tokens else "", app)), *taken]
    refuse_assignments(tokens, known)
    try:
        function, bound, ignored = app.parse_args(
            list(tokens), exit_on_error=False, print_error=False
        )
    except CycloptsError as error:
        raise usage_error(error, app, known) from error
    refuse_numbers(bound.arguments)
    extra = {name: given[name] for name in ignored}
    return lambda: function(*bound.args, **bound.kwargs, **extra)


def refuse_numbers(arguments: Mapping[str, object]) -> None:
    """Raise UsageError VIT-202 for a number that no option can mean: it would overflow, or never
    end. What an option allows beyond that, its verb knows.
    """
    for name, value in arguments.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            refuse_numbers(vars(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        least, most = LIMITS.get(name, (-MOST, MOST))
        if not least <= value <= most:  # nan is not either
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                "VIT-202",
                f"{option}: expected a number from {least} to {most}, got {shortened(value)}.",
                hint=f"For instance {option} {max(least, min(2, most))}",
            )


def refuse_assignments(tokens: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError VIT-205 for `epochs=10`, typed from the habit of other tools."""
    for before, token in pairwise(["", *tokens]):
        found = re.fullmatch(r"([a-z][a-z0-9_.-]*)=(.*)", token)
        if not found or before.startswith("-") or os.path.lexists(token):
            continue
        option = "--" + found[1].replace("_", "-")
        if option not in known:
            option = option_named(option, known)
        if option:
            raise UsageError("VIT-205", f"{token}: options are written {option} {found[2]}")


def usage_error(error: CycloptsError, app: App, known: Sequence[str]) -> UsageError:
    """What cyclopts refused, in our words."""
    usage = f"{' '.join(app.name)} --help"
    error.verbose = False
    if isinstance(error, UnknownOptionError):
        name = (error.token.keyword or error.token.value).split("=")[0]
        return unknown_option(name, known, app.name[0].removeprefix("vitrail "))
    if isinstance(error, UnknownCommandError):
        word = (error.unused_tokens or ["?"])[0]
        text = f"unknown command {word}. {nearest(word, commands(app))}"
        return UsageError("VIT-211", text, hint=f"See {usage}")
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or [])
        return UsageError("VIT-201", f"unexpected argument {words}.", hint=f"See {usage}")
    if isinstance(error, MissingArgumentError):
        name = error.argument.name if error.argument else "an argument"
        kind = "needs a value" if name.startswith("-") else "is missing"
        return UsageError("VIT-201", f"{name} {kind}.", hint=f"See {usage}")
    if isinstance(error, RepeatArgumentError):
        return UsageError(
            "VIT-201", f"{error.token.keyword} is given twice.", hint="Keep one of them."
        )
    code = "VIT-202" if isinstance(error, CoercionError) else "VIT-201"
    text = str(error)
    return UsageError(code, text[:1].lower() + text[1:], hint=f"See {usage}")


def unknown_option(name: str, known: Sequence[str], verb: str = "") -> UsageError:
    """UsageError VIT-211 with the option that is meant."""
    hint = f"See vitrail {verb} --help" if verb else ""
    text = f"unknown option {name}. {option_meant(name, known, verb, verbs_with(name))}"
    return UsageError("VIT-211", text, hint=hint)
