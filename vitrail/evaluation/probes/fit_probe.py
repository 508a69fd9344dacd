"""What frozen features are worth on labelled images: few-shot ridge, linear probe, or k-NN.

Everything is fitted on the training split and judged once on another. Whatever has to be chosen
(an l2 out of several, the number of neighbours) is chosen on the validation split, or where there
is none or it is the one that is judged, on a fifth held out of the training images; never on the
judged images (`probe_fits.py`).

Every accuracy has the interval of the number of judged images (Wilson). A few-shot accuracy is
the mean over draws of the training images and also has the interval of that mean (Student).
"""

from __future__ import annotations

import math
from dataclasses import replace

from vitrail.data.check.check_data import usable
from vitrail.data.sources.open_data import Source, Splits
from vitrail.errors import UsageError
from vitrail.evaluation.baselines import majority
from vitrail.evaluation.eval_set import Opened
from vitrail.evaluation.probes import linear_probe, probe_fits, ridge
from vitrail.evaluation.probes.features import Frozen
from vitrail.evaluation.probes.probe_record import Probe, ProbeSettings

FITS = {"few-shot": probe_fits.few_shot, "linear": probe_fits.linear, "knn": probe_fits.knn}
SWEEPS = {"few-shot": ridge.SWEEP, "linear": linear_probe.SWEEP}  # l2 to choose from
OWNERS = {  # an option -> the kinds that read it
    "k": ("few-shot", "knn"),
    "l2": ("few-shot", "linear"),
    "seeds": ("few-shot",),
    "temperature": ("knn",),
}


def probe(frozen: Frozen, splits: Splits, settings: ProbeSettings) -> Probe:
    """Fit on the training images of `splits` what `settings` say, and judge it.

    Raises UsageError VIT-202, VIT-240, VIT-260 to VIT-264; DataError VIT-301; ModelError VIT-442.
    """
    check(settings)
    _check_data(splits, settings)
    splits, bad = _without_bad_files(frozen, splits)
    judged = splits.parts()[settings.split]
    task = probe_fits.ProbeData(frozen, splits, settings, frozen.features(judged), judged.labels)
    found = FITS[settings.kind](task)
    return Probe(
        kind=settings.kind,
        data=splits.name,
        split=settings.split,
        n=len(judged),
        num_classes=len(splits.classes),
        num_features=task.test.shape[1],
        majority=majority(splits.train.labels, judged.labels),
        figures=tuple(found.figures),
        chosen_on=found.chosen_on,
        notes=tuple(found.notes),
        bad_files=tuple(bad),
    )


def probe_opened(frozen: Frozen, opened: Opened, settings: ProbeSettings) -> Probe:
    """As `probe`, on data that was opened for the model; notes say how far it knows the images."""
    found = probe(frozen, opened.splits, settings)
    told = opened.judged(settings.split).sentences()
    return replace(found, notes=(*found.notes, *told))


def check(settings: ProbeSettings) -> None:
    """Refuse settings that cannot be used. Raises UsageError VIT-202, VIT-261, VIT-262."""
    if settings.kind not in FITS:
        raise UsageError("VIT-202", f"kind {settings.kind!r}: expected {', '.join(FITS)}.")
    if settings.split == "train":
        raise UsageError(
            "VIT-261",
            "a probe is fitted on the training images; evaluated on them it says nothing.",
            hint="Judge on others: --split test",
        )
    for name, kinds in OWNERS.items():
        value = getattr(settings, name)
        if value is not None and settings.kind not in kinds:
            raise UsageError(
                "VIT-262",
                f"--{name} has no effect on --kind {settings.kind}; it belongs to "
                f"{' and '.join(kinds)}.",
                hint="Leave it out.",
            )
        values = value if isinstance(value, tuple) else (value,) if value is not None else (1,)
        if not values or not all(0 < number < math.inf for number in values):
            raise UsageError("VIT-202", f"--{name} {value}: expected numbers above 0.")


def _check_data(splits: Splits, settings: ProbeSettings) -> None:
    if splits.multi_label:
        raise UsageError(
            "VIT-260",
            f"{splits.name} has several labels an image; a probe needs one.",
            hint="Measure the model itself on them: vitrail eval MODEL DATA",
        )
    parts = splits.parts()
    if settings.split not in parts:
        raise UsageError(
            "VIT-240",
            f"{splits.name} has no split {settings.split!r}; it has {', '.join(parts)}.",
            hint="Name one of these: --split",
        )


def _without_bad_files(frozen: Frozen, splits: Splits) -> tuple[Splits, list[tuple[str, str]]]:
    """The splits without images that cannot be decoded, and these, where they are skipped."""
    reading = frozen.reading
    if reading.on_bad_file != "skip" or splits.kind == "arrays":
        return splits, []
    bad: list[tuple[str, str]] = []

    def good(source: Source) -> Source:
        kept, found = usable(source, max_pixels=reading.max_pixels, workers=reading.workers)
        bad.extend(found)
        return kept

    train, val, test = splits.train, splits.val, splits.test
    splits = replace(splits, train=good(train), val=val and good(val), test=test and good(test))
    return splits, bad
