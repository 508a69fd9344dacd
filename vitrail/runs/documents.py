"""The documents of a run, each with its form: what is read has that form or is refused by name.

A run may come from somebody else, or from a disk that lost something: any of these may be a list, a
number, binary, cut short, a gigabyte, or nested a million times. Each is read from a plain file of
bounded size and held against its form; fields that are not named here may be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field, JsonValue, ValidationError

from vitrail.documents import Count, check_keys, parse_toml, problems
from vitrail.errors import ModelError
from vitrail.folder import Folder

Number = Annotated[float, Field(ge=0, le=2**53)]
Piece = Annotated[list[Number], Field(min_length=3, max_length=3)]  # of a schedule
Text = Annotated[str, Field(max_length=100_000)]
Object = dict[str, JsonValue]
SETTINGS_BYTES = 1 << 20


class Form(pydantic.BaseModel):
    """What every document has in common."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, protected_namespaces=())


class BestEvaluation(Form):
    """The best evaluation; empty before the first."""

    step: Count | None = None
    loss: Annotated[float | None, Field(alias="val/loss")] = None
    top1: Annotated[float | None, Field(alias="val/top1")] = None
    epoch: float | None = None


class RunForm(Form):
    """run.json."""

    version: Annotated[int, Field(alias="schema", ge=1)] = 1
    status: Literal["running", "finished", "stopped", "failed"]
    reason: Text | None = None
    seconds: Number = 0.0
    best: BestEvaluation = BestEvaluation()
    started: Text = ""
    command: Text = ""
    git: Text | None = None
    device: Text = ""
    threads: int | None = None
    seed: int | None = None
    objective: Text = "classify"
    config_hash: Text = ""
    settings: Object | None = None
    versions: dict[str, Text] = {}
    machine: Object = {}
    model: Object = {}
    preprocess: Object = {}
    results: dict[str, Object] = {}
    baselines: dict[str, float] = {}
    start: Annotated[Object | None, Field(alias="from")] = None


class DataForm(Form):
    """data.json. path: as it was named; absolute, from_run: where that was."""

    path: Text = ""
    absolute: Text = ""
    from_run: Text = ""
    name: Text = ""
    kind: Text = ""
    classes: list[Text] = []
    multi_label: bool = False
    split: Text = ""
    index: Text = ""
    notes: list[Text] = []
    counts: dict[str, Count] = {}
    class_counts: dict[str, dict[str, Count]] = {}
    fingerprints: dict[str, Text] = {}


class WindowForm(pydantic.BaseModel):
    """Sums since the last record of metrics.jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    loss: float
    correct: float
    examples: Count
    steps: Count


class StateForm(Form):
    """state.json of a checkpoint. settings: those of the run, flat. judged: the evaluation of this
    very step, where there was one. built: "model" and "preprocess" as run.json has them; classes,
    multi_label: as data.json.
    """

    step: Count
    best: BestEvaluation
    judged: BestEvaluation = BestEvaluation()
    stale: Count
    lowest_loss: float | None
    seconds: Number
    schedule: Annotated[list[Piece], Field(min_length=1, max_length=1_000_000)]
    window: WindowForm
    metrics_offset: Count = 0
    metrics_sha256: Text = ""
    config_hash: Text = ""
    settings: Object | None = None
    built: Object | None = None
    classes: list[Text] | None = None
    multi_label: bool | None = None


class LockForm(Form):
    """.lock: who trains here."""

    pid: Annotated[int, Field(ge=0, lt=2**31)]
    boot: Annotated[str, Field(max_length=100)]


class AnyForm(pydantic.RootModel[Object]):
    """A document of which only the first level is known: an object."""


FORMS: dict[str, tuple[type[pydantic.BaseModel], int]] = {  # form and the most bytes
    "run.json": (RunForm, 16 << 20),
    "data.json": (DataForm, 256 << 20),
    "state.json": (StateForm, 64 << 20),
    ".lock": (LockForm, 4096),
}
OTHER = (AnyForm, 64 << 20)


def read(folder: Folder, name: str, *, hint: str = "") -> dict[str, Any]:
    """The document `name` of a run. Raises ModelError VIT-409 where it has another form."""
    form, limit = FORMS.get(name.rsplit("/", 1)[-1], OTHER)
    path = folder.path / name
    try:
        return parse(form, folder.read(name, limit))
    except FileNotFoundError:
        raise unreadable(path, "it is missing", hint) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, reason_of(error), hint) from error


def required(record: Mapping[str, Any], key: str, path: Path) -> Any:
    """A field that older or foreign documents may lack. Raises ModelError VIT-409."""
    if key not in record:
        raise unreadable(path, f"{key} is missing")
    return record[key]


def parse(form: type[pydantic.BaseModel], data: bytes) -> dict[str, Any]:
    """The document that `data` is. Raises ValueError where it has another form."""
    form.model_validate_json(data)
    found: dict[str, Any] = pydantic.TypeAdapter(dict[str, Any]).validate_json(data)
    check_keys(data)
    return found


def reason_of(error: OSError | ValueError) -> str:
    """What is wrong with a document, in one line without its content."""
    if isinstance(error, ValidationError):
        return problems(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def unreadable(path: Path, why: str, hint: str = "") -> ModelError:
    """VIT-409."""
    return ModelError(
        "VIT-409",
        f"{path} cannot be read: {why}.",
        hint=hint or "Restore it from a backup, or start a new run: vitrail train DATA",
    )


class ModelForm(Form):
    """The model of run.json."""

    name: Text
    family: Text


class BuiltForm(Form):
    """What run.json must hold for its model to be built again."""

    model: ModelForm
    preprocess: Annotated[Object, Field(min_length=1)]


def built(record: Mapping[str, Any], path: Path) -> tuple[str, str, dict[str, Any]]:
    """Name, family and numbers of a run's model. Raises ModelError VIT-409 where they are not
    there.
    """
    try:
        BuiltForm.model_validate(record)
    except ValidationError as error:
        raise unreadable(path, reason_of(error)) from error
    model = dict(record["model"])
    return str(model.pop("name")), str(model.pop("family")), model


def settings_in(folder: Folder) -> Mapping[str, Any] | None:
    """config.toml as nested tables; None where there is none. Raises ModelError VIT-409."""
    try:
        text = folder.read("config.toml", SETTINGS_BYTES).decode("utf-8")
        return parse_toml(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # UnicodeDecodeError, TOMLDecodeError
        raise unreadable(
            folder.path / "config.toml",
            reason_of(error),
            "Put it right; or remove it: vitrail train --resume RUN then writes it again as the "
            "run was trained so far.",
        ) from error
