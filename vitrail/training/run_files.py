"""What a run writes before its first step: settings, data, versions, images left out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vitrail import __version__
from vitrail.config import DataConfig, config_hash, flatten
from vitrail.data.check.check_data import (
    ImageStats,
    inspect_images,
    known,
    require_good,
    write_bad_files,
)
from vitrail.data.check.inspection import first_of_each, only_first
from vitrail.data.sources.examples import FILE, Examples, examples_of
from vitrail.data.sources.open_data import Source, Splits, fingerprint, subset
from vitrail.data.sources.sample import keyed_order
from vitrail.data.sources.source import class_counts
from vitrail.device import machine
from vitrail.evaluation.run_data import place_record
from vitrail.files import write_whole
from vitrail.models.layers.matmul import products_name
from vitrail.settings.toml_file import to_toml
from vitrail.spelling import count
from vitrail.training.plan.plan_run import Plan
from vitrail.training.storage.git_commit import git_commit
from vitrail.training.storage.run_dir import SCHEMA, RunDir

BadFiles = list[tuple[str, str]]
BAD_FILES = "bad_files.csv"
AT_ONCE = 256  # files looked at between two looks at the clock


@dataclass(frozen=True)
class CheckedSplits:
    """Splits without the images that cannot be decoded. bad: (name, reason) of each of those;
    unseen: how many there was no time to look at, which stay. several: how many are the first of
    several images in their file, and one of them, of each split.
    """

    splits: Splits
    bad: list[tuple[str, str]]
    unseen: int = 0
    several: tuple[tuple[int, str], ...] = ()

    @property
    def total(self) -> int:
        """Images, with those that cannot be decoded."""
        return len(self.bad) + sum(map(len, self.splits.parts().values()))

    def left_out(self, where: str = "") -> tuple[str, ...]:
        """A sentence for the images that cannot be decoded, and one for those behind the first in
        their file; none where there are none. where: the file that lists all of the former.
        """
        more = only_first(self.several, self.total)
        if not self.bad:
            return more
        (name, reason), number = self.bad[0], len(self.bad)
        first = f"{name}: {reason}" if number == 1 else f"the first is {name}: {reason}"
        full = f". All: {where}" if where and number > 1 else ""
        what = f"{number:,} of {count(self.total, 'image')} cannot be decoded"
        return (f"left out: {what} ({first}){full}", *more)


@dataclass(frozen=True)
class CheckedPlan:
    """A plan without the images that cannot be decoded. found: its splits, and what is left out."""

    plan: Plan
    found: CheckedSplits

    @property
    def bad(self) -> BadFiles:
        """(name, reason) of each image that is left out."""
        return self.found.bad

    def under_a_limit(self) -> dict[str, Any]:
        """What run.json keeps where a time limit may have cut the look short."""
        limited = self.plan.config.time_limit_secs is not None
        return {"unchecked_files": self.found.unseen} if limited else {}

    @property
    def sentence(self) -> str:
        """What was left out."""
        data, total = self.plan.config.data.path, self.found.total - len(self.bad)
        return (
            f"{self.found.unseen:,} of {count(total, 'image')} were not checked before training "
            "(time limit); a "
            f"damaged one stops the run; to check all: vitrail data check {data}"
        )


def checked_plan(plan: Plan, max_secs: float = math.inf) -> CheckedPlan:
    """The plan on the images that can be decoded."""
    found = without_bad_files(plan.splits, plan.config.data, max_secs)
    return CheckedPlan(replace(plan, splits=found.splits), found)


def without_bad_files(
    splits: Splits, config: DataConfig, max_secs: float = math.inf
) -> CheckedSplits:
    """ImageStats at every image, held-out ones first, or at as many as there is time for."""
    if splits.kind == "arrays" or splits.index:
        return CheckedSplits(splits, [])
    deadline = time.monotonic() + max_secs
    bad: BadFiles = []
    parts: dict[str, Any] = {}
    unused = list(splits.unused)
    unseen, several = 0, list[tuple[int, str]]()
    for part, source in sorted(splits.parts().items(), key=lambda item: item[0] == "train"):
        looked = _look(source, config, deadline)
        unseen += len(source) - len(looked)
        several.append(first_of_each(source, looked))
        faults = {place: look.reason for place, look in looked.items() if look.reason}
        bad += [(source.source_id(place), faults[place]) for place in sorted(faults)]
        kept = [place for place in range(len(source)) if place not in faults]
        if faults:
            unused.append(subset(source, np.array(sorted(faults), np.int64)))
        if len(looked) == len(source):
            source = known(source, [looked[place] for place in range(len(source))])
        parts[part] = subset(source, np.array(kept, np.int64)) if faults else source
    return CheckedSplits(
        replace(splits, **parts, unused=tuple(unused)), bad, unseen, tuple(several)
    )


def readable(plan: Plan) -> CheckedPlan:
    """`checked_plan`, for work that writes no list of them. Raises DataError VIT-301 unless they
    may be skipped.
    """
    checked = checked_plan(plan)
    if plan.config.data.on_bad_file == "stop":
        require_good(checked.bad, checked.found.total)
    return checked


def _look(source: Source, config: DataConfig, deadline: float) -> dict[int, ImageStats]:
    """Looks by place, at all images or at a sample of as many as there is time for."""
    limited = deadline != math.inf
    order = keyed_order(source, "check") if limited else np.arange(len(source))
    step = AT_ONCE if limited else max(1, len(source))
    looked: dict[int, ImageStats] = {}
    for start in range(0, len(source), step):
        if time.monotonic() > deadline:
            break
        places = order[start : start + step]
        found = inspect_images(
            subset(source, places), max_pixels=config.max_pixels, workers=int(config.workers)
        )
        looked |= dict(zip(places.tolist(), found, strict=True))
    return looked


def refuse_bad_files(run: RunDir, plan: Plan, bad: BadFiles) -> None:
    """List them in bad_files.csv; raise DataError VIT-301 unless they may be skipped."""
    if not bad:
        return
    table = write_bad_files(bad, run.path / BAD_FILES)
    if plan.config.data.on_bad_file == "stop":
        total = len(bad) + sum(len(source) for source in plan.splits.parts().values())
        require_good(bad, total, str(table))


def write_start(run: RunDir, checked: CheckedPlan, command: str) -> None:
    """run.json, config.toml, config.sources.json, data.json."""
    plan = checked.plan
    run.write("config.toml", to_toml(plan.config))
    run.write(
        "config.sources.json",
        {
            "sources": plan.sources,
            "choices": [
                {"key": key, "value": value, "why": why} for key, value, why in plan.choices
            ],
        },
    )
    run.write("data.json", data_record(plan, run))
    write_examples(run, plan)
    run.write(
        "run.json",
        {
            "schema": SCHEMA,
            "versions": {
                "vitrail": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "git": git_commit(),
            "command": command,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "device": plan.config.device,
            "threads": plan.config.threads,
            "products": products_name(),
            "machine": machine(),
            "seed": plan.config.seed,
            "objective": plan.config.objective,
            **built_record(plan),
            **start_record(plan),
            "config_hash": config_hash(plan.config),
            "settings": flatten(plan.config),
            "status": "running",
            "seconds": 0.0,
            "best": {},
            "data_fingerprint": fingerprint(plan.splits.train),
            "bad_files": len(checked.bad),
            **checked.under_a_limit(),
        },
    )
    run.log(f"started: {command}")


def built_record(plan: Plan) -> dict[str, Any]:
    """What run.json and each checkpoint say of the model: enough to build it again."""
    return {
        "model": {
            "name": plan.config.model.name,
            "family": plan.model.family,
            **plan.model.model_dump(mode="json"),
        },
        "preprocess": plan.preprocess.to_json(),
    }


def start_record(plan: Plan) -> dict[str, Any]:
    """The models that a run read: "from" and "teacher", where there are any."""
    start, teacher = plan.config.start, plan.config.distill
    record: dict[str, Any] = {}
    if start.model:
        record["from"] = {
            "model": start.model,
            "sha256": start.sha256,
            "origin": plan.origin,
            "changes": list(plan.changes),
        }
    if teacher.teacher:
        record["teacher"] = {"model": teacher.teacher, "sha256": teacher.sha256}
    return record


def write_examples(run: RunDir, plan: Plan) -> None:
    """examples.dat: which images the run sees, and as what. Raises EnvironmentFault VIT-506."""
    is_new = not plan.config.start.model
    is_known = isinstance(plan.before, Examples)
    before = plan.before if isinstance(plan.before, Examples) else None
    examples = examples_of(plan.splits, before, is_whole=is_new or is_known)
    write_whole(run.path / FILE, examples.to_bytes(), replace=True)


def data_record(plan: Plan, run: RunDir) -> dict[str, Any]:
    """data.json: where the data lay, classes (order = index), counts, how split, fingerprints,
    statistics.
    """
    splits, facts = plan.splits, plan.facts
    return {
        **place_record(plan.config.data.path, run.path),
        "name": splits.name,
        "kind": splits.kind,
        "classes": list(splits.classes),
        "multi_label": splits.multi_label,
        "split": splits.how,
        **({"index": splits.index} if splits.index else {}),
        "notes": list(splits.notes),
        "counts": {part: len(source) for part, source in splits.parts().items()},
        "class_counts": {
            part: dict(zip(splits.classes, class_counts(source), strict=True))
            for part, source in splits.parts().items()
        },
        "fingerprints": {part: fingerprint(source) for part, source in splits.parts().items()},
        "image": {
            "median_size": list(facts.size),
            "channels": facts.channels,
            "mean": list(facts.mean),
            "std": list(facts.std),
        },
    }
