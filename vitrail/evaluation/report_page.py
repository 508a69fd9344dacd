"""report.html: a run on one page. Order of sections: field survey in docs/report.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail import __version__
from vitrail.evaluation import diagrams, verdict
from vitrail.evaluation.figures import Line, bar, figure, plot, verdict_strip
from vitrail.evaluation.page import Cell, details, facts, name, number, page, section, table, text
from vitrail.evaluation.run_pictures import Pictures, Pixels, Thumbnail
from vitrail.evaluation.run_record import Row, RunRecord, SplitRecord
from vitrail.evaluation.verdict import duration, percent

MAX_POINTS = 300  # of a curve; beyond, neighbours are averaged
MAX_ROWS = 400  # of a table of numbers
MAX_CLASS_ROWS = 1000
MISTAKES, DOUBTFUL = 18, 12
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


def report_page(record: RunRecord, pictures: Pictures) -> str:
    """The document."""
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
        sections.append(mistakes_section(split, pictures))
    sections += samples_section(pictures)
    sections.append(environment_section(record))
    foot = f"Written by vitrail {text(__version__)}. This file needs no network and sends nothing."
    return page(f"{record.name} - vitrail report", head(record, split), sections, foot)


def head(record: RunRecord, split: SplitRecord | None) -> str:
    """The verdict."""
    title = f"<h1>{name(record.name)} &middot; {name(record.data.get('name', 'data'))}</h1>"
    if split is None:
        headline, sentence = verdict.without_classes(record)
        return f'{title}<p class="verdict">{text(headline)}</p><p>{text(sentence)}</p>'
    low, high = split.interval
    top1 = split.figure("top1") or 0.0
    notes = "".join(f"<li>{text(one)}</li>" for one in verdict.remarks(record, split))
    say = (
        f"{verdict.beside_baselines(record, split)} With {split.metrics.get('n', 0)} pictures the "
        f"true share lies between {percent(low)} and {percent(high)} (95 % interval)."
    )
    return (
        f'{title}<p class="verdict">{percent(top1)} <small>of {text(split.name)} pictures right'
        f'</small></p><p class="say">{text(say).replace(" %", "&nbsp;%")}</p>'
        + verdict_strip(top1, (low, high), list(record.baselines.items()))
        + (f'<h3>Worth knowing</h3><ul class="notes">{notes}</ul>' if notes else "")
    )


def shape_of(model: Mapping[str, Any]) -> str:
    """Depth and width of a network, from the fields of its configuration."""
    if "depths" in model:
        units = "+".join(map(str, model["depths"]))
        return f"{units} units, width factor {model.get('width_factor', 1)}"
    return f"{model.get('depth', '?')} layers, width {model.get('width', '?')}"


def run_section(record: RunRecord, split: SplitRecord | None) -> str:
    """Card, metrics of every split, the command."""
    run, data = record.run, record.data
    model, machine, best = (run.get(key) or {} for key in ("model", "machine", "best"))
    counts = ", ".join(f"{part} {n}" for part, n in (data.get("counts") or {}).items())
    size = "x".join(str(side) for side in model.get("image_size", []))
    reached = [f"{k} {v:.4f}" for k, v in best.items() if isinstance(v, float) and "/" in k]
    shape = f"{shape_of(model)}, {size} px"
    chip = ", ".join(machine.get("gpus") or []) or machine.get("cpu", "")
    items = [
        ("Data", name(data.get("name", "")), f"{len(record.classes)} classes; {counts}"),
        ("Model", text(model.get("name", "")), shape),
        ("Time", text(duration(run.get("seconds"))), f"status: {run.get('status', 'unknown')}"),
        (
            "Best evaluation",
            f"epoch {best['epoch']:.4g}" if "epoch" in best else "",
            ", ".join(reached),
        ),
        ("Hardware", text(run.get("device", "")), f"{chip}; {run.get('threads', '?')} threads"),
        ("Seed", text(run.get("seed", "")), f"config {run.get('config_hash', '')}"),
    ]
    card = facts((key, value, text(small)) for key, value, small in items)
    parts = [card]
    if record.splits:
        parts.append(metrics_table(record.splits))
    command = f"<h3>To repeat it</h3><pre>{text(run.get('command', ''))}</pre>"
    how = text(data.get("split", ""))
    return section("run", "Run", *parts, command if run.get("command") else "", lead=how)


def metrics_table(splits: Sequence[SplitRecord]) -> str:
    """One row a split."""
    keys = [key for key in FIGURES if any(one.figure(key) is not None for one in splits)]
    columns = ["split", "pictures", *(FIGURES[key] for key in keys), "images/s"]
    rows: list[list[Cell | str]] = []
    for one in splits:
        low, high = one.interval
        cells: list[Cell | str] = [text(one.name), number(int(one.metrics.get("n", 0)))]
        for key in keys:
            more = f"<small> {low:.3f}&ndash;{high:.3f}</small>" if key == "top1" else ""
            cells.append(number(one.figure(key), 4, more=more))
        rows.append([*cells, number(one.figure("images_per_s"), 0)])
    return table(columns, rows)


def curves_section(record: RunRecord) -> str:
    """Loss, top-1 and learning rate over epochs."""
    level = next(iter(record.baselines.items()), None)
    drawn = []
    for caption, keys, base in (
        ("Loss (nats)", ("train/loss", "val/loss"), None),
        ("Top-1", ("train/top1", "val/top1"), level),
        ("Learning rate", ("optim/lr",), None),
    ):
        lines = [Line(key, thin(record.curve(key)), 1 + i) for i, key in enumerate(keys)]
        lines = [line for line in lines if line.points]
        mark = (base[0].split(" (")[0], base[1]) if base and lines else None
        drawing = plot(lines, title=caption, x_name="epoch", level=mark)
        if drawing:
            keyed = [(line.colour, line.name) for line in lines]
            drawn.append(figure(caption, drawing, keyed if len(keyed) > 1 else ()))
    numbers = details("The same as numbers", curve_table(record))
    lead = ""
    if points := record.curve("val/top1"):
        best = max(points, key=lambda point: point[1])
        lead = text(f"Best val/top1 {best[1]:.4f} at epoch {best[0]:.4g}.")
    return section(
        "curves", "Curves", f'<div class="grid">{"".join(drawn)}</div>', numbers, lead=lead
    )


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 300 points: means of neighbours."""
    if len(points) <= MAX_POINTS:
        return list(points)
    groups = -(-len(points) // MAX_POINTS)
    parts = [points[i : i + groups] for i in range(0, len(points), groups)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def curve_table(record: RunRecord) -> str:
    """The evaluations as numbers."""
    keys = [
        "train/loss",
        "val/loss",
        "val/top1",
        "val/nll",
        "val/ece",
        "optim/lr",
        "optim/grad_norm",
    ]
    keys = [key for key in keys if any(key in one for one in record.curves)]
    shown = record.curves
    if len(shown) > MAX_ROWS:
        evaluated = [one for one in shown if "val/loss" in one] or list(shown)
        shown = evaluated[:: -(-len(evaluated) // MAX_ROWS)]
    rows = []
    for one in shown:
        cells = [one.get(key) for key in keys]
        values = [number(v if isinstance(v, int | float) else None, 5) for v in cells]
        rows.append(
            [number(int(one.get("step", 0))), number(float(one.get("epoch", 0)), 2), *values]
        )
    return table(["step", "epoch", *keys], rows, sortable=True)


def classes_section(record: RunRecord, split: SplitRecord) -> str:
    """A row a class; the weakest first where there are too many to show."""
    scores: Mapping[str, Mapping[str, float]] = split.metrics.get("classes") or {}
    trained = (record.data.get("class_counts") or {}).get("train", {})
    names = list(scores)
    if len(names) > MAX_CLASS_ROWS:
        names = sorted(names, key=lambda key: scores[key]["f1"])[:MAX_CLASS_ROWS]
    rows: list[list[Cell | str]] = []
    for key in names:
        one = scores[key]
        has = bool(one["n"])
        rows.append([
            Cell(name(key), key), number(trained.get(key)), number(int(one["n"])),
            number(one["precision"]), number(one["recall"] if has else None),
            number(one["f1"] if has else None, more=bar(one["f1"])),
        ])  # fmt: skip
    lead = (
        "Precision: the share of what is called so that is so. "
        "Recall: the share of what is so that is called so."
    )
    if len(names) < len(scores):
        lead += f" The {len(names)} weakest of {len(scores)} classes; all of them are in "
        lead += f"eval/{split.name}/metrics.json."
    columns = ["class", "training pictures", f"{split.name} pictures", "precision", "recall", "F1"]
    return section("classes", "Classes", table(columns, rows, sortable=True), lead=text(lead))


def confusion_section(record: RunRecord, split: SplitRecord) -> str:
    """The matrix and the most frequent errors."""
    classes = record.classes or sorted({a for a, _ in split.confusion})
    chosen = diagrams.most_confused(split.confusion, classes)
    totals: dict[str, int] = {}
    for (label, _), n in split.confusion.items():
        totals[label] = totals.get(label, 0) + n
    drawing = diagrams.confusion_matrix(split.confusion, chosen, totals)
    matrix = f'<div class="scroll matrix" tabindex="0">{drawing}</div>'
    rows: list[list[Cell | str]] = []
    for label, predicted, n in diagrams.pairs(split.confusion):
        share = n / totals[label]
        rows.append([name(label), name(predicted), number(n), number(share, more=bar(share, 2))])
    columns = ["label", "taken for", "times", "share of label"]
    errors = table(columns, rows, sortable=True) if rows else "<p>No errors.</p>"
    caption = "Rows: labels, columns: predictions"
    if len(chosen) < len(classes):
        caption += f"; the {len(chosen)} most confused of {len(classes)} classes"
    left = figure(caption, matrix)
    right = f"<div><h3>Most frequent errors</h3>{errors}</div>"
    lead = text("Blue is right, orange is wrong; the darker, the larger the share of the row.")
    beside = ' class="two"' if len(chosen) <= 12 else ""
    return section("confusion", "Confusion", f"<div{beside}>{left}{right}</div>", lead=lead)


def calibration_section(split: SplitRecord) -> str:
    """Whether 80 % sure means 80 % right."""
    bins = split.calibration["bins"]
    lead = f"Expected calibration error {split.figure('ece') or 0:.4f} (15 bins). "
    gap = verdict.overconfidence(split)
    if gap is not None:
        word = "above" if gap > 0 else "below"
        lead += f"Confidence lies {100 * abs(gap):.1f} points {word} accuracy on average. "
    lead += f"Temperature {split.calibration.get('temperature', 1):g}."
    rows: list[list[Cell | str]] = []
    for one in bins:
        row = [number(int(one["n"])), number(one["confidence"]), number(one["accuracy"])]
        rows.append([text(f"{one['low']:.3f} to {one['high']:.3f}"), *row])
    by_bin = diagrams.reliability_diagram(bins)
    drawings = figure("Accuracy by confidence", by_bin, [(2, "mean confidence")])
    drawings += figure("Pictures by confidence", diagrams.confidence_histogram(bins))
    kept = [Line("accuracy", verdict.accuracy_by_coverage(split.rows))]
    title = "Accuracy when the least sure are left out"
    drawings += figure(title, plot(kept, title=title, x_name="share of pictures kept"))
    numbers = details(
        "The same as numbers", table(["confidence", "pictures", "mean", "accuracy"], rows)
    )
    return section(
        "calibration",
        "Calibration",
        f'<div class="grid">{drawings}</div>',
        numbers,
        lead=text(lead),
    )


def mistakes_section(split: SplitRecord, pictures: Pictures) -> str:
    """Thumbnails of what went most wrong, and of what was least sure."""
    wrong = verdict.worst_mistakes(split.rows, MISTAKES)
    doubtful = verdict.most_doubtful(split.rows, DOUBTFUL)
    number_wrong = sum(not row.is_right for row in split.rows)
    parts = []
    if pictures.why_not:
        parts.append(f'<p class="lead">{text(pictures.why_not)}</p>')
    if wrong:
        parts += ["<h3>Wrong, and most sure of it</h3>", gallery(wrong, split.name, pictures)]
    if doubtful:
        parts += ["<h3>Least sure, right or wrong</h3>", gallery(doubtful, split.name, pictures)]
    lead = f"{number_wrong} of {len(split.rows)} pictures are wrong; "
    lead += f"eval/{split.name}/predictions.csv lists every one."
    return section("mistakes", "Mistakes", *parts, lead=text(lead))


def gallery(rows: Sequence[Row], split: str, pictures: Pictures) -> str:
    """A card a picture: label, prediction, probability, loss, file."""
    return '<ul class="pictures">' + "".join(_card(row, split, pictures) for row in rows) + "</ul>"


def _card(row: Row, split: str, pictures: Pictures) -> str:
    kind = "right" if row.is_right else "wrong"
    said = f'<i>called</i> <b class="{kind}">{name(row.predicted)}</b> {row.p_predicted:.2f}'
    if not row.is_right:
        said += f"<br><i>is</i> <b>{name(row.label)}</b> {row.p_label:.2f}"
    frame = picture_frame(
        pictures.find(split, row.source), f"{row.label}, taken for {row.predicted}"
    )
    return (
        f'<li>{frame}<div class="said">{said}<small>loss {row.loss:.2f} &middot; {name(row.source)}'
        "</small></div></li>"
    )


def picture_frame(pixels: Pixels | None, words: str) -> str:
    """A thumbnail, or a note in its place."""
    if pixels is None:
        return '<div class="frame"><span>not at hand</span></div>'
    thumbnail = Thumbnail(pixels)
    kind = ' class="tiny"' if thumbnail.is_tiny else ""
    return f'<div class="frame"><img{kind} alt="{text(words)}" src="{thumbnail.uri}"></div>'


def samples_section(pictures: Pictures) -> list[str]:
    """Training pictures as they are and as training saw them."""
    found = pictures.samples()
    if not found:
        return []
    cards = "".join(
        '<li><div class="versions">'
        + "".join(picture_frame(one, sample.label) for one in (sample.original, *sample.versions))
        + f'</div><div class="said">{name(sample.label)}</div></li>'
        for sample in found
    )
    lead = "Left as in the data, then three times as training sees them (without Mixup and CutMix)."
    return [
        section(
            "samples", "Training pictures", f'<ul class="pictures samples">{cards}</ul>', lead=lead
        )
    ]


def environment_section(record: RunRecord) -> str:
    """Versions, machine, settings."""
    run = record.run
    versions = ", ".join(f"{key} {value}" for key, value in (run.get("versions") or {}).items())
    rows = [
        ("versions", versions),
        ("git commit", run.get("git") or "none"),
        ("started", run.get("started", "")),
    ]
    rows += [(key.replace("_", " "), value) for key, value in (run.get("machine") or {}).items()]
    rows += [
        ("data fingerprint", run.get("data_fingerprint", "")),
        ("bad files", run.get("bad_files", 0)),
    ]
    said = [(key, ", ".join(map(str, v)) if isinstance(v, list) else v) for key, v in rows]
    cells = [[text(key), text(value)] for key, value in said if value not in ("", None)]
    settings = details("Every setting (config.toml)", f"<pre>{text_lines(record.config)}</pre>")
    return section(
        "environment", "Environment", table(["", ""], cells), settings if record.config else ""
    )


def text_lines(content: str) -> str:
    """Text of several lines, escaped line by line."""
    return "\n".join(text(line) for line in content.splitlines())
