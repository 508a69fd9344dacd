"""report.md: the figures of a run as text, for a pull request or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitrail.markdown import plain, table
from vitrail.models.names import full_name
from vitrail.report import verdict
from vitrail.report.run_record import RunRecord, SplitRecord
from vitrail.report.verdict import duration
from vitrail.spelling import count, printable

MAX_CLASS_ROWS = 200


def report_markdown(record: RunRecord) -> str:
    """The document."""
    split = record.splits[0] if record.splits else None
    parts = [f"# {plain(record.name)}: {plain(record.data.get('name', 'data'))}"]
    if split is None:
        headline, sentence = verdict.without_classes(record)
        parts.append(f"**{plain(headline)}.** {plain(sentence)}")
    else:
        parts.append(
            f"**{verdict.headline(split)}.** {plain(verdict.beside_baselines(record, split))}"
        )
        parts += [f"- {plain(one)}" for one in verdict.remarks(record, split)]
    parts.append(run_table(record))
    if record.splits:
        parts += ["## Figures", figures_table(record)]
    if split is not None:
        parts += ["## Classes", class_table(split)]
        if confused := verdict.pairs(split.confusion):
            rows = [[plain(a), plain(b), str(n)] for a, b, n in confused]
            parts += ["## Most frequent errors", table(["actual", "predicted", "count"], rows)]
        wrong = verdict.worst_mistakes(split.rows, 10)
        if wrong:
            rows = [
                [
                    *map(plain, (r.source, r.label, r.predicted)),
                    f"{r.p_predicted:.3f}",
                    f"{r.loss:.2f}",
                ]
                for r in wrong
            ]
            parts += ["## Worst mistakes", table(["file", "label", "predicted", "p", "loss"], rows)]
    lines = str(record.run.get("command", "")).splitlines()
    command = "\n".join(map(printable, lines)).replace("```", "'''")
    if command:
        parts += ["## To repeat it", f"```\n{command}\n```"]
    return "\n\n".join(_joined(parts)) + "\n"


def _joined(parts: Sequence[str]) -> Iterable[str]:
    """List items that follow each other make one paragraph."""
    items: list[str] = []
    for part in parts:
        if part.startswith("- "):
            items.append(part)
            continue
        if items:
            yield "\n".join(items)
            items = []
        yield part
    if items:
        yield "\n".join(items)


def run_table(record: RunRecord) -> str:
    """Data, model, time, hardware, versions."""
    run, data = record.run, record.data
    model = run.get("model") or {}
    counts = ", ".join(f"{part} {n}" for part, n in (data.get("counts") or {}).items())
    versions = ", ".join(f"{key} {value}" for key, value in (run.get("versions") or {}).items())
    machine = run.get("machine") or {}
    rows = [
        ("data", f"{data.get('name', '')}: {count(len(record.classes), 'class')}; {counts}"),
        ("split", data.get("split", "")),
        ("model", full_name(str(model.get("name", "")), model)),
        ("time", duration(run.get("seconds"))),
        (
            "hardware",
            f"{run.get('device', '')}, threads {run.get('threads', '?')}, {machine.get('cpu', '')}",
        ),
        ("seed", run.get("seed", "")),
        ("versions", versions),
    ]
    return table(["", ""], [[key, plain(value)] for key, value in rows])


def figures_table(record: RunRecord) -> str:
    """A row a split, and the baselines."""
    keys = ["top1", "top5", "f1_macro", "balanced_accuracy", "nll", "brier", "ece"]
    rows = []
    for one in record.splits:
        low, high = one.interval
        values = [one.figure(key) for key in keys]
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        rows.append(
            [plain(one.name), str(one.metrics.get("n", 0)), *cells, f"{low:.4f} to {high:.4f}"]
        )
    for title, value in record.baselines.items():
        rows.append([plain(title), "", f"{value:.4f}", *[""] * 7])
    return table(["split", "n", *keys, "top1, 95 % interval"], rows)


def class_table(split: SplitRecord) -> str:
    """The classes, weakest first."""
    scores = split.metrics.get("classes") or {}
    names = sorted(scores, key=lambda key: scores[key]["f1"])[:MAX_CLASS_ROWS]
    kinds = ("precision", "recall", "f1")
    rows = [
        [plain(key), str(scores[key]["n"]), *(f"{scores[key][k]:.3f}" for k in kinds)]
        for key in names
    ]
    more = f"\n\nand {len(scores) - len(names)} more" if len(names) < len(scores) else ""
    return table(["class", "n", "precision", "recall", "F1"], rows) + more
