"""export.json: what an exported model is, what it came from, and how far it agrees with that.

An export is a model folder whose weights lie in the file of an engine: model.json (the record of
the model it came from), export.json, the engine's file, README.md, classes.txt, preprocess.json.
Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from vitrail.data.images.preprocess import Preprocess
from vitrail.documents import BY_HAND, CHANGED, Digest, check_keys, digest_of
from vitrail.errors import ModelError
from vitrail.folder import Folder, NotPlain, TooLarge
from vitrail.model_folder.model_record import MAX_RECORD_BYTES, Record, parse_record
from vitrail.models.names import ModelConfig
from vitrail.runtime.engines import Way

SCHEMA = 1
EXPORT, RECORD = "export.json", "model.json"
MAX_EXPORT_BYTES = 1_000_000
MAX_ENGINE_BYTES = 2**31 - 1
DECIDING = ("architecture", "classes", "preprocess", "temperature", "scores", "sha256")
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["float32", "bfloat16", "int8"]
Count = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


class EngineFile(_Part):
    """A file and the engine that reads it."""

    name: Name
    format: Literal["onnx", "torch", "torch-export"]
    precision: Precision = "float32"
    opset: int | None = None
    size: Annotated[int, Field(alias="bytes", ge=0)]
    sha256: Sha256


class Checked(_Part):
    """An engine that computed the file, next to torch on the same images."""

    engine: Literal["torch", "onnx", "openvino"]
    precision: Precision
    library: str
    passed: bool
    parity: dict[str, JsonValue]
    limits: dict[str, JsonValue]


class ExportRecord(_Part):
    """The document. source: what it was made from, by `source_of`; parity and limits: the figures
    of the gate (`export/gate.py`) of the engine it was made for; checked: of every engine; images:
    which ones it was checked with; speed: images per second by threads, engine with precision, and
    images at a time; quantisation: of int8, how it came to be (`export/int8.py`); golden: what
    torch answered to the image of `golden.py`, by class index; digest: of all the rest, "" in one
    that was written before there was any, or that was changed by hand on purpose.
    """

    version: Annotated[int, Field(alias="schema", ge=1)] = SCHEMA
    source: Sha256
    weights: Sha256
    file: EngineFile
    images: dict[str, JsonValue]
    parity: dict[str, JsonValue]
    limits: dict[str, JsonValue]
    checked: tuple[Checked, ...] = ()
    speed: dict[Count, dict[str, dict[Count, Rate]]] = {}
    golden: dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Share] = {}
    quantisation: dict[str, JsonValue] = {}
    versions: dict[str, str]
    machine: dict[str, JsonValue]
    digest: Digest = ""

    def to_text(self) -> str:
        """The document as it is written."""
        whole = self.model_copy(update={"digest": digest_of(self)})
        return whole.model_dump_json(by_alias=True, indent=1) + "\n"


@dataclass(frozen=True)
class Export:
    """An export in the folder `path`, checked but for the engine's file."""

    path: Path
    record: Record
    config: ModelConfig
    preprocess: Preprocess
    about: ExportRecord
    digest: str = ""  # sha256 of export.json

    @property
    def ways(self) -> list[Way]:
        """The engines that it was checked with."""
        return [
            Way(
                one.engine,
                one.precision,
                one.passed,
                self.rates(f"{one.engine} {one.precision}"),
            )
            for one in self.about.checked
        ]

    def rates(self, way: str) -> dict[int, dict[int, float]]:
        """Images per second by threads and images at a time; empty where not measured."""
        speed = self.about.speed
        return {threads: table[way] for threads, table in speed.items() if table.get(way)}

    def content(self) -> bytes:
        """The engine's file. Raises ModelError VIT-471 where it is not the one that was checked."""
        name = self.about.file.name
        content = _bytes(Folder(self.path), name, MAX_ENGINE_BYTES)
        if hashlib.sha256(content).hexdigest() != self.about.file.sha256:
            raise damaged(self.path / name, f"its sha256 is not that of {EXPORT}")
        return content


def source_of(record: Record) -> str:
    """sha256 of all that answers follow from: weights, architecture, preprocessing, classes,
    temperature. Figures and the card may change.
    """
    chosen = {name: record.model_dump(mode="json")[name] for name in DECIDING}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def is_export(folder: Path) -> bool:
    """Whether `folder` is an export."""
    return Folder(folder).has(EXPORT)


def read_export(path: Path) -> Export:
    """The export in the folder `path`. Raises ModelError: VIT-434, VIT-435 its model.json, VIT-471
    damaged, VIT-472 made from other weights, VIT-473 a .pt2.
    """
    folder = Folder(path)
    document = _bytes(folder, EXPORT, MAX_EXPORT_BYTES)
    about = _about(document, path / EXPORT)
    text = _bytes(folder, RECORD, MAX_RECORD_BYTES)
    record, config, preprocess = parse_record(text, path / RECORD)
    if source_of(record) != about.source:
        raise _stale(path, path / RECORD)
    _require_current(path, about)
    if about.file.format == "torch-export":
        raise ModelError(
            "VIT-473",
            f"{path / about.file.name} is a container of pickles, which vitrail does not open.",
            hint="Use the model that it came from, or export that: --to onnx",
        )
    digest = hashlib.sha256(document).hexdigest()
    return Export(path, record, config, preprocess, about, digest)


def exports_of(place: Path) -> list[Path]:
    """The exports of the model in the folder `place`: in its folder `export`, for a run in
    RUN/export, alone or several by name. A folder that cannot be listed has none.
    """
    found = []
    for folder in (place / "export", *([place.parent / "export"] if place.name == "model" else [])):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        found += [folder] if EXPORT in names else [folder / name for name in names]
    return [one for one in found if one.is_dir() and is_export(one)]


def _bytes(folder: Folder, name: str, limit: int) -> bytes:
    try:
        return folder.read(name, limit)
    except FileNotFoundError as error:
        raise damaged(folder.path / name, "it is missing") from error
    except (NotPlain, TooLarge) as error:
        raise damaged(folder.path / name, str(error.strerror)) from error


def _about(text: bytes, name: Path) -> ExportRecord:
    try:
        about = ExportRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][:4])) or "document"
        raise damaged(name, f"{where}: {first['msg'][:200]}") from error
    try:
        check_keys(text)
    except ValueError as error:
        raise damaged(name, str(error)[:200]) from error
    if about.version > SCHEMA:
        raise ModelError(
            "VIT-435",
            f"{name} has schema {about.version}; this version of vitrail knows {SCHEMA}.",
            hint="Update vitrail: it is older than the file.",
        )
    if about.digest not in ("", digest_of(about)):
        raise damaged(name, CHANGED, f"Copy it again. {BY_HAND}")
    return about


def _require_current(path: Path, about: ExportRecord) -> None:
    """Raise ModelError VIT-472 where the model that `path` lies in or beside is another by now:
    RUN/export and RUN/export/NAME belong to RUN/model.
    """
    for folder in path.resolve().parents[:2]:
        for name in (RECORD, f"model/{RECORD}"):
            try:
                text = Folder(folder).read(name, MAX_RECORD_BYTES)
                current = source_of(parse_record(text, folder / name)[0])
            except (OSError, ModelError):
                continue
            if current != about.source:
                raise _stale(path, folder / name)


def _stale(path: Path, other: Path) -> ModelError:
    return ModelError(
        "VIT-472",
        f"{path} was exported from other weights or settings than {other} has now.",
        hint=f"Export it again: vitrail export {other.parent} OUT --to onnx",
    )


def damaged(name: Path, why: str, hint: str = "") -> ModelError:
    """VIT-471 for a file of an export."""
    return ModelError(
        "VIT-471",
        f"{name} is not as vitrail wrote it: {why}.",
        hint=hint or "Copy it again, or export it again: vitrail export MODEL OUT --to onnx",
    )


def as_json(values: Any) -> dict[str, JsonValue]:
    """Plain values of a record."""
    found: dict[str, JsonValue] = json.loads(json.dumps(values))
    return found
