"""What can go wrong, as exceptions that a command turns into one message and an exit code.

    VitrailError                 exit 1   VIT-1nn  internal: please report
    |- UsageError                exit 2   VIT-2nn  option, setting, configuration
    |- DataError                 exit 3   VIT-3nn  images, tables, splits
    |- ModelError                exit 4   VIT-4nn  model or checkpoint refused, damaged
    |- EnvironmentFault          exit 5   VIT-5nn  missing extra, device, memory, disk, lock
    |- TrainingError             exit 6   VIT-6nn  non-finite or diverged
    `- GateError                 exit 7   VIT-7nn  a gate that was asked for was not met

A message says what was wrong with which thing, what was expected, what was got, and what to do.
Every code is listed in docs/errors.md; a test compares the two.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from importlib.metadata import requires
from typing import Any

from vitrail.spelling import printable_lines

REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DEPENDENCIES = (
    "torch",
    "scipy",
    "jinja2",
    "markupsafe",
)  # what an installation to serve leaves out
SHOWN = 80  # letters of a wrong value that a message repeats
OURS = (errno.EINVAL, errno.EBADF, errno.EFAULT)  # what a wrong call of ours gives


class VitrailError(Exception):
    """Base of every error a user may see.

    `code` is "VIT-nnn", `hint` the way out, `details` plain data for programs: what a message only
    has room to sum up. Names in texts are written out (`spelling.py`); lines after the first begin
    with two spaces.
    """

    exit_code = 1

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        message = printable_lines(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = printable_lines(hint)
        self.details = dict(details or {})

    def __reduce__(self) -> tuple[object, ...]:
        """Travels between processes whole; its own __init__ wants more than the message."""
        return _rebuild, (type(self), self.code, self.message, self.hint, self.details)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f"\n{self.hint}" if self.hint else "")


class UsageError(VitrailError):
    """An option, a setting or a configuration is wrong."""

    exit_code = 2


class DataError(VitrailError):
    """Images, labels or splits are wrong."""

    exit_code = 3


class ModelError(VitrailError):
    """A model or checkpoint is refused, damaged or does not fit."""

    exit_code = 4


class EnvironmentFault(VitrailError):
    """The machine lacks something: an extra, a device, memory, disk, a lock."""

    exit_code = 5


class TrainingError(VitrailError):
    """Training cannot go on: loss or gradients are not finite."""

    exit_code = 6


class GateError(VitrailError):
    """A gate that was asked for (--min-top1, --strict) was not met."""

    exit_code = 7


KINDS = (UsageError, DataError, ModelError, EnvironmentFault, TrainingError, GateError)


def fault_of(record: Mapping[str, Any]) -> VitrailError:
    """The error that another process of ours printed with --json."""
    kind = {one.exit_code: one for one in KINDS}.get(record["exit_code"], VitrailError)
    return kind(record["code"], record["message"], hint=record["hint"])


def environment_fault(error: Exception) -> EnvironmentFault | None:
    """What the machine lacks, where that is what an error of Python or torch says; else None."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    no_memory = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    if isinstance(error, MemoryError) or no_memory:
        hint = (
            "Compute the batch in parts (--optim.accumulate 4, of a study --accumulate 4), or "
            "take a smaller --batch-size, --image-size or model; vitrail doctor shows what fits."
        )
        return EnvironmentFault("VIT-503", f"memory is used up: {text}", hint=hint)
    if isinstance(error, ModuleNotFoundError) and error.name in DEPENDENCIES:
        hint = f"pip install {error.name}"
        message = f"this needs the package {error.name}, which is not installed."
        return EnvironmentFault("VIT-520", message, hint=hint)
    refused = os_error_of(error)
    if refused is None or refused.errno in OURS:
        return None
    where = str(refused.filename) if refused.filename else "a file"
    if refused.errno == errno.ENOENT and not refused.filename and not _has_working_directory():
        where, reason = "the working directory", "it was removed"
        hint = "Go to a folder that exists and start the command again"
        return EnvironmentFault("VIT-506", f"{where} cannot be used: {reason}.", hint=hint)
    return _refused(where, refused)


def cannot_write(path: object, error: OSError) -> EnvironmentFault:
    """VIT-506 for a file or folder that the machine refuses to write."""
    return _refused(str(path), error, what="written")


def os_error_of(error: Exception) -> OSError | None:
    """The error of the operating system that `error` is, or that a library in another language
    says in its text: "(os error 28)" of Rust, "No space left on device (28)" of torch.
    """
    if isinstance(error, OSError):
        return error if error.errno is not None else None
    text = str(error)
    if text == "can't start new thread":
        return OSError(errno.EAGAIN, "it starts no more threads (ulimit -u)", "this machine")
    for found in re.finditer(r"\((?:os error )?(\d{1,3})\)", text):
        number = int(found[1])
        if os.strerror(number) in text:
            return OSError(number, os.strerror(number))
    return None


def _refused(where: str, error: OSError, what: str = "used") -> EnvironmentFault:
    reason = error.strerror or str(error)
    hint = "Check the disk and who owns it, or choose another place: --out"
    if error.errno in FULL:
        what, hint = "written", "Make room, or write to another disk with --out"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "Raise the limit of open files (ulimit -n 4096), or use fewer --workers"
    elif error.errno in REFUSED:
        hint = "Check who owns it and whether it may be written, or choose another place: --out"
    return EnvironmentFault("VIT-506", f"{where} cannot be {what}: {reason}.", hint=hint)


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _rebuild(
    kind: type[VitrailError], code: str, message: str, hint: str, details: Mapping[str, object]
) -> VitrailError:
    error = kind.__new__(kind)
    VitrailError.__init__(error, code, message, hint=hint, details=details)
    return error


def shortened(value: object) -> str:
    """A wrong value as a message repeats it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} letters)"


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence naming the choice most like `word`, or all choices where none is close."""
    names = sorted(choices)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]}?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"Known: {shown}."


def install_command(extras: str) -> str:
    """The command that installs what extras (with commas between) need, by published names."""
    lines = [line.replace("'", '"') for line in requires("vitrail") or []]
    marks = [f'extra == "{name}"' for name in extras.split(",")]
    needs = [line.split(";")[0].strip() for mark in marks for line in lines if mark in line]
    found = list(dict.fromkeys(needs)) or ["-e", f".[{extras}]"]  # an installation of older sources
    return shlex.join(["pip", "install", *found])


def lacking(what: str, packages: str, extras: str, otherwise: str = "") -> EnvironmentFault:
    """VIT-520: `what` needs packages that are not installed. otherwise: another way out."""
    needs = "needs the packages" if " and " in packages else "needs the package"
    hint = install_command(extras) + (f"; or {otherwise}" if otherwise else "")
    return EnvironmentFault("VIT-520", f"{what} {needs} {packages}.", hint=hint)


def check_numbers(numbers: dict[str, int]) -> None:
    """Raise UsageError VIT-202 for a count below 1."""
    for option, value in numbers.items():
        if value < 1:
            raise UsageError(
                "VIT-202",
                f"{option}: expected a number from 1, got {value}.",
                hint=f"For instance {option} 5",
            )


def refuse_without_effect(options: Mapping[str, bool], use: str, hint: str) -> None:
    """Raise UsageError VIT-203 where one of `options`, by its name, is given (true) and has no
    effect with `use`: "with --list", "without --augment".
    """
    given = [name for name, is_given in options.items() if is_given]
    if given:
        raise UsageError("VIT-203", f"{', '.join(given)} has no effect {use}.", hint=hint)
