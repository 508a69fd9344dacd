"""`vitrail export MODEL OUT --to TARGET`: a model for other engines, proved equal to torch.

How it is checked: `vitrail/api/engine_export.py`.
"""

from __future__ import annotations

import importlib.util
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.api.options import EXPORT_TARGETS, ExportRequest
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.cli.engine_options import EngineOptions
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import (
    UsageError,
    check_numbers,
    install_command,
    refuse_without_effect,
)
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.export.export_model import Exported

app = app_of("vitrail export")
WORST = 12  # layers that are shown
FASTER = 1.1
EXTRAS = {"openvino": "export,openvino"}


@app.default
def export(
    model: Path | None = None,
    out: Path | None = None,
    /,
    *,
    asked: Annotated[ExportRequest | None, Parameter(name="*", negative=())] = None,
    patch: str | None = None,
    list_targets: Annotated[bool, Parameter(name="--list", negative=())] = False,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Export a model for another engine; what is written answers as torch, or nothing is written.

    Parameters
    ----------
    model
        A run or model directory, or a checkpoint of another library.
    out
        The folder to write; must not exist.
    patch
        Patch, px (8, or 8x4: height first), of a ViT that was trained for several sizes: an export
        has one. Default: the model's patch_size.
    list_targets
        Show the targets and what they need.
    """
    if list_targets:
        others = {"MODEL": model is not None, "--patch": patch is not None}
        others |= (read_as or ReadAs()).given()
        others |= {
            f"--{item.name.replace('_', '-')}": getattr(asked, item.name) != item.default
            for item in (fields(asked) if asked is not None else ())
        }
        refuse_without_effect(others, "with --list", "Leave one of them out.")
        output.result(target_records(), table([("target", "writes", "needs"), *target_rows()]))
        return 0
    asked = asked or ExportRequest()
    check_numbers({"--check": asked.check, "--opset": asked.opset})
    if model is None or out is None:
        raise UsageError(
            "VIT-201",
            f"{'MODEL and OUT are' if model is None else 'OUT is'} missing.",
            hint="For instance: vitrail export runs/photos-1 photos-onnx --to onnx",
        )
    from vitrail.api.engine_export import export_as
    from vitrail.cli.display.progress import progress_of

    how = EngineOptions(engine=None, patch=patch)
    done = export_as(
        model,
        out,
        asked,
        lambda: load(model, read_as, output, engine=how),
        output.note,
        progress_of(output),
    )
    lines = lines_of(out, done) + (page_lines(out) if asked.to == "web" else [])
    output.result(record_of(out, done), lines)
    return 0


def target_records() -> list[dict[str, Any]]:
    """The targets, what they write, and the packages that are missing here."""
    return [
        {"target": name, "writes": text, "needs": list(packages), "missing": missing(packages)}
        for name, (text, packages) in EXPORT_TARGETS.items()
    ]


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def target_rows() -> list[tuple[str, str, str]]:
    rows = []
    for one in target_records():
        command = install_command(EXTRAS.get(one["target"], "export"))
        state = command if one["missing"] else "installed"
        state += "; onnxruntime-web: --download or --ort-web" if one["target"] == "web" else ""
        rows.append((one["target"], one["writes"], state if one["needs"] else "nothing more"))
    return rows


def record_of(out: Path, done: Exported) -> dict[str, Any]:
    """The document of export.json, and where it lies."""
    document: dict[str, Any] = done.record.model_dump(mode="json", by_alias=True)
    return {"path": str(out)} | document


def lines_of(out: Path, done: Exported) -> list[str]:
    """The export for people."""
    about, found = done.record, done.comparison
    lines = [
        f"wrote {out / about.file.name}: {about.file.size / 1e6:.1f} MB, {about.file.precision}",
        f"compared with torch on {count(found.images, 'image')} ({about.images['data']} "
        f"{about.images['split']}): {count(found.changed, 'answer')} differ",
        *table([("", "value", "limit", ""), *found.rows(done.limits)]),
    ]
    lines += [
        f"{one.engine} {one.precision} answers otherwise than torch and is not used"
        for one in about.checked
        if not one.passed
    ]
    lines += int8_lines(about.quantisation) if about.quantisation else []
    for threads, rates in about.speed.items():
        lines += ["", *table(speed_rows(threads, rates))]
    return lines


def page_lines(out: Path) -> list[str]:
    """How the page is opened, and what a visitor loads."""
    from vitrail.export.web.export_web import transfer_bytes

    return [
        "",
        f"the page: {transfer_bytes(out) / 1e6:.1f} MB for a visitor; images stay in the browser",
        f"try it: python -m http.server --directory {shlex.quote(str(out))} and open "
        "http://localhost:8000",
    ]


def int8_lines(about: dict[str, Any]) -> list[str]:
    """What is int8 and what is not, and whether it is faster."""
    kept, speedup = about["float"], about["speedup"]
    lines = [f"int8: {count(len(about['int8']), 'layer')}"]
    if kept:
        lines[0] += f"; back in float, because they cost too much: {', '.join(kept)}"
        worst = [(one["name"], f"{one['p99_dp']:.3g}") for one in about["layers"][:WORST]]
        lines += table([("int8 alone", "99th percentile of differences"), *worst])
    lines.append(f"{speedup:.2f} times as fast as float32, one image at a time")
    if speedup < FASTER:
        lines.append(
            "VIT-705: int8 is hardly faster here; the file is smaller. --min-speedup refuses it."
        )
    return lines


def speed_rows(threads: int, rates: dict[str, dict[int, float]]) -> list[tuple[str, ...]]:
    """Images per second by engine and batch."""
    sizes = next(iter(rates.values()), {})
    head = (f"images/s, threads: {threads}", *(f"batch {size}" for size in sizes))
    return [
        head,
        *((name, *(f"{rate:.0f}" for rate in row.values())) for name, row in rates.items()),
    ]
