"""MANIFEST.json of a checkpoint: which files it has, their sizes and sha256; written last, so that
it commits.

Schema 1 is the checkpoint of one process: one file of tensors a kind, `model.safetensors`. Schema 2
is that of several: each kind lies in shares, `model-00001-of-00002.safetensors`, a tensor complete
in one of them, and the manifest says in which. Both are read for ever.

A directory without a valid manifest is no checkpoint. The manifest carries its own sha256 and must
be the exact bytes that `encode` makes, so that any flipped bit in it is found too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitrail.runs.filesystem import LocalFiles, read_all

NAME = "MANIFEST.json"
SCHEMA, IN_SHARES = 1, 2
MAX_BYTES = 1 << 24  # of which a tensor in shares takes some hundred
# The disk lost it, or something else lies there; other errors say nothing about the file.
MEDIUM = (
    errno.EIO,
    errno.ENXIO,
    errno.EBADMSG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
)
STEP_NAME = re.compile(r"step-(\d{8,18})")
TENSOR_FILE = re.compile(r"([a-z]+)(-\d{5}-of-\d{5})?\.safetensors")


class FileEntry(BaseModel):
    """Size and hash of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What a checkpoint directory holds. parent: step of the checkpoint before it, where there was
    one; tensors: of a checkpoint in shares, "KIND/NAME" -> file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_number: Annotated[int, Field(alias="schema")] = SCHEMA
    step: Annotated[int, Field(ge=0)]
    parent: int | None
    config_hash: str
    files: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")], FileEntry]
    tensors: dict[str, str] = {}
    sha256: str = ""

    def files_of(self, kind: str) -> list[str]:
        """The files that hold the tensors of `kind` ("model", "optim", "ema"), sorted."""
        return sorted(name for name in self.files if kind_of(name) == kind)

    @property
    def kinds(self) -> list[str]:
        """The kinds of tensors that there are, sorted."""
        return sorted({kind for name in self.files if (kind := kind_of(name))})

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.bytes for entry in self.files.values())


def step_name(step: int) -> str:
    """Directory name of a step: step-00001200."""
    return f"step-{step:08d}"


def kind_of(name: str) -> str:
    """Which tensors the file `name` holds; "" where it holds none."""
    match = TENSOR_FILE.fullmatch(name)
    return match[1] if match else ""


def share_name(kind: str, rank: int, world: int) -> str:
    """File name of a share: model-00001-of-00002.safetensors for the first of two processes."""
    return f"{kind}-{rank + 1:05d}-of-{world:05d}.safetensors"


def encode(manifest: Manifest) -> bytes:
    """The file's bytes, its own sha256 included."""
    plain = manifest.model_dump(by_alias=True) | {"sha256": ""}
    if manifest.schema_number == SCHEMA:
        del plain["tensors"]
    digest = hashlib.sha256(_canonical(plain)).hexdigest()
    return _canonical(plain | {"sha256": digest})


def _canonical(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def read(fs: LocalFiles, directory: Path) -> Manifest:
    """The manifest of a checkpoint directory. Raises Damaged with the reason."""
    if not fs.is_dir(directory):
        raise Damaged("it is missing, or no plain folder")
    try:
        data = read_all(fs, directory / NAME, MAX_BYTES)
        manifest = Manifest.model_validate_json(data)
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        raise _damage(NAME, error) from None
    if manifest.schema_number not in (SCHEMA, IN_SHARES):
        known = f"{SCHEMA} and {IN_SHARES}"
        raise Damaged(f"{NAME}: schema {manifest.schema_number}; this version reads {known}")
    if encode(manifest) != data:
        raise Damaged(f"{NAME}: sha256 differs")
    if step_name(manifest.step) != directory.name:
        raise Damaged(f"{NAME}: it belongs to {step_name(manifest.step)}")
    if not set(manifest.tensors.values()) <= manifest.files.keys():
        raise Damaged(f"{NAME}: a tensor lies in a file that it does not list")
    return manifest


def verify(
    fs: LocalFiles,
    directory: Path,
    *,
    hashes: bool = True,
    only: Callable[[str], bool] | None = None,
) -> Manifest:
    """The manifest, after comparing every file's size and (`hashes`) sha256 with it; `only`: files
    of which names. Raises Damaged.
    """
    manifest = read(fs, directory)
    for name, entry in sorted(manifest.files.items()):
        if only is not None and not only(name):
            continue
        try:
            size = fs.size(directory / name)
            digest = hashlib.sha256()
            for piece in fs.chunks(directory / name) if hashes and size == entry.bytes else ():
                digest.update(piece)
        except OSError as error:
            raise _damage(name, error) from None
        if size != entry.bytes:
            raise Damaged(f"{name}: {size} of {entry.bytes} bytes")
        if hashes and digest.hexdigest() != entry.sha256:
            raise Damaged(f"{name}: sha256 differs")
    return manifest


class Damaged(Exception):
    """A checkpoint that cannot be used; the text names the file and what is wrong with it."""


def _damage(name: str, error: OSError | ValueError) -> Damaged:
    """The reason in words. An error of the process, not of the file (too many open files, no
    right), is raised.
    """
    if isinstance(error, FileNotFoundError):
        return Damaged(f"{name}: missing")
    if isinstance(error, OSError):
        if error.errno not in MEDIUM:
            raise error
        return Damaged(f"{name}: {error.strerror}")
    if isinstance(error, ValidationError):
        return Damaged(f"{name}: not a manifest ({error.error_count()} faults)")
    return Damaged(f"{name}: {str(error).splitlines()[0]}")
