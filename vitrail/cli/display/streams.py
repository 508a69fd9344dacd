"""The three streams of a command, which may be missing, closed, full or without a reader.

What was asked for goes to stdout: where it cannot be written, the command fails. What is said about
it goes to stderr: where that cannot be written there is nobody to tell, and the command goes on.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

from vitrail.errors import EnvironmentFault


class ReaderGoneError(BrokenPipeError):
    """Whoever read our stdout has gone."""


def open_streams() -> None:
    """Let a stream that was closed before we began lead nowhere.

    Else the first file that is opened gets its number, and whatever a library or a child process
    prints is written into that file.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):  # a name that is no text must not end a command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say_result(text: str) -> None:
    """A line on stdout. Raises ReaderGoneError, EnvironmentFault VIT-506."""
    try:
        _print(text, sys.stdout)
    except BrokenPipeError as error:
        silence(sys.stdout)
        raise ReaderGoneError from error
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        reason = getattr(error, "strerror", None) or str(error)
        raise EnvironmentFault(
            "VIT-506",
            f"standard output cannot be written: {reason}.",
            hint="Make room where it is redirected to, or redirect it elsewhere: > FILE",
        ) from error


def say_aside(text: str) -> None:
    """A line on stderr, where that can be written."""
    try:
        _print(text, sys.stderr)
    except (OSError, ValueError):
        silence(sys.stderr)


def close_streams() -> None:
    """Write what is left; what cannot be written must not fail again when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(stream)


def has_reader() -> bool:
    """Whether stdout still leads somewhere: a pipe without a reader is in a state of error."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return not watched.poll(0)
    except (AttributeError, OSError, ValueError):  # Windows; a stream without a descriptor
        return False


def silence(stream: TextIO) -> None:
    """Let a stream lead nowhere from now on, with what it still holds."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def _print(text: str, stream: TextIO) -> None:
    try:
        stream.write(f"{text}\n")
    except UnicodeEncodeError:  # a stream of somebody else, in a narrow encoding
        stream.write(text.encode("ascii", "backslashreplace").decode() + "\n")
    stream.flush()
