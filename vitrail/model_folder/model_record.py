"""model.json: what a model folder says about its weights (docs/run_directory.md). No torch here.

Plain data with a fixed schema, at most 16 MB: an architecture of our own table by name, bounded
numbers, nothing importable. Files of other people are hostile until this has accepted them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import PydanticSerializationError

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.class_names import MAX_BYTES, MAX_CLASSES, MAX_LETTERS, fault_of
from vitrail.documents import BY_HAND, CHANGED, Digest, check_keys, digest_of
from vitrail.errors import ModelError, VitrailError
from vitrail.models.names import Family, ModelConfig, config_from_numbers, parse_name
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

SCHEMA = 1
MAX_RECORD_BYTES = MAX_BYTES + 4_000_000  # names of classes, and all the rest
Text = Annotated[str, Field(max_length=1000)]
Name = Annotated[str, Field(max_length=MAX_LETTERS)]
Plain = str | int | float | bool | None


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


class Architecture(_Part):
    """A size of our own table (its family for one that is not in it) and every number of it."""

    family: Family = "vit"
    name: Annotated[str, Field(max_length=64)]
    numbers: Annotated[dict[Text, Plain | list[int] | list[list[int]]], Field(max_length=100)]


class Record(_Part):
    """The document. `scores`: whether outputs are one choice (softmax) or several labels
    (sigmoid).
    """

    version: Annotated[int, Field(alias="schema", ge=1)] = SCHEMA
    architecture: Architecture
    classes: Annotated[list[Name], Field(max_length=MAX_CLASSES)]
    preprocess: Annotated[dict[Text, Plain | list[int | float]], Field(max_length=50)]
    temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0
    # The library whose checkpoint it was, by its name in checkpoints/origins/registry.py; "" is
    # vitrail.
    origin: Annotated[str, Field(max_length=64)] = ""
    scores: Literal["softmax", "sigmoid"] = "softmax"
    trained_on: Annotated[dict[Text, JsonValue], Field(max_length=50)] = {}
    metrics: Annotated[dict[Text, JsonValue], Field(max_length=50)] = {}
    versions: Annotated[dict[Text, Text], Field(max_length=50)] = {}
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    # sha256 of the rest of the document; "" of one that was written before there was any, or that
    # was changed by hand on purpose.
    digest: Digest = ""

    def to_text(self) -> str:
        """The document as it is written; `origin` only where there is one."""
        left_out = set() if self.origin else {"origin"}
        whole = self.model_copy(update={"digest": digest_of(self)})
        return whole.model_dump_json(by_alias=True, indent=1, exclude=left_out) + "\n"


def made_record(name: Path, **fields: Any) -> Record:
    """The record of these fields. Raises ModelError VIT-434 where no model.json can hold them."""
    try:
        record = Record(**fields)
        parse_record(record.to_text().encode("utf-8"), name)
    except ValidationError as error:
        raise refused(name, _lines(error)) from error
    except PydanticSerializationError as error:
        raise refused(name, f"a text in it is not valid UTF-8 ({error})") from error
    return record


class _Version(BaseModel):
    version: Annotated[int, Field(alias="schema")]


def parse_record(data: bytes, name: Path) -> tuple[Record, ModelConfig, Preprocess]:
    """The record and what it describes, checked against each other.

    Raises ModelError: VIT-435 where a newer vitrail wrote it, VIT-434 for anything else.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise refused(name, f"it is larger than {MAX_RECORD_BYTES} bytes")
    try:
        record = Record.model_validate_json(data)
    except ValidationError as error:
        _refuse_newer(data, name)
        raise refused(name, _lines(error)) from error
    if record.version > SCHEMA:
        raise _newer(name, record.version)
    try:
        check_keys(data)
    except ValueError as error:
        raise refused(name, str(error)[:200]) from error
    try:
        config = config_from_numbers(record.architecture.family, record.architecture.numbers)
        preprocess = Preprocess.from_json(record.preprocess)
    except VitrailError as error:
        raise refused(name, error.message) from error
    _check_agreement(record, config, preprocess, name)
    if record.digest not in ("", digest_of(record)):
        raise _changed(name)
    return record, config, preprocess


def _lines(error: ValidationError) -> str:
    return "\n".join(
        f"  {'.'.join(map(str, item['loc'][:4])) or 'document'}: {item['msg'][:200]}"
        for item in error.errors(include_url=False, include_input=False)[:10]
    )


def refused(name: Path, why: str) -> ModelError:
    """VIT-434 for the document `name`."""
    return ModelError(
        "VIT-434",
        f"{name} cannot be used:\n{why}" if "\n" in why else f"{name} cannot be used: {why}.",
        hint="A model folder is used as vitrail wrote it; get it again, or train it again.",
    )


def _check_agreement(
    record: Record, config: ModelConfig, preprocess: Preprocess, name: Path
) -> None:
    architecture, classes = record.architecture.name, record.classes
    named = parse_name(architecture)
    if architecture != config.family and (named is None or named.family != config.family):
        raise refused(name, f"unknown architecture {architecture!r}")
    if why := fault_of(classes):
        raise refused(name, why)
    if classes and len(classes) != config.num_classes:
        raise refused(
            name, f"{count(len(classes), 'class')} for {count(config.num_classes, 'output')}"
        )
    made = (preprocess.channels, preprocess.height, preprocess.width)
    if made != (config.channels, *config.image_size):
        raise refused(
            name,
            f"preprocess gives (C, H, W) = {made}, "
            f"the architecture takes {(config.channels, *config.image_size)}",
        )
    if isinstance(config, ViTConfig):
        _check_patches(config, preprocess, name)


def _check_patches(config: ViTConfig, preprocess: Preprocess, name: Path) -> None:
    """Of a model of variable resolution."""
    takes = (config.max_patches, config.patch_size)
    made = (preprocess.max_patches, preprocess.patch_size)
    if takes[0] != made[0] or (preprocess.is_variable and takes != made):
        raise refused(
            name,
            f"preprocess makes {made[0]} patches of {made[1]} px at most, the architecture takes "
            f"{takes}",
        )


def _changed(name: Path) -> ModelError:
    return ModelError(
        "VIT-434",
        f"{name} cannot be used: {CHANGED}.",
        hint=f"Get it again. {BY_HAND}",
    )


def _refuse_newer(data: bytes, name: Path) -> None:
    """Raise VIT-435 where the document's schema number is above ours, whatever else is in it."""
    try:
        version = _Version.model_validate_json(data).version
    except ValidationError:
        return
    if version > SCHEMA:
        raise _newer(name, version)


def _newer(name: Path, version: int) -> ModelError:
    return ModelError(
        "VIT-435",
        f"{name} has schema {version}; this version of vitrail knows {SCHEMA}.",
        hint="Update vitrail: it is older than the file.",
    )
