"""Where a server listens: a port, or a socket in the file system; with TLS or without."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import EnvironmentFault

BACKLOG = 1024
SOCKET_MASK = 0o117  # read and written by the owner and the group


@dataclass(frozen=True)
class Address:
    """A port; 0 is any that is free."""

    host: str = "127.0.0.1"
    port: int = 8000

    def listen(self) -> socket.socket:
        """A socket that takes connections. Raises EnvironmentFault VIT-524."""
        try:
            kind, _, _, _, place = socket.getaddrinfo(
                self.host.strip("[]"), self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError, OverflowError) as error:
            raise self._fault(str(error)) from error
        found = socket.socket(kind, socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(BACKLOG)
        except OSError as error:
            found.close()
            raise self._fault(error.strerror or str(error)) from error
        found.setblocking(False)
        return found

    def _fault(self, why: str) -> EnvironmentFault:
        return EnvironmentFault(
            "VIT-524",
            f"{self.host} port {self.port} cannot be listened on: {why}.",
            hint="Another port: --port 8001 (0 takes any that is free); below 1024 needs "
            "permission.",
        )


@dataclass(frozen=True)
class SocketFile:
    """A socket at `path`, for a proxy of this machine; its mode says who may ask."""

    path: Path

    def listen(self) -> socket.socket:
        """A socket that takes connections, in the place of one that nobody listens on any more.
        Raises EnvironmentFault VIT-524.
        """
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(SOCKET_MASK)
        try:
            self._remove_old()
            found.bind(os.fspath(self.path))
            found.listen(BACKLOG)
        except (OSError, ValueError) as error:
            found.close()
            raise self._fault(str(getattr(error, "strerror", "") or error)) from error
        finally:
            os.umask(before)
        found.setblocking(False)
        return found

    def _remove_old(self) -> None:
        """Raises OSError where something else has the name, or somebody listens there."""
        try:
            is_socket = stat.S_ISSOCK(os.lstat(self.path).st_mode)
        except FileNotFoundError:
            return
        if not is_socket:
            raise FileExistsError(errno.EEXIST, "there is a file of that name")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            try:
                link.connect(os.fspath(self.path))
            except ConnectionRefusedError:
                self.path.unlink(missing_ok=True)
                return
        raise OSError(errno.EADDRINUSE, "another server listens there")

    def _fault(self, why: str) -> EnvironmentFault:
        return EnvironmentFault(
            "VIT-524",
            f"the socket {self.path} cannot be made: {why}.",
            hint="Another name: --uds /run/user/1000/vitrail.sock",
        )


@contextmanager
def ended(listener: socket.socket) -> Iterator[None]:
    """Closed when the block ends, and the name of a socket file is gone."""
    name = listener.getsockname() if listener.family == socket.AF_UNIX else None
    try:
        yield
    finally:
        listener.close()
        if name is not None:
            Path(name).unlink(missing_ok=True)


def url_of(listener: socket.socket, *, is_tls: bool = False) -> str:
    """http://HOST:PORT of a socket; of a socket file the name that a client gives anyway."""
    scheme = "https" if is_tls else "http"
    if listener.family == socket.AF_UNIX:
        return f"{scheme}://localhost"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and newer with a certificate (and those between it and the root) and its key, PEM.

    Raises EnvironmentFault VIT-526 for files that are missing, do not fit or need a password, and
    for a key that everybody may read.
    """
    for path in (cert, key):
        _check_readable(path)
    if key.stat().st_mode & 0o007:
        raise _bad_tls(f"everybody may read {key}", f"chmod 600 {key}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = "the key needs a password, or the two are no PEM files that fit each other"
        raise _bad_tls(f"{cert} and {key}: {why}", f"openssl x509 -in {cert} -text") from error
    return context


def _check_readable(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _bad_tls(f"{path} is not a file", "Give PEM files.")
        path.open("rb").close()
    except OSError as error:
        raise _bad_tls(f"{path}: {error.strerror}", "Give PEM files that can be read.") from error


def _bad_tls(why: str, hint: str) -> EnvironmentFault:
    return EnvironmentFault("VIT-526", f"no TLS with these files: {why}.", hint=hint)
