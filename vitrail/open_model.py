"""A model opened, whatever holds it: what a `Classifier` is made of.

A run, a model folder or a zip of one, an export, or a checkpoint of another library. Nothing here
asks what is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.checkpoints.catalogue.meant import way_out
from vitrail.checkpoints.hub.download import Progress
from vitrail.checkpoints.hub.resolve import resolve_weights
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import Examples
from vitrail.device import num_threads, pick_device, set_threads
from vitrail.errors import ModelError, UsageError
from vitrail.folder import Folder
from vitrail.model_folder.bundle import (
    MAX_BYTES,
    NO_RECORD,
    RECORD,
    WEIGHTS,
    examples_in,
    read_bundle,
)
from vitrail.model_folder.choose_engine import Chosen, choose
from vitrail.model_folder.description import RESAMPLE, Meta
from vitrail.model_folder.export_record import Export, is_export
from vitrail.model_folder.model_record import Record
from vitrail.models.names import ModelConfig
from vitrail.run_model import RunModel, is_run, read_run_model
from vitrail.runtime.engines import Asked, open_session
from vitrail.runtime.runtime import Runtime

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitrail.checkpoints.external import ExternalCheckpoint
    from vitrail.models.create import Model

DESCRIPTIONS = (RECORD, "config.json")  # of which one lies beside model.safetensors


@dataclass(frozen=True)
class Stated:
    """What a checkpoint of another library does not say and somebody states: fields of the
    architecture, the library, which weights of a training file, a file of names.
    """

    given: Mapping[str, Any] | None = None
    origin: str | None = None
    table: str | None = None
    name_map: str | Path | None = None

    @property
    def is_any(self) -> bool:
        """Whether something is stated."""
        return bool(self.given or self.origin or self.table or self.name_map)


@dataclass(frozen=True)
class Opened:
    """The arguments of a `Classifier`; precision: that torch is to compute in; export: what it was
    read from.
    """

    model: nn.Module | None
    preprocess: Preprocess
    classes: Sequence[str]
    temperature: float
    meta: Meta
    examples: Examples | str = NO_RECORD
    runtime: Runtime | None = None
    precision: str = "float32"
    export: Export | None = None


def open_model(
    path: str | Path,
    asked: Asked,
    stated: Stated,
    *,
    device: str | torch.device,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Opened:
    """What is at `path`, a place or a name; the arguments as for `vitrail.load`, which lists what
    it raises. asked: its engine is "" for the usual one.
    """
    place = find_model(resolve_weights(path, progress=progress))
    asked = replace(asked, engine=asked.engine or ("auto" if is_export(place) else "torch"))
    asked.check()
    if is_ours(place) and stated.is_any:
        raise UsageError(
            "VIT-202",
            f"{path} is a model of vitrail; --set, --origin, --table and --map have no effect.",
            hint="Leave them out.",
        )
    chosen = choose(place, asked, str(device))
    if chosen.export and chosen.way.engine != "torch":
        return _of_export(chosen, asked)
    if isinstance(device, str):
        device = pick_device(device)
    if asked.threads is not None:
        set_threads(asked.threads)
    if not is_ours(place):
        return opened_foreign(_read_foreign(place, stated, max_bytes), device)
    folder = chosen.export.path if chosen.export else place
    found = _of_ours(folder, device, max_bytes)
    meta = replace(found.meta, notes=(*found.meta.notes, *chosen.said))
    return replace(found, meta=meta, precision=chosen.way.precision, export=chosen.export)


def _read_foreign(place: Path, stated: Stated, max_bytes: int) -> ExternalCheckpoint:
    from vitrail.checkpoints.external import read_external
    from vitrail.checkpoints.origins.name_map import read_map

    return read_external(
        place,
        origin=stated.origin,
        given=stated.given,
        table=stated.table,
        name_map=read_map(Path(stated.name_map)) if stated.name_map else None,
        max_bytes=max_bytes,
    )


def _of_ours(place: Path, device: torch.device, max_bytes: int) -> Opened:
    """A run or a model folder."""
    from vitrail.models.create import build

    modules: list[Model] = []

    def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
        modules.append(build(config))  # on the meta device: no memory, no random values
        return {name: tuple(value.shape) for name, value in modules[0].state_dict().items()}

    if is_run(place):
        return _of_run(place, read_run_model(place, shapes_of), modules[0], device)
    bundle = read_bundle(place, shapes_of, max_bytes=max_bytes)
    model = modules[0]
    model.load_state_dict(bundle.tensors, strict=True, assign=True)
    record = bundle.record
    meta = replace(_meta_of(record), resample=_resample_of(record.origin))
    return Opened(
        model.to(device),
        bundle.preprocess,
        record.classes,
        record.temperature,
        meta,
        bundle.examples,
    )


def _meta_of(record: Record) -> Meta:
    """Where a model comes from, as its model.json has it."""
    return Meta(
        record.architecture.name,
        record.trained_on,
        record.metrics,
        record.versions,
        record.scores,
        record.origin,
    )


def _resample_of(origin: str) -> str:
    """The rule for position embeddings of a library; vitrail's own where it is none."""
    from vitrail.checkpoints.origins.registry import ORIGINS

    return ORIGINS[origin].resample if origin in ORIGINS else RESAMPLE


def _of_run(run: Path, found: RunModel, model: Model, device: str | torch.device) -> Opened:
    """A run that is not finished."""
    from vitrail.evaluation.eval_set import known_of

    model.load_state_dict(found.tensors, strict=True, assign=True)
    meta = Meta(
        found.name,
        {"data": found.data},
        {"val": dict(found.figures)},
        scores="sigmoid" if found.multi_label else "softmax",
        origin=found.origin,
        resample=_resample_of(found.origin),
        notes=found.said,
    )
    known = known_of(run, NO_RECORD)
    return Opened(model.to(device), found.preprocess, found.classes, 1.0, meta, known)


def opened_foreign(foreign: ExternalCheckpoint, device: str | torch.device) -> Opened:
    """A checkpoint of another library."""
    meta = Meta(
        name=foreign.name,
        scores=foreign.scores,
        origin=foreign.origin,
        resample=foreign.resample,
        notes=foreign.notes,
        facts=foreign.facts,
    )
    return Opened(foreign.model.to(device), foreign.preprocess, foreign.classes, 1.0, meta)


def _of_export(chosen: Chosen, asked: Asked) -> Opened:
    """An export, computed by another engine than torch.

    Raises ModelError VIT-471; EnvironmentFault VIT-520, VIT-525.
    """
    from vitrail.runtime.file_runtime import FileRuntime

    found, way = chosen.export, chosen.way
    assert found is not None, "an engine has a file"
    record, made = found.record, found.preprocess
    threads = asked.threads or num_threads()[0]
    session = open_session(
        way.engine,
        found.content(),
        str(found.path / found.about.file.name),
        threads=threads,
        precision=way.precision,
        streams=asked.streams,
    )
    best = way.best_batch(threads)
    runtime = FileRuntime(session, made.mean, made.std, way.precision, best)
    meta = replace(_meta_of(record), notes=chosen.said)
    known = examples_in(found.path, record)
    return Opened(
        None, made, record.classes, record.temperature, meta, known, runtime, export=found
    )


def find_torch_model(
    path: str | Path,
    engine: str | None,
    progress: Progress | None = None,
    option: str = "--tokens",
) -> Path:
    """Where a model lies whose tokens or patches can be changed. Raises UsageError VIT-288 or
    VIT-289 for an export, or for another engine than torch.
    """
    place = find_model(resolve_weights(path, progress=progress))
    if is_export(place) or engine not in (None, "auto", "torch"):
        what = f"{path} is an export" if is_export(place) else f"--engine {engine}"
        code, why = {
            "--tokens": ("VIT-288", "which computes every token; torch merges them"),
            "--patch": ("VIT-289", "which has one patch size; torch can choose"),
        }[option]
        raise UsageError(
            code,
            f"{option}: {what}, {why}.",
            hint=f"Leave {option} out, or name the model that was exported.",
        )
    return place


def is_ours(place: Path) -> bool:
    """Whether `find_model` found a model folder of vitrail, a zip of one, or a run."""
    return place.suffix.lower() == ".zip" or (place / RECORD).is_file() or is_run(place)


def find_model(path: Path) -> Path:
    """The model folder, zip or checkpoint that `path` means; the run itself where it has no model
    folder yet.

    Raises ModelError VIT-430, VIT-433.
    """
    if not path.exists():
        raise ModelError(
            "VIT-430",
            f"{path}: there is no such file or folder.",
            hint=way_out(str(path))
            or "A model is a run directory (runs/NAME), a model folder (runs/NAME/model), or a "
            "checkpoint of another library.",
        )
    if path.is_dir():
        return _in_folder(path)
    if path.name in (WEIGHTS, RECORD) and (path.parent / RECORD).is_file():
        return path.parent
    return path


def _in_folder(path: Path) -> Path:
    if is_run(path):
        return path / "model" if Folder(path).has(f"model/{RECORD}") else path
    if (path / WEIGHTS).is_file() and not any((path / name).is_file() for name in DESCRIPTIONS):
        raise ModelError(
            "VIT-433",
            f"{path} has {WEIGHTS}, but neither {RECORD} (vitrail) nor config.json (timm, Hugging "
            "Face) next to it.",
            hint=f"Get the folder again; or read the bare tensors: {path / WEIGHTS}",
        )
    return path
