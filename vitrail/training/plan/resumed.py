"""What a run is continued with: the settings it was trained with so far, or a refusal.

The newest checkpoint holds them (before the first one run.json does). config.toml is held against
them setting by setting. What changes no result is taken and said; anything else is refused: half a
run with one learning rate and half with another is no run that its folder describes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitrail.config import TrainConfig, config_hash, flatten
from vitrail.errors import ModelError, UsageError, VitrailError
from vitrail.runs import documents
from vitrail.runs.manifest import step_name
from vitrail.settings.layers import resolve
from vitrail.settings.toml_file import toml_lines
from vitrail.training.storage.checkpoint import Checkpoint
from vitrail.training.storage.run_dir import RunDir, open_run

Layers = Sequence[tuple[str, Mapping[str, Any]]]

# Settings that decide which images are held out.
SPLIT = ("seed", "data.val_fraction", "data.test_fraction", "data.split_seed")
SAME_BITS = "it changes no result"
CHECKED = "what lies there is compared with what the run began with"
LAST_BITS = "the last bits may differ"
FREE = {  # settings that may be others, and why
    **dict.fromkeys(("start.model", "distill.teacher"), CHECKED),
    **dict.fromkeys(("data.workers", "keep_checkpoints"), SAME_BITS),
    **dict.fromkeys(("save_every_secs", "save_every_steps"), SAME_BITS),
    **dict.fromkeys(("threads", "device"), LAST_BITS),
}


def settings_of(run: RunDir, checkpoint: Checkpoint | None) -> tuple[dict[str, Any], list[str]]:
    """The settings to go on with, flat, and what to say of them.

    Raises ModelError VIT-410 where config.toml says others than the run was trained with, VIT-409
    where it cannot be read, UsageError VIT-211 to VIT-213 where it holds no settings.
    """
    recorded, digest = _recorded(run, checkpoint)
    nested = documents.settings_in(run.folder)
    if nested is None:
        return _written_again(run, recorded)
    settings = flatten(nested)
    config, _ = resolve([(str(run.path / "config.toml"), settings)])
    if recorded is None:
        _compare_hash(run, config, digest)
        return settings, []
    before, _ = resolve([("the checkpoint", recorded)])
    changes = differences(before, config)
    refused = {key: pair for key, pair in changes.items() if key not in FREE}
    if refused:
        raise _edited(run, checkpoint, refused)
    said = [
        f"config.toml: {key} is {now!r}, was {was!r}: taken; {FREE[key]}"
        for key, (was, now) in changes.items()
    ]
    return settings, said


def model_of(run: RunDir, checkpoint: Checkpoint | None) -> tuple[dict[str, Any] | None, list[str]]:
    """What the run recorded of its model, and what to say of it: as the newest checkpoint has it,
    whatever became of run.json; None before the first one: the model is then derived as at the
    start.
    """
    record = run.read("run.json")
    if checkpoint is None:
        return None, []
    built = checkpoint.state.get("built") or {}
    others = [key for key in built if record.get(key) != built[key]]
    said = f"{run.path / 'run.json'}: {', '.join(others)} was not as the run wrote it; taken from "
    return record | built, [f"{said}{step_name(checkpoint.step)}"] if others else []


def to_go_on_with(path: Path, layers: Layers) -> Path | None:
    """The run at `path`, where there is one and it was started with what `layers` say; None for a
    new one, also where a start was cut off before it wrote anything.

    Raises UsageError VIT-259 for other settings, ModelError VIT-408 for a run that is finished.
    """
    with suppress(OSError):
        path.rmdir()  # an empty folder
    if not path.is_dir():
        return None
    run = open_run(path)
    if run.read("run.json")["status"] == "finished":
        raise is_finished(run)
    asked, sources = resolve(layers)
    recorded = flatten(documents.settings_in(run.folder) or {})
    wanted, has = flatten(asked), flatten(resolve([("config.toml", recorded)])[0])
    others = [
        f"  {key} = {wanted[key]!r}, the run has {has.get(key)!r}"
        for key, source in sources.items()
        if source != "built-in"
        and key not in FREE
        and wanted.get(key) not in (has.get(key), "auto")
    ]
    if others:
        raise UsageError(
            "VIT-259",
            f"{path} was started with other settings than these:\n" + "\n".join(others),
            hint="Give the settings that it was started with, or another --name.",
        )
    return path


def is_finished(run: RunDir) -> ModelError:
    """VIT-408, with the command that trains on."""
    return ModelError(
        "VIT-408",
        f"{run.path} is finished; there is nothing to continue.",
        hint=f"Look at it: vitrail report {run.path}\n"
        f"  Train on from its weights, into a new run: {train_on(run)}",
    )


def train_on(run: RunDir) -> str:
    """The command that starts a new run from the weights of a finished one, on the same split."""
    words = ["vitrail", "train", "DATA", "--from", str(run.path), "--epochs", "10"]
    try:
        settings = flatten(documents.settings_in(run.folder) or {})
        before = flatten(resolve([("config.toml", settings)])[0])
    except VitrailError:
        return shlex.join(words)
    words[2] = str(before.get("data.path") or "DATA")
    if before.get("objective") == "classify":
        words += ["--start.head", "by_name"]
    plain = flatten(TrainConfig())
    for key in SPLIT:
        if before.get(key) != plain.get(key):
            words += [f"--{key.replace('_', '-')}", str(before[key])]
    return shlex.join(words)


def differences(before: TrainConfig, now: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: {key: (was, is)}."""
    old, new = flatten(before), flatten(now)
    return {
        key: (old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    }


def _recorded(run: RunDir, checkpoint: Checkpoint | None) -> tuple[Mapping[str, Any] | None, str]:
    """The settings that the run was trained with, where they were recorded, and their hash."""
    record = checkpoint.state if checkpoint else run.read("run.json")
    settings, digest = record.get("settings"), record.get("config_hash")
    return (settings if isinstance(settings, dict) else None), str(digest or "")


def _written_again(
    run: RunDir, recorded: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    if recorded is None:
        raise documents.unreadable(run.path / "config.toml", "it is missing")
    config, _ = resolve([("the checkpoint", recorded)])
    settings = flatten(config)
    run.write("config.toml", toml_lines(settings))
    return settings, [f"{run.path / 'config.toml'} was missing; written again from the checkpoint"]


def _compare_hash(run: RunDir, config: TrainConfig, digest: str) -> None:
    if digest and config_hash(config) != digest:
        raise ModelError(
            "VIT-410",
            f"{run.path / 'config.toml'} holds other settings than the run was trained with: "
            f"expected the hash {digest}, got {config_hash(config)}. Which ones was not recorded.",
            hint=_way_out(run),
        )


def _edited(
    run: RunDir, checkpoint: Checkpoint | None, changes: Mapping[str, tuple[Any, Any]]
) -> ModelError:
    at = step_name(checkpoint.step) if checkpoint else "its start"
    lines = [f"  {key} = {now!r}, was {was!r}" for key, (was, now) in changes.items()]
    more = [f"  and {len(lines) - 20} more"] if len(lines) > 20 else []
    return ModelError(
        "VIT-410",
        f"{run.path / 'config.toml'} holds other settings than the run was trained with up to "
        f"{at}:\n" + "\n".join([*lines[:20], *more]),
        hint=_way_out(run),
    )


def _way_out(run: RunDir) -> str:
    return (
        "Put the old values back, or remove config.toml: it is then written again as it was. With "
        f"new settings start a new run from this one: vitrail train DATA --from {run.path}"
    )
