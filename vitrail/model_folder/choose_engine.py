"""Which engine computes the model in a folder, and the export that holds the engine's file.

A run or model folder has torch, and the exports that lie in it or beside it; an export alone has
the engines that it was checked with. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.device import has_bfloat16, may_have_gpu, num_threads, processor
from vitrail.errors import ModelError, UsageError
from vitrail.folder import Folder
from vitrail.model_folder.export_record import (
    RECORD,
    Export,
    exports_of,
    is_export,
    read_export,
)
from vitrail.runtime.engines import Asked, Way, is_installed, pick
from vitrail.spelling import count

Candidate = tuple[Way, Export | None]  # None: the weights in the folder, by torch


@dataclass(frozen=True)
class Chosen:
    """said: sentences for people, where there was a choice."""

    way: Way
    export: Export | None = None
    said: tuple[str, ...] = ()


def choose(place: Path, asked: Asked, device: str) -> Chosen:
    """What computes the model at `place`: a folder of vitrail, or anything else that torch reads.

    Raises UsageError VIT-242, VIT-294; ModelError VIT-434, VIT-435, VIT-471 to VIT-473; GateError
    VIT-703; EnvironmentFault VIT-520.
    """
    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    if is_export(place):
        return _of_export(read_export(place), asked, device)
    if not on_cpu and asked.engine not in ("auto", "torch"):
        raise elsewhere(f"engine {asked.engine}", device)
    if not on_cpu or (asked.engine == "torch" and asked.precision in (None, "float32")):
        return Chosen(pick([Way("torch")], asked, 1, "float32", str(place)))
    has_record = Folder(place).has(RECORD)  # with which an export is found to be of other weights
    exports, faults = _readable(exports_of(place) if has_record else [])
    measured = [rates for one in exports if (rates := one.rates("torch float32"))]
    plain = Way("torch", rates=measured[0] if measured else {})
    more = [(way, one) for one in exports for way in one.ways]
    try:
        found = _best([(plain, None), *more], asked, "float32", place)
    except UsageError:
        if faults:
            raise faults[0] from None
        raise
    left = [f"not used: {one.message}" for one in faults]
    return Chosen(found.way, found.export, (*found.said, *left))


def _of_export(export: Export, asked: Asked, device: str) -> Chosen:
    """What computes an export."""
    if device not in ("auto", "cpu"):
        raise elsewhere(f"{export.path} is an export", device)
    usual = export.about.file.precision
    return _best([(way, export) for way in export.ways], asked, usual, export.path)


def elsewhere(what: str, device: str) -> UsageError:
    """VIT-294 for another device than the CPU."""
    return UsageError(
        "VIT-294",
        f"device {device}: {what}, which computes on the CPU.",
        hint="--device cpu, or --engine torch",
    )


def _readable(folders: Sequence[Path]) -> tuple[list[Export], list[ModelError]]:
    """Exports, and why others cannot be used."""
    exports, faults = [], []
    for folder in folders:
        try:
            exports.append(read_export(folder))
        except ModelError as error:
            if error.code != "VIT-473":  # a .pt2 is no engine here
                faults.append(error)
    return exports, faults


def _best(candidates: Sequence[Candidate], asked: Asked, usual: str, place: Path) -> Chosen:
    """The way that was asked for, and what to say of it."""
    threads = asked.threads or num_threads()[0]
    if asked.precision == "auto" and not has_bfloat16():
        candidates = [one for one in candidates if one[0].precision != "bfloat16"]
    way = pick([one for one, _ in candidates], asked, threads, usual, str(place))
    export = next(of for one, of in candidates if one is way)
    rivals = [
        one
        for one, _ in candidates
        if one is not way
        and one.passed
        and is_installed(one.engine)
        and (asked.precision == "auto" or one.precision == way.precision)
    ]
    if asked.engine != "auto" or export is None and not rivals:
        return Chosen(way, export)
    return Chosen(way, export, tuple(_said(way, export, rivals, asked.batch, threads)))


def _said(
    way: Way, export: Export | None, rivals: Sequence[Way], batch: int, threads: int
) -> list[str]:
    """What was chosen among what, by which figures."""
    rates = [f"{one} {one.rate(batch, threads):.0f}" for one in (way, *rivals)]
    by = f": images/s at a batch of {batch}, {count(threads, 'thread')}: {', '.join(rates)}" * bool(
        rivals
    )
    said = [f"computed by {way}{by}"]
    machine = export.about.machine.get("cpu") if export else None
    if rivals and machine and machine != processor():
        said.append(f"these figures are of another processor ({machine})")
    return said
