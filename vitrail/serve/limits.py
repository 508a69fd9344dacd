"""What a server allows, checked before anything is started."""

from __future__ import annotations

import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from vitrail.data.images.decode_cost import MAX_PIXELS
from vitrail.errors import EnvironmentFault, UsageError

MIB = 2**20
MIN_TOKEN = 16  # letters
MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True)
class Limits:
    """queue: images accepted and not yet answered; queue_bytes: of their request bodies;
    wait_ms: how long a batch waits for more images; deadline_ms: from a request's headers to its
    answer; body_secs: for a request body to arrive; drain_secs: for what was accepted to be
    answered at the end.
    """

    batch: int = 16
    wait_ms: int = 0
    queue: int = 64
    queue_bytes: int = 256 * MIB
    max_body: int = 10 * MIB
    max_pixels: int = MAX_PIXELS
    deadline_ms: int = 30_000
    body_secs: float = 10.0
    drain_secs: float = 25.0

    def check(self) -> None:
        """Raises UsageError VIT-202 for a number below 1, VIT-297 for limits that contradict."""
        for name in ("batch", "queue", "queue_bytes", "max_body", "max_pixels", "deadline_ms"):
            if getattr(self, name) < 1:
                option = "--" + name.replace("_", "-")
                raise UsageError("VIT-202", f"{option}: expected a number from 1.")
        if not 0 <= self.wait_ms < self.deadline_ms:
            raise UsageError(
                "VIT-297",
                f"--wait-ms {self.wait_ms}: expected 0 or more, and less than --deadline-ms "
                f"({self.deadline_ms}).",
                hint="Without waiting: --wait-ms 0",
            )
        if self.queue < self.batch:
            raise UsageError(
                "VIT-297",
                f"--queue {self.queue} is less than --batch {self.batch}: no batch would be full.",
                hint=f"For instance --queue {self.batch * 4}",
            )
        if self.max_body > self.queue_bytes:
            raise UsageError(
                "VIT-297",
                f"--max-body {self.max_body} is more than the queue may hold "
                f"({self.queue_bytes} bytes): such a request would never be accepted.",
                hint=f"At most --max-body {self.queue_bytes}",
            )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, token_file: Path | None, no_auth: bool) -> None:
    """Raises UsageError VIT-203 where both are given, VIT-296 where an address that others reach
    has neither a token nor --no-auth.
    """
    if token_file is not None and no_auth:
        raise UsageError(
            "VIT-203", "--token-file and --no-auth exclude each other.", hint="Keep one of them."
        )
    if is_loopback(host) or token_file is not None or no_auth:
        return
    raise UsageError(
        "VIT-296",
        f"--host {host} can be reached from other machines, and nothing would protect it.",
        hint="--token-file FILE; or, where a proxy checks who asks, --no-auth",
    )


def read_token(path: Path) -> str:
    """The token in a file that only its owner can read. Raises EnvironmentFault VIT-526."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _bad_token(path, "it is not a file")
            if status.st_mode & 0o077:
                raise _bad_token(path, f"others may read it (mode {status.st_mode & 0o777:o})")
            data = file.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise _bad_token(path, error.strerror or "it cannot be read") from error
    token = data.decode("ascii", "replace").strip()
    if len(data) > MAX_TOKEN_BYTES or len(token) < MIN_TOKEN or not _is_plain(token):
        raise _bad_token(path, f"expected {MIN_TOKEN} or more letters and digits in one line")
    return token


def _is_plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _bad_token(path: Path, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "VIT-526",
        f"token file {path} cannot be used: {why}.",
        hint=f"umask 077; head -c 24 /dev/urandom | base64 > {path}",
    )
