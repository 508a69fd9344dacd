"""A model on disk: a folder of model.safetensors, model.json and README.md, or a zip of one; and
examples.dat, which says by digests what it was trained on (`data/sources/examples.py`).

From model.json follows how large the weights must be, so a file of another size is refused before
it is read; then its sha256, its tensors' names, shapes and finiteness are checked. The tensors are
copied into memory: changing or removing the folder later does not touch a loaded model. A folder is
written next to its target, flushed to disk and renamed: it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import FILE, Examples, parse
from vitrail.errors import ModelError
from vitrail.files import utf8_name, whole_folder, writing
from vitrail.folder import Folder, NotPlain, open_plain
from vitrail.model_folder.model_record import MAX_RECORD_BYTES, Record, parse_record
from vitrail.models.cost import parameters, running_values
from vitrail.models.names import ModelConfig
from vitrail.unpacking import ZIP_FAULTS, TooTight, open_zip

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, RECORD, CARD = "model.safetensors", "model.json", "README.md"
MAX_BYTES = 64 * 2**30  # weights; B/16 has 0.35 GB
MAX_EXAMPLES_BYTES = 2**28  # 15 million images
NO_RECORD = "it has no record of what it was trained on"
HEADER_BYTES = 2_000_000  # names and shapes of some thousand tensors
DTYPES = ("F32", "F16", "BF16")
Shapes = Mapping[str, tuple[int, ...]]
WEIGHTS_HINT = "The file is damaged or was changed: copy it again, or train it again."


@dataclass(frozen=True)
class Bundle:
    """What a model folder holds, checked: tensors by state-dict name, float32, in memory."""

    record: Record
    config: ModelConfig
    preprocess: Preprocess
    tensors: dict[str, Tensor]
    examples: Examples | str  # what it was trained on, or why that cannot be told


def read_bundle(
    path: Path, shapes_of: Callable[[ModelConfig], Shapes], *, max_bytes: int = MAX_BYTES
) -> Bundle:
    """The model in the folder or zip at `path`; `shapes_of(config)` gives each tensor's shape.

    Raises ModelError VIT-433 to VIT-441.
    """
    if path.is_dir():
        return _read_folder(path, path, shapes_of, max_bytes)
    with _unzipped(path, max_bytes) as folder:
        return _read_folder(folder, path, shapes_of, max_bytes)


def _read_folder(
    folder: Path, shown: Path, shapes_of: Callable[[ModelConfig], Shapes], max_bytes: int
) -> Bundle:
    """`shown` is the path that messages name."""
    for name in (RECORD, WEIGHTS):
        if not os.path.lexists(folder / name):
            raise _incomplete(shown, name)
    title = shown / WEIGHTS
    try:
        with os.fdopen(open_plain(_place(folder, RECORD)), "rb") as stream:
            text = stream.read(MAX_RECORD_BYTES + 1)
        record, config, preprocess = parse_record(text, shown / RECORD)
        weights = _place(folder, WEIGHTS)
        os.close(open_plain(weights))
    except NotPlain as error:
        raise ModelError(
            "VIT-433",
            f"{shown / Path(error.filename).name}: {error.strerror}.",
            hint="A model folder is used as vitrail wrote it; get it again, or train it again.",
        ) from error
    _check_size(weights.stat().st_size, config, title, max_bytes)
    if sha256_of(weights) != record.sha256:
        raise ModelError(
            "VIT-437", f"{title} is damaged: its sha256 differs from model.json.", hint=WEIGHTS_HINT
        )
    tensors = _read_tensors(weights, shapes_of(config), title)
    return Bundle(record, config, preprocess, tensors, examples_in(folder, record))


def examples_in(folder: Path, record: Record) -> Examples | str:
    """No reason to refuse a model: it classifies without."""
    named = record.trained_on.get("examples")
    expected = named.get("sha256") if isinstance(named, Mapping) else None
    if expected is None:
        return NO_RECORD
    try:
        data = Folder(folder).read(FILE, MAX_EXAMPLES_BYTES)
        if hashlib.sha256(data).hexdigest() != expected:
            return f"its {FILE} is not the one that was written with it"
        return parse(data)
    except FileNotFoundError:
        return f"its {FILE} is missing"
    except (OSError, ValueError) as error:
        return f"its {FILE} cannot be read ({error})"


def _place(folder: Path, name: str) -> Path:
    """Where a file of a model folder lies: in the folder, or, in the cache of the Hugging Face hub,
    among the blobs of its repository, to which that cache has links.
    """
    path = folder / name
    if path.is_symlink() and folder.parent.name == "snapshots":
        target = path.resolve()
        if target.parent == folder.parent.parent.resolve() / "blobs":
            return target
    return path


def _incomplete(path: Path, name: str) -> ModelError:
    return ModelError(
        "VIT-433",
        f"{path} is no model: {name} is missing; expected a folder with {RECORD} and {WEIGHTS}.",
        hint="Give the run directory (runs/NAME) or its model folder (runs/NAME/model).",
    )


def _check_size(size: int, config: ModelConfig, name: Path, max_bytes: int) -> None:
    """Refuse weights that cannot be those of `config`, before anything is allocated."""
    numbers = parameters(config) + running_values(config)
    if size > max_bytes or numbers * 2 > max_bytes:
        raise ModelError(
            "VIT-436",
            f"{name} needs {max(size, numbers * 2)} bytes; limit {max_bytes}.",
            hint="Load it in Python with a higher limit: vitrail.load(path, max_bytes=...)",
        )
    if not numbers * 2 <= size <= numbers * 4 + HEADER_BYTES:
        raise ModelError(
            "VIT-436",
            f"{name} has {size} bytes; the {numbers} numbers of {RECORD} need "
            f"{numbers * 2} to {numbers * 4 + HEADER_BYTES}.",
            hint=WEIGHTS_HINT,
        )


def sha256_of(path: Path) -> str:
    """The file's sha256 as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_tensors(weights: Path, expected: Shapes, name: Path) -> dict[str, Tensor]:
    """Every expected tensor, copied to memory as float32. Raises ModelError VIT-438, 439, 441."""
    import torch

    try:
        with utf8_name(weights) as readable, safe_open(readable, framework="pt") as file:
            found = {key: file.get_slice(key) for key in file.keys()}
            kinds = {part.get_dtype() for part in found.values()}
            if kinds - set(DTYPES):
                kind = sorted(kinds - set(DTYPES))[0]
                raise ModelError(
                    "VIT-438",
                    f"{name} holds numbers of type {kind}; expected {', '.join(DTYPES)}.",
                    hint=WEIGHTS_HINT,
                )
            check_shapes(
                {key: tuple(part.get_shape()) for key, part in found.items()}, expected, name
            )
            tensors = {key: file.get_tensor(key).to(torch.float32, copy=True) for key in expected}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            "VIT-438", f"{name} is no readable safetensors file: {error}", hint=WEIGHTS_HINT
        ) from error
    broken = sorted(key for key, value in tensors.items() if not value.isfinite().all())
    if broken:
        raise ModelError(
            "VIT-441",
            f"{name} holds values that are not finite, in {_listed(broken)}.",
            hint="Training diverged or the file is damaged; take an earlier model.",
        )
    negative = sorted(
        key for key, value in tensors.items() if key.endswith(".running_var") and value.min() < 0
    )
    if negative:
        raise ModelError(
            "VIT-441", f"{name} holds variances below 0, in {_listed(negative)}.", hint=WEIGHTS_HINT
        )
    return tensors


def check_shapes(found: Shapes, expected: Shapes, name: Path) -> None:
    """Raise ModelError VIT-439 unless both have the same names with the same shapes."""
    lines = []
    if missing := sorted(set(expected) - set(found)):
        lines.append(f"  missing: {_listed(missing)}")
    if unexpected := sorted(set(found) - set(expected)):
        lines.append(f"  unexpected: {_listed(unexpected)}")
    for key in sorted(set(found) & set(expected)):
        if found[key] != tuple(expected[key]):
            lines.append(f"  {key}: expected {tuple(expected[key])}, got {found[key]}")
    if lines:
        more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
        raise ModelError(
            "VIT-439",
            f"the tensors of {name} are not those of the architecture in {RECORD}:\n"
            + "\n".join(lines[:10] + more),
            hint="A model folder is used as vitrail wrote it; get it again, or train it again.",
        )


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return ", ".join(name[:100] for name in names[:10]) + more


@contextmanager
def _unzipped(path: Path, max_bytes: int) -> Iterator[Path]:
    """A temporary folder with the two files of a zipped model folder; sizes are limited first."""
    try:
        with open_zip(path) as archive, _scratch() as temporary:
            members = {PurePosixPath(item.filename): item for item in archive.infolist()}
            inside = [place.parent for place in members if place.name == RECORD]
            if len(inside) != 1 or inside[0] / WEIGHTS not in members:
                raise _incomplete(path, f"one {RECORD} with {WEIGHTS} next to it")
            folder = Path(temporary)
            with archive.open(members[inside[0] / RECORD]) as stream:
                text = stream.read(MAX_RECORD_BYTES + 1)
            _, config, _ = parse_record(text, path / RECORD)
            weights = members[inside[0] / WEIGHTS]
            _check_size(weights.file_size, config, path / WEIGHTS, max_bytes)
            with writing(folder / RECORD):
                (folder / RECORD).write_bytes(text)
            _copy(archive, weights, folder / WEIGHTS)
            examples = members.get(inside[0] / FILE)
            if examples is not None and examples.file_size <= MAX_EXAMPLES_BYTES:
                _copy(archive, examples, folder / FILE)
            yield folder
    except TooTight as error:
        raise ModelError("VIT-411", f"{path} has {error}.", hint=WEIGHTS_HINT) from error
    except ZIP_FAULTS as error:
        raise ModelError(
            "VIT-438", f"{path} is no readable zip file: {error}", hint=WEIGHTS_HINT
        ) from error


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder. Raises EnvironmentFault VIT-506 where the machine gives none."""
    with writing(Path(os.environ.get("TMPDIR", "the folder for temporary files"))):
        return tempfile.TemporaryDirectory()


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    """At most as many bytes as the table of the archive says, whatever it really holds. A disk
    that refuses them is no fault of the archive: EnvironmentFault VIT-506.
    """
    limit = member.file_size
    with archive.open(member) as source, writing(place), open(place, "wb") as target:
        while limit > 0 and (part := source.read(min(limit, 2**20))):
            target.write(part)
            limit -= len(part)


def write_bundle(
    folder: Path,
    tensors: Mapping[str, Tensor],
    record_of: Callable[[str], Record],
    card: str,
    *,
    replace: bool = False,
    examples: bytes = b"",
) -> None:
    """Write a model folder; `record_of(sha256)` gives its record once the weights are written.
    examples: examples.dat, none where it is empty.

    With `replace` a folder that is there gives way, in two renames. Raises ModelError VIT-440 where
    one is there and may not, EnvironmentFault VIT-506 where nothing can be written.
    """
    from safetensors.torch import save_file

    values = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with whole_folder(folder, replace=replace, refuse=refuse_existing) as temporary:
        (temporary / CARD).write_text(card, encoding="utf-8")
        if examples:
            (temporary / FILE).write_bytes(examples)
        with writing(folder / WEIGHTS):
            save_file(values, temporary / WEIGHTS, metadata={"format": "pt"})
        record = record_of(sha256_of(temporary / WEIGHTS))
        (temporary / RECORD).write_text(record.to_text(), encoding="utf-8")


def refuse_existing(path: Path) -> None:
    """Raise ModelError VIT-440 where `path` is there, also as a broken link."""
    if os.path.lexists(path):
        raise ModelError(
            "VIT-440", f"{path} exists; a model is never overwritten.", hint="Choose another name."
        )
