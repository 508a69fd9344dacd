"""Reading a checkpoint, or a part of it: always through its manifest, nowhere else.

Whoever needs the newest state, the best weights or the figures of an evaluation asks here, so that
no byte is used that was not compared with the sha256 written beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from vitrail.errors import EnvironmentFault, ModelError
from vitrail.runs import documents
from vitrail.runs import manifest as manifests
from vitrail.runs.filesystem import FILES, LocalFiles, read_all
from vitrail.runs.manifest import Damaged, Manifest, step_name

if TYPE_CHECKING:
    from torch import Tensor

STATE = "state.json"
STATE_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class BestWeights:
    """The weights of the best evaluation of a run that goes on. figures: step, epoch, val/loss,
    val/top1. file: "ema" (averaged) or "model". settings: of the run, flat. built: "model" and
    "preprocess" as run.json should have them, data: "classes" and "multi_label" as data.json; empty
    of an older run. said: one sentence for each damaged checkpoint that was passed over.
    """

    figures: Mapping[str, Any]
    file: str
    tensors: dict[str, Tensor]
    settings: Mapping[str, Any]
    built: Mapping[str, Any]
    data: Mapping[str, Any]
    said: tuple[str, ...]


def list_steps(run_dir: Path, *, fs: LocalFiles = FILES) -> list[int]:
    """Steps of the checkpoint directories of a run, ascending, damaged ones included."""
    found = (manifests.STEP_NAME.fullmatch(name) for name in fs.names(run_dir / "checkpoints"))
    return sorted(int(match[1]) for match in found if match)


def place_of(run_dir: Path, step: int) -> Path:
    """The directory of a step's checkpoint."""
    return run_dir / "checkpoints" / step_name(step)


def read_state(fs: LocalFiles, directory: Path) -> dict[str, Any]:
    """state.json, an object. Raises Damaged."""
    try:
        return documents.parse(documents.AnyForm, read_all(fs, directory / STATE, STATE_MAX_BYTES))
    except FileNotFoundError:
        raise Damaged(f"{STATE}: missing") from None
    except ValueError as error:
        raise Damaged(f"{STATE}: {documents.reason_of(error)}") from None


def read_tensors(
    fs: LocalFiles, directory: Path, manifest: Manifest, kind: str
) -> dict[str, Tensor]:
    """The tensors of `kind`, from one file or from shares that were compared with the manifest.
    Raises Damaged.
    """
    found: dict[str, Tensor] = {}
    for file in manifest.files_of(kind):
        try:
            tensors = fs.tensors(directory / file)
        except (ValueError, SafetensorError) as error:
            raise Damaged(f"{file}: {error}") from None
        if manifest.schema_number == manifests.IN_SHARES:
            listed = {name for name, place in manifest.tensors.items() if place == file}
            if {f"{kind}/{name}" for name in tensors} != listed:
                raise Damaged(f"{file}: other tensors than {manifests.NAME} lists")
        found |= tensors
    return found


def read_weights(
    run_dir: Path, step: int, file: str, *, fs: LocalFiles = FILES
) -> dict[str, Tensor]:
    """The tensors of `file` ("model", "ema") in the checkpoint of `step`, verified. Raises Damaged,
    EnvironmentFault VIT-507.
    """
    directory = place_of(run_dir, step)
    try:
        return read_tensors(fs, directory, _with_weights(fs, directory, file), file)
    except OSError as error:
        raise unreadable(directory, error) from error


def check_weights(run_dir: Path, step: int, file: str, *, fs: LocalFiles = FILES) -> None:
    """As `read_weights`, without keeping the tensors."""
    directory = place_of(run_dir, step)
    try:
        _with_weights(fs, directory, file)
    except OSError as error:
        raise unreadable(directory, error) from error


def _with_weights(fs: LocalFiles, directory: Path, kind: str) -> Manifest:
    manifest = manifests.verify(fs, directory, only=lambda name: manifests.kind_of(name) == kind)
    if kind not in manifest.kinds:
        raise Damaged(f"{kind}.safetensors: missing")
    return manifest


def _with_state(fs: LocalFiles, directory: Path) -> Manifest:
    manifest = manifests.verify(fs, directory, only=lambda name: name == STATE)
    if STATE not in manifest.files:
        raise Damaged(f"{STATE}: missing")
    return manifest


def best_weights(run_dir: Path, *, fs: LocalFiles = FILES) -> BestWeights | None:
    """The best weights of a run that goes on or was stopped; None where none was evaluated yet.

    Of the newest checkpoint whose state can be read: those of the best evaluation it knows, else of
    its own evaluation; else of the checkpoint before it. Raises ModelError VIT-405 where each of
    them is damaged, EnvironmentFault VIT-507.
    """
    damaged: list[str] = []
    try:
        for step in reversed(list_steps(run_dir, fs=fs)):
            try:
                manifest = _with_state(fs, place_of(run_dir, step))
                state = read_state(fs, place_of(run_dir, step))
                form = documents.StateForm.model_validate(state)
            except (Damaged, ValueError) as error:
                why = documents.reason_of(error) if isinstance(error, ValueError) else str(error)
                damaged.append(f"{step_name(step)} is damaged ({why})")
                continue
            file = "ema" if "ema" in manifest.kinds else "model"
            for key, best in (("best", form.best), ("judged", form.judged)):
                if best.step is None:
                    continue
                try:
                    tensors = read_weights(run_dir, best.step, file, fs=fs)
                except Damaged as error:
                    damaged.append(f"{step_name(best.step)} is damaged ({error})")
                    continue
                said = tuple(f"VIT-405: checkpoint {one}; not used" for one in damaged)
                built, settings = form.built or {}, form.settings or {}
                names = {"classes", "multi_label"} & state.keys()
                data = {name: state[name] for name in sorted(names)}
                return BestWeights(state[key], file, tensors, settings, built, data, said)
    except OSError as error:
        raise unreadable(run_dir / "checkpoints", error) from error
    if not damaged:
        return None
    lines = "\n".join(f"  {one}" for one in damaged)
    raise ModelError(
        "VIT-405",
        f"{run_dir}: no checkpoint can be used:\n{lines}",
        hint="Restore one of these folders from a backup, or start a new run.",
    )


def unreadable(path: Path, error: OSError) -> EnvironmentFault:
    """VIT-507."""
    return EnvironmentFault(
        "VIT-507",
        f"{path} could not be read: {error.strerror or error}.",
        hint="Nothing was changed; put that right and try again.",
    )
