"""report.html: a run on one page. Order of sections: field survey in docs/report.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.figures.diagrams import strip
from vitrail.models.names import full_name
from vitrail.report import verdict
from vitrail.report.class_errors import calibration_section, classes_section, confusion_section
from vitrail.report.curves import curves_section
from vitrail.report.explanations import ModelExplanations
from vitrail.report.findings import labels_section, leakage_section
from vitrail.report.frame import DASH, PageSection, Table, TableCell, number, page
from vitrail.report.mistakes import mistakes_section, samples_section
from vitrail.report.model_inside import inside_section
from vitrail.report.run_images import RunImages
from vitrail.report.run_record import RunRecord, SplitRecord
from vitrail.report.verdict import duration, percent
from vitrail.spelling import count

FIGURES = {
    "top1": "top-1",
    "top5": "top-5",
    "f1_macro": "macro-F1",
    "f1_micro": "micro-F1",
    "mean_average_precision": "mAP",
    "balanced_accuracy": "balanced accuracy",
    "nll": "NLL (nats)",
    "brier": "Brier",
    "ece": "ECE",
}


def report_page(record: RunRecord, images: RunImages, inside: ModelExplanations | None) -> str:
    """The document; without `inside` nothing is explained."""
    split = record.splits[0] if record.splits else None
    sections = [run_section(record, split)]
    if record.curves:
        sections.append(curves_section(record))
    if split is not None:
        sections.append(classes_section(record, split))
        if split.confusion:
            sections.append(confusion_section(record, split))
        if split.calibration.get("bins"):
            sections.append(calibration_section(split))
        sections.append(mistakes_section(split, images, inside))
    sections += labels_section(record.audit.get("label_suspects") or {}, images)
    sections += leakage_section(record.audit, images)
    if inside is not None:
        sections += inside_section(inside, images, split.name if split else "train")
    sections += samples_section(images)
    sections.append(environment_section(record))
    return page(f"{record.name} - vitrail report", head(record, split), sections)


def head(record: RunRecord, split: SplitRecord | None) -> PageSection:
    """The verdict."""
    names = {"run": record.name, "data": record.data.get("name", "data")}
    if split is None:
        headline, say = verdict.without_classes(record)
        told: dict[str, Any] = {
            "headline": headline,
            "of": "",
            "say": say,
            "strip": "",
            "remarks": [],
        }
        return PageSection("run_head", "", {**names, **told})
    low, high = split.interval
    top1 = split.figure("top1") or 0.0
    baselines = [(title.split(" (")[0], value) for title, value in record.baselines.items()]
    told = {
        "headline": percent(top1),
        "of": f"{verdict.TITLES.get(split.name, split.name).lower()} accuracy",
        "say": f"{verdict.beside_baselines(record, split)} 95 % CI {percent(low)} "
        f"to {percent(high)} on {count(split.metrics.get('n', 0), 'image')}.",
        "strip": strip(top1, (low, high), baselines, "this model"),
        "remarks": verdict.remarks(record, split),
    }
    return PageSection("run_head", "", {**names, **told})


def shape_of(model: Mapping[str, Any]) -> str:
    """Depth and width of a network, from the fields of its configuration."""
    if "depths" in model:
        units = "+".join(map(str, model["depths"]))
        return f"{units} units, width factor {model.get('width_factor', 1)}"
    return f"{model.get('depth', '?')} layers, width {model.get('width', '?')}"


def run_section(record: RunRecord, split: SplitRecord | None) -> PageSection:
    """Card, metrics of every split, the command."""
    run, data = record.run, record.data
    model, machine, best = (run.get(key) or {} for key in ("model", "machine", "best"))
    counts = ", ".join(f"{part} {n}" for part, n in (data.get("counts") or {}).items())
    size = "x".join(str(side) for side in model.get("image_size", []))
    reached = [f"{k} {v:.4f}" for k, v in best.items() if isinstance(v, float) and "/" in k]
    chip = ", ".join(machine.get("gpus") or []) or machine.get("cpu", "")
    epoch = f"epoch {best['epoch']:.2f}" if "epoch" in best else ""
    card = [
        ("Data", data.get("name", ""), f"{count(len(record.classes), 'class')}; {counts}"),
        ("Model", full_name(str(model.get("name", "")), model), f"{shape_of(model)}, {size} px"),
        ("Time", duration(run.get("seconds")), f"status: {run.get('status', 'unknown')}"),
        ("Best evaluation", epoch, ", ".join(reached)),
        ("Hardware", run.get("device", ""), f"{chip}; threads {run.get('threads', '?')}"),
        ("Seed", str(run.get("seed", "")), f"config {run.get('config_hash', '')}"),
    ]
    figures = metrics_table(record.splits) if record.splits else None
    told = {"card": card, "figures": figures, "command": str(run.get("command", ""))}
    return PageSection("run", "Run", told, data.get("split", ""))


def metrics_table(splits: Sequence[SplitRecord]) -> Table:
    """One row a split."""
    keys = [key for key in FIGURES if any(one.figure(key) is not None for one in splits)]
    rows: list[list[TableCell | str]] = []
    for one in splits:
        cells: list[TableCell | str] = [one.name, number(int(one.metrics.get("n", 0)))]
        intervals = {**(one.metrics.get("intervals") or {}), "top1": one.interval}
        for key in keys:
            low, high = intervals.get(key) or (None, None)
            small = "" if low is None else f"{low:.3f}{DASH}{high:.3f}"
            cells.append(number(one.figure(key), 4, small=small))
        rows.append([*cells, number(one.figure("images_per_s"), 0)])
    return Table(["split", "images", *(FIGURES[key] for key in keys), "images/s"], rows)


def environment_section(record: RunRecord) -> PageSection:
    """Versions, machine, settings."""
    run = record.run
    versions = ", ".join(f"{key} {value}" for key, value in (run.get("versions") or {}).items())
    rows = [
        ("versions", versions),
        ("git commit", run.get("git") or "none"),
        ("started", run.get("started", "")),
    ]
    rows += [_machine_row(key, value) for key, value in (run.get("machine") or {}).items()]
    rows += [
        ("data fingerprint", run.get("data_fingerprint", "")),
        ("bad files", run.get("bad_files", 0)),
    ]
    said = [(key, ", ".join(map(str, v)) if isinstance(v, list) else v) for key, v in rows]
    cells = [[key, str(value)] for key, value in said if value not in ("", None)]
    told = {"rows": Table(["", ""], cells), "config": record.config}
    return PageSection("environment", "Environment", told)


def _machine_row(key: str, value: Any) -> tuple[str, Any]:
    """A line about the machine; bytes for people."""
    if key.endswith("_bytes") and isinstance(value, int):
        return key.removesuffix("_bytes").replace("_", " "), f"{value / 2**30:.1f} GiB"
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return key.replace("_", " "), value
