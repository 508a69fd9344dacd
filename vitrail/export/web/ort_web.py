"""onnxruntime-web, the WebAssembly build of ONNX Runtime: two files of one pinned version.

They are no part of vitrail (14 MB). They come from a package or folder that the user names, from
the cache, or, only where that was asked for, from the npm registry. Whatever they come from, their
sha256 decides. Of the builds the smallest that computes on the CPU is taken: no GPU, one thread,
so that the page needs no special headers.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

from vitrail.checkpoints.hub.download import DownloadRequest, Progress, cached_path, download
from vitrail.errors import EnvironmentFault
from vitrail.folder import open_plain

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/{PACKAGE}"
PACKAGE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
PACKAGE_BYTES = 33_106_585
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
FILES = {  # name in the package: bytes, sha256
    SCRIPT: (73_054, "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    WASM: (14_239_897, "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
}
FOLDERS = ("", "dist", "package/dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")


def ort_web_files(
    given: Path | None, *, fetch: bool = False, progress: Progress | None = None
) -> dict[str, bytes]:
    """The two files by their names in the package. given: its .tgz, or a folder that has them;
    fetch: whether the registry may be asked where they are not in the cache.

    Raises EnvironmentFault VIT-528 where they are missing or of another version, and what
    `download` raises.
    """
    if given is not None:
        return _of_folder(given) if given.is_dir() else _of_package(given)
    kept = cached_path(ADDRESS)
    if not kept.is_file() and not fetch:
        raise EnvironmentFault(
            "VIT-528",
            f"the page needs onnxruntime-web {VERSION}, which is not on this machine.",
            hint=f"Repeat the command with --download ({PACKAGE_BYTES / 1e6:.0f} MB from "
            f"registry.npmjs.org, once), or fetch it elsewhere: npm pack onnxruntime-web@{VERSION}"
            f" and --ort-web {PACKAGE}",
        )
    wanted = DownloadRequest(ADDRESS, PACKAGE_SHA256, max_bytes=PACKAGE_BYTES)
    return _of_package(download(wanted, kept, progress=progress))


def _of_folder(folder: Path) -> dict[str, bytes]:
    places = [folder / one for one in FOLDERS if (folder / one / WASM).is_file()]
    if not places:
        raise _unusable(folder, f"it has no {WASM}")
    return {name: _checked(name, _bytes(places[0] / name, FILES[name][0])) for name in FILES}


def _of_package(path: Path) -> dict[str, bytes]:
    """Nothing is unpacked before the whole package is known to be the pinned one."""
    content = _bytes(path, PACKAGE_BYTES)
    if hashlib.sha256(content).hexdigest() != PACKAGE_SHA256:
        raise _unusable(path, "its sha256 is another one")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as package:
        found = {}
        for name in FILES:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None
            found[name] = _checked(name, member.read())
    return found


def _bytes(path: Path, most: int) -> bytes:
    """The content; a file that is longer is another one, and not read whole."""
    try:
        with os.fdopen(open_plain(path, links=True), "rb") as stream:
            return stream.read(most + 1)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def _checked(name: str, content: bytes) -> bytes:
    if hashlib.sha256(content).hexdigest() != FILES[name][1]:
        raise _unusable(name, "its sha256 is another one")
    return content


def _unusable(name: object, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "VIT-528",
        f"{name} is not onnxruntime-web {VERSION}: {why}.",
        hint=f"Fetch that version: npm pack onnxruntime-web@{VERSION}, then --ort-web {PACKAGE}",
    )
