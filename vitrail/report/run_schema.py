"""The parts of a run's files that its report reads: what each must be where it is there.

Written by `training/run_files.py`, `training/finish.py`, `evaluation/eval_files.py` and
`evaluation/labels/audit.py`; somebody else may have changed or damaged it since.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from vitrail.documents import Count, DocumentPart, Number, Plain, Share

Interval = tuple[Number, Number]


class Network(DocumentPart):
    """The network of run.json."""

    name: str | None = None
    image_size: list[Count] | None = None
    depth: Count | None = None
    width: Count | None = None
    depths: list[Count] | None = None
    width_factor: Number | None = None


class Machine(DocumentPart):
    """The machine of run.json; other facts about it are shown as they are."""

    model_config = {"extra": "allow"}

    cpu: str | None = None
    gpus: list[str] | None = None
    memory_bytes: Count | None = None
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)


class BestForm(DocumentPart):
    """The best evaluation of run.json."""

    model_config = {"extra": "allow"}

    epoch: Number | None = None
    __pydantic_extra__: dict[str, Number | None] = Field(init=False)


class Result(DocumentPart):
    """A split in run.json."""

    n: Count | None = None
    top1: Share | None = None


class Run(DocumentPart):
    """run.json."""

    versions: dict[str, Plain] | None = None
    git: Plain = None
    command: str | None = None
    started: Plain = None
    device: Plain = None
    threads: Plain = None
    seed: Plain = None
    objective: str | None = None
    status: str | None = None
    config_hash: Plain = None
    data_fingerprint: Plain = None
    bad_files: Plain = None
    seconds: Annotated[float, Field(ge=0, le=1e12)] | None = None
    machine: Machine | None = None
    model: Network | None = None
    best: BestForm | None = None
    baselines: dict[str, Number | None] | None = None
    results: dict[str, Result] | None = None


class Data(DocumentPart):
    """data.json."""

    name: str | None = None
    classes: list[str] | None = None
    split: str | None = None
    counts: dict[str, Count] | None = None
    class_counts: dict[str, dict[str, Count]] | None = None
    fingerprints: dict[str, str] | None = None


class ClassScore(DocumentPart):
    """A class in metrics.json."""

    n: Count
    precision: Share
    recall: Share
    f1: Share


class Metrics(DocumentPart):
    """eval/SPLIT/metrics.json."""

    n: Count | None = None
    tta: str | None = None
    top1: Share | None = None
    top1_interval: Interval | None = None
    intervals: dict[str, Interval | None] | None = None
    classes: dict[str, ClassScore] | None = None
    top5: Number | None = None
    nll: Number | None = None
    brier: Number | None = None
    ece: Number | None = None
    f1_macro: Number | None = None
    f1_micro: Number | None = None
    mean_average_precision: Number | None = None
    balanced_accuracy: Number | None = None
    images_per_s: Number | None = None


class ReliabilityBin(DocumentPart):
    """A bin of calibration.json."""

    n: Count
    low: Share
    high: Share
    confidence: Share
    accuracy: Share


class CalibrationForm(DocumentPart):
    """eval/SPLIT/calibration.json."""

    temperature: Number | None = None
    bins: list[ReliabilityBin] | None = None


class MemberForm(DocumentPart):
    """An image of a group of copies in audit.json."""

    split: str
    source: str
    label: str
    kind: str


class GroupForm(DocumentPart):
    """Images that are copies of each other."""

    members: Annotated[list[MemberForm], Field(min_length=1)]


class DuplicatesForm(DocumentPart):
    """What was found of copies."""

    groups: Count = 0
    shown: list[GroupForm] | None = None


class LeakForm(DocumentPart):
    """Held-out images that are training images too."""

    pictures: Count
    n: Count
    top1: Share | None = None
    top1_without: Share | None = None


class SuspectForm(DocumentPart):
    """A doubtful label."""

    split: str
    source: str
    label: str
    suggested: str
    p_label: Share
    p_suggested: Share


class SuspectsForm(DocumentPart):
    """The doubtful labels of a split."""

    n: Count
    suspects: Count
    top1: Share
    origin: str = ""
    why_not: str = ""
    found: list[SuspectForm] = []


class AuditForm(DocumentPart):
    """audit.json."""

    duplicates: DuplicatesForm | None = None
    leaks: dict[str, LeakForm] | None = None
    label_suspects: dict[str, SuspectsForm] | None = None
    notes: list[str] | None = None
