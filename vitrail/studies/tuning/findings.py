"""What a search came to: the best trial, its test figure, figures and pages."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from vitrail.classifier import load
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.figures.plot import Figure, Series
from vitrail.settings.toml_file import toml_lines
from vitrail.spelling import count
from vitrail.studies.engine.cell import short
from vitrail.studies.engine.row import Row
from vitrail.studies.engine.store import Store
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.tuning.search import Search, best_of, importance
from vitrail.studies.tuning.trial import CURVE, DIVERGED, PRUNED

KEPT = ("top1", "top1_interval", "n", "nll")  # of the test figures
LIMITS = (
    "Trials have one seed each: those within the interval of the best one may be as good.",
    "The best of many validation figures is too high by its choice; the test figure is not, as "
    "long as nothing is chosen by it.",
    "Trials are short. What is best for a longer training may differ, the rate above all.",
)


def keep_the_best(store: Store, rows: Sequence[Row]) -> None:
    """Remove the models of all other trials."""
    best = best_of(rows)
    for row in rows:
        if best is not None and row.key != best.key:
            shutil.rmtree(store.folder / row.run / "model", ignore_errors=True)


def tested(asked: Search, store: Store, best: Row) -> dict[str, Any]:
    """The best model on the test images, looked at once: what was found before is read again."""
    record = store.record()
    looks: list[dict[str, Any]] = list(record.get("test", []))
    for one in looks:
        if one["trial"] == best.key:
            return one
    if asked.plan.splits.test is None:
        return {}
    run = store.folder / best.run
    found = load(run).evaluate(str(asked.plan.config.data.path), "test").document()
    kept: dict[str, Any] = {key: found[key] for key in KEPT if key in found}
    looks.append({"trial": best.key, **kept})
    store.write("study.json", {**record, "test": looks})
    return looks[-1]


def outcome(asked: Search, store: Store, rows: Sequence[Row], test: Mapping[str, Any]) -> Outcome:
    """The best trial beside what would have been taken, and how settings went together."""
    best = best_of(rows)
    if best is None:
        verdict = Verdict("No result: no trial came to its end.", "", "", [], LIMITS)
        return Outcome(verdict, [], {}, {})
    weights = importance(asked, rows)
    looks = len(store.record().get("test", []))
    evidence = [*_evidence(asked, rows, best), *_tested(test, looks)]
    answer = f"The best of {count(len(rows), 'trial')} is {values_of(best)}."
    return Outcome(
        Verdict(answer, "", "", evidence, LIMITS),
        [_history(rows), *_slices(asked, rows), *_weights(weights)],
        {"The best trials": _table(asked, rows)},
        {
            "best": {"trial": best.key, "run": best.run, "settings": dict(best.axes)},
            "test": dict(test),
            "importance": weights,
            "trials": len(rows),
        },
    )


def values_of(row: Row) -> str:
    """optim.lr 0.002, augment.policy none."""
    return ", ".join(f"{name} {short(one)}" for name, one in row.axes.items())


def chosen_toml(best: Row) -> str:
    """best.toml: the values that were found, for `vitrail train DATA --config`."""
    return toml_lines(dict(best.axes))


def _evidence(asked: Search, rows: Sequence[Row], best: Row) -> list[str]:
    n = round(best.values["val/n"])
    low, high = wilson(round(best.values["val/top1"] * n), n)
    said = [
        f"Its validation top-1 is {best.values['val/top1']:.3f} ({low:.3f} to {high:.3f}, n = {n})."
    ]
    first = rows[0]
    if dict(first.axes) != dict(asked.default):
        said.append("What would be taken without a search lies outside the ranges: not tried.")
    elif first.key == best.key:
        said.append("These are the settings that are taken without a search.")
    elif "val/top1" in first.values:
        gap = 100 * (best.values["val/top1"] - first.values["val/top1"])
        said.append(
            f"The settings that are taken without a search reach {first.values['val/top1']:.3f} on "
            f"the same images, {gap:.1f} points less."
        )
    for kind, words in ((PRUNED, "ended early"), (DIVERGED, "had a loss that is not finite")):
        number = sum(row.arm == kind for row in rows)
        if number:
            said.append(f"{count(number, 'trial')} {words}.")
    return said


def _tested(test: Mapping[str, Any], looks: int) -> list[str]:
    if not test:
        return ["There are no test images: nothing says how good the best one is on new images."]
    interval = test.get("top1_interval")
    ends = f" ({interval[0]:.3f} to {interval[1]:.3f}, n = {test['n']})" if interval else ""
    often = "evaluated once" if looks == 1 else f"evaluated {looks} times, once for each best trial"
    return [f"On the test images, {often}, it reaches {test['top1']:.3f}{ends}."]


def _history(rows: Sequence[Row]) -> Figure:
    done = [(int(row.key), row.values["val/top1"]) for row in rows if "val/top1" in row.values]
    best = list(accumulate((one for _, one in done), max))
    numbers = [float(number) for number, _ in done]
    ended = [(int(row.key), _last(row)) for row in rows if row.arm == PRUNED]
    series = [
        Series("trial", numbers, [one for _, one in done], kind="marks"),
        Series("best so far", numbers, best, kind="curve", colour=1),
    ]
    if ended:
        series.append(
            Series(
                "ended early",
                [float(number) for number, _ in ended],
                [one for _, one in ended],
                kind="dots",
                colour=2,
            )
        )
    return Figure("history", "Validation top-1 of each trial", "trial", "top-1", series)


def _last(row: Row) -> float:
    """Validation top-1 where a trial was ended."""
    steps = {int(key.removeprefix(CURVE)): one for key, one in row.values.items() if CURVE in key}
    return steps[max(steps)] if steps else 0.0


def _slices(asked: Search, rows: Sequence[Row]) -> list[Figure]:
    """Each setting alone."""
    found = []
    for one in asked.ranges:
        done = [row for row in rows if "val/top1" in row.values and one.name in row.axes]
        names = [str(choice) for choice in one.choices]
        places = [
            float(names.index(str(row.axes[one.name])) if names else row.axes[one.name])
            for row in done
        ]
        points = sorted(zip(places, (row.values["val/top1"] for row in done), strict=True))
        found.append(
            Figure(
                one.name,
                f"Validation top-1 by {one.name}",
                one.name,
                "top-1",
                [Series("trial", [x for x, _ in points], [y for _, y in points], kind="marks")],
                log_x=one.is_log,
                x_labels=names,
            )
        )
    return found


def _weights(weights: Mapping[str, float]) -> list[Figure]:
    if not weights:
        return []
    names = list(weights)
    marks = Series("importance", list(map(float, range(len(names)))), list(weights.values()))
    return [
        Figure(
            "importance",
            "How much each setting matters",
            "setting",
            "share",
            [Series(marks.name, marks.x, marks.y, kind="marks")],
            x_labels=names,
            zero="always",
            note="PED-ANOVA: how far the better tenth of trials keeps to a part of the range.",
        )
    ]


def _table(asked: Search, rows: Sequence[Row]) -> list[list[str]]:
    done = sorted(
        (row for row in rows if "val/top1" in row.values),
        key=lambda row: (-row.values["val/top1"], row.values["val/nll"]),
    )
    names = [one.name for one in asked.ranges]
    return [
        ["trial", *names, "val top-1", "val loss"],
        *(
            [
                row.key,
                *(short(row.axes[name]) for name in names),
                f"{row.values['val/top1']:.4f}",
                f"{row.values['val/nll']:.4f}",
            ]
            for row in done[:10]
        ),
    ]
