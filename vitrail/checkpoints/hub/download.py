"""One published file from an https address into the cache: the only place that opens a connection.

Called for a name that the user gave (`google:FILE`, a catalogue name) or for --download, never at
import, never by itself. https to the known hosts only, a redirect is checked like the first
address; proxies as the environment says (HTTPS_PROXY, NO_PROXY). Bytes go to FILE.part, continued
after a cut connection or a kill when the server still has the same file (Range with If-Range), and
become FILE by one rename once size and sha256 are right. FILE.sha256 (the form of `sha256sum`)
stays: a later download must equal it. One process downloads a file at a time, others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from vitrail.errors import EnvironmentFault, ModelError, VitrailError
from vitrail.files import cache_root, write_whole

HOSTS = (
    *("storage.googleapis.com", "dl.fbaipublicfiles.com", "download.pytorch.org"),
    "registry.npmjs.org",  # onnxruntime-web
)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_BYTES = 16 * 2**30  # the largest of the catalogue has 4.4 GB
PIECE_BYTES = 2**20
ROOM_BYTES = 64 * 2**20  # left free on the disk
TIMEOUT_SECS = 30.0  # without a byte
ATTEMPTS = 5
PAUSE_SECS = 1.0  # before the second attempt, doubled for each further one
# What is happening ("downloading ViT-B_16.npz"), bytes so far, bytes in all where known
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class DownloadRequest:
    """A file to get. sha256: all or the first digits of it, "" where unknown; loopback: http to
    this machine is allowed (tests).
    """

    address: str
    sha256: str = ""
    max_bytes: int = MAX_BYTES
    loopback: bool = False


class _CutError(Exception):
    """The connection ended early or never began (not `answered`); what came so far is kept."""

    def __init__(self, reason: str, *, answered: bool = True) -> None:
        super().__init__(reason)
        self.answered = answered


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/vitrail/weights`, by default below ~/.cache. Raises EnvironmentFault
    VIT-506 where there is neither.
    """
    return cache_root() / "weights"


def cached_path(address: str) -> Path:
    """Where the file of an https address is kept: the address below `cache_dir()`."""
    parts = urlsplit(address)
    return cache_dir().joinpath(parts.hostname or "", *parts.path.strip("/").split("/"))


def download(wanted: DownloadRequest, target: Path, *, progress: Progress | None = None) -> Path:
    """`target`, downloaded unless it is there.

    Raises ModelError VIT-460 (no such file), VIT-461 (another sha256); EnvironmentFault VIT-530
    (no connection), VIT-531 (the server refuses), VIT-532 (address not allowed), VIT-533 (cut
    short), VIT-534 (too large), VIT-535 (no room).
    """
    if target.is_file():
        return target
    check_address(wanted.address, loopback=wanted.loopback)
    say = progress or (lambda what, done, total: None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, say):
            if not target.is_file():  # another process may have brought it meanwhile
                _bring(wanted, target, say)
    except OSError as error:
        raise _no_room(target, error.strerror or str(error)) from error
    return target


def verify(target: Path, sha256: str = "") -> str:
    """The sha256 of a downloaded file. Raises ModelError VIT-461 where it is not the noted one."""
    with open(target, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    _check_digest(digest, sha256, target, target)
    return digest


def check_address(address: str, *, loopback: bool = False) -> None:
    """Raise EnvironmentFault VIT-532 unless https to a known host (or, in tests, this machine)."""
    parts = urlsplit(address)
    if loopback and parts.scheme == "http" and parts.hostname in LOOPBACK:
        return
    if parts.scheme == "https" and parts.netloc in HOSTS:
        return
    raise EnvironmentFault(
        "VIT-532",
        f"{address[:300]} is not downloaded: expected https to {', '.join(HOSTS)}.",
        hint="If you trust it, download it by hand and give the file.",
    )


def _bring(wanted: DownloadRequest, target: Path, say: Progress) -> None:
    """Attempts until the file is whole; it appears under its name in one step."""
    part = _beside(target, ".part")
    for attempt in range(ATTEMPTS):
        try:
            digest = _attempt(wanted, target, say)
            break
        except _CutError as cut:
            if attempt == ATTEMPTS - 1 or not (attempt or cut.answered):
                raise _gave_up(wanted.address, part, cut) from cut
            time.sleep(PAUSE_SECS * 2**attempt)
    try:
        _check_digest(digest, wanted.sha256, target, wanted.address)
    except ModelError:
        _forget(part)
        raise
    write_whole(_beside(target, ".sha256"), f"{digest}  {target.name}\n", replace=True)
    os.replace(part, target)
    _beside(target, ".etag").unlink(missing_ok=True)


def _attempt(wanted: DownloadRequest, target: Path, say: Progress) -> str:
    """One connection: the rest of the file, or all of it; the sha256 of the whole."""
    part, etag_file = _beside(target, ".part"), _beside(target, ".etag")
    etag = (
        etag_file.read_text(encoding="ascii", errors="replace")
        if etag_file.is_file() and _size(part)
        else ""
    )
    start = _size(part) if etag else 0
    headers = {"User-Agent": f"vitrail/{version('vitrail')}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": etag}
    with _open(wanted, headers, part) as answer:
        if answer.status != 206:
            start = 0  # another file by now, or a server without ranges
        total = _total(answer, start)
        _check_size(wanted, total or 0, part)
        _check_room(target, (total or 0) - start)
        if not start:
            _forget(part)
        tag = answer.headers.get("ETag", "")
        if re.fullmatch(r'"[!#-~]*"', tag):  # a weak one ("W/...") cannot continue a file
            write_whole(etag_file, tag, replace=True)
        digest = _store(answer, part, start, total, wanted, say, f"downloading {target.name}")
    return digest


def _store(
    answer: Any,
    part: Path,
    start: int,
    total: int | None,
    wanted: DownloadRequest,
    say: Progress,
    what: str,
) -> str:
    digest, done = hashlib.sha256(), start
    if start:
        with open(part, "rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                digest.update(piece)
    with open(part, "ab") as stream:
        say(what, done, total)
        for piece in _pieces(answer):
            done += len(piece)
            _check_size(wanted, done, part)
            stream.write(piece)
            digest.update(piece)
            say(what, done, total)
        stream.flush()
        os.fsync(stream.fileno())  # before the rename: never a torn file under its name
    if total is not None and done != total:
        if done > total:
            _forget(part)
        raise _CutError(f"{done} of {total} bytes came")
    return digest.hexdigest()


def _pieces(answer: Any) -> Iterator[bytes]:
    while True:
        try:
            piece = answer.read(PIECE_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _CutError(str(error) or type(error).__name__) from error
        if not piece:
            return
        yield piece


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to addresses that might have been asked for in the first place."""

    def __init__(self, *, loopback: bool) -> None:
        self.loopback = loopback

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The next request. Raises EnvironmentFault VIT-532 for another host or scheme."""
        try:
            check_address(newurl, loopback=self.loopback)
        except EnvironmentFault:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(wanted: DownloadRequest, headers: dict[str, str], part: Path) -> Any:
    """The answer, 200 or 206. No handler for file:, ftp: or data: is installed."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(loopback=wanted.loopback),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(wanted.address, headers=headers)  # noqa: S310  checked above
    try:
        return opener.open(request, timeout=TIMEOUT_SECS)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(wanted.address, error.code, part) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _CutError(str(getattr(error, "reason", "") or error), answered=False) from error


def _refused(address: str, status: int, part: Path) -> Exception:
    """What an answer other than 200 or 206 means."""
    if status == 416:  # the part is longer than the file: start again
        _forget(part)
        return _CutError("the server has fewer bytes than were here")
    if status in (408, 429) or status >= 500:
        return _CutError(f"the server answers {status}")
    if 300 <= status < 400:  # to a scheme that is no http, or in a circle
        return EnvironmentFault(
            "VIT-532", f"{address} leads elsewhere ({status}).", hint=_by_hand(address)
        )
    if status in (403, 404, 410):
        return ModelError(
            "VIT-460",
            f"{address} does not exist (the server answers {status}).",
            hint="Weights that are known: vitrail models --weights",
        )
    return EnvironmentFault(
        "VIT-531", f"{address}: the server answers {status}.", hint=_by_hand(address)
    )


def _total(answer: Any, start: int) -> int | None:
    """Bytes of the whole file. Raises _CutError where a range is not the one asked for."""
    length = answer.headers.get("Content-Length", "")
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise _CutError("the server sent another range than was asked for")
        return int(found[2])
    return int(length) if length.isdecimal() else None


def _check_size(wanted: DownloadRequest, size: int, part: Path) -> None:
    if size > wanted.max_bytes:
        _forget(part)
        raise EnvironmentFault(
            "VIT-534",
            f"{wanted.address} has {size} bytes or more; limit {wanted.max_bytes}.",
            hint="If that is right, download it by hand and give the file.",
        )


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > 0 and needed + ROOM_BYTES > free:
        raise _no_room(target, f"{needed} bytes are needed, {free} are free")


def _check_digest(digest: str, expected: str, target: Path, source: object) -> None:
    """Against the catalogue, and against what the first download noted."""
    note = _beside(target, ".sha256")
    noted = note.read_text(encoding="ascii", errors="replace").split()[:1] if note.is_file() else []
    for known, whose in ((expected, "the catalogue"), (*noted, str(note)) if noted else ("", "")):
        if not digest.startswith(known):
            raise ModelError(
                "VIT-461",
                f"{source}: expected the sha256 {known} of {whose}, got {digest}.",
                hint="Damaged on the way, or replaced by its publisher. To try again: delete "
                f"{target} if it is there; to accept another file: delete {note} too.",
            )


@contextmanager
def _alone(target: Path, say: Progress) -> Iterator[None]:
    """Hold FILE.lock. The kernel drops it with the process; the empty file stays."""
    handle = os.open(_beside(target, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: another process downloads {target.name}", 0, None)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: go on without one
            pass
        yield
    finally:
        os.close(handle)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def _by_hand(address: str) -> str:
    return f"Or download {address} by hand, on any machine, and give the file instead of the name."


def _gave_up(address: str, part: Path, cut: _CutError) -> VitrailError:
    kept = f"; {_size(part)} bytes are kept" if _size(part) else ""
    again = f"The same command {'continues it' if kept else 'tries again'}. {_by_hand(address)}"
    if cut.answered:
        return EnvironmentFault("VIT-533", f"{address} was cut short: {cut}{kept}.", hint=again)
    return EnvironmentFault(
        "VIT-530",
        f"no connection to {urlsplit(address).hostname} for {address}: {cut}{kept}.",
        hint=f"Check the network and HTTPS_PROXY. {again}",
    )


def _no_room(target: Path, reason: str) -> EnvironmentFault:
    return EnvironmentFault(
        "VIT-535",
        f"{target} cannot be written: {reason}.",
        hint="Make room (what came so far is kept), or set XDG_CACHE_HOME to another disk.",
    )
