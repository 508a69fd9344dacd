"""What a study is run on: the data, how much of it, which seeds, which machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vitrail.config import DataConfig
from vitrail.data.sources.hub_data import is_name
from vitrail.data.sources.open_data import Splits, fingerprint, open_data
from vitrail.errors import DataError, UsageError
from vitrail.recipes.paper import BATCH
from vitrail.spelling import count, escaped, unescaped
from vitrail.training.plan.facts import Facts, measure
from vitrail.training.run_files import without_bad_files

PATIENT = 1e6  # passes between evaluations: only the end of a run is judged
SAVE_SECS = 20.0
FULL_SHARES = (0.03, 0.1, 0.3, 1.0)  # of the training images: Figure 4's of JFT
MOST_PX, STEP_PX = 64, 8  # the side of what models see; files are resized to a multiple of STEP_PX

FEWER = "a number of training images counts those that it holds"


@dataclass(frozen=True)
class Setup:
    """The question that a study's cells follow from.

    examples: training images that a cell of the reference model sees, what a budget buys. sizes:
    numbers of training images, ascending; () where the study has its own. is_drawn: whether
    vitrail holds out images of the data, or of the transfer data. is_full: at the paper's scale.
    accumulate: parts of a batch, one after the other. choices: the study's other options, by name.
    on_bad_file: "skip" leaves images out that cannot be decoded; numbers of training images count
    them. notes: what of the data is left out, a sentence each.
    """

    data: str
    name: str
    fingerprint: str
    facts: Facts
    num_classes: int
    num_held_out: int
    examples: int
    is_drawn: bool = True
    is_transfer_drawn: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)
    sizes: tuple[int, ...] = ()
    transfer: str = ""
    is_full: bool = False
    device: str = "cpu"
    threads: int = 1
    accumulate: int = 1
    choices: Mapping[str, Any] = field(default_factory=dict)
    on_bad_file: str = "stop"
    notes: tuple[str, ...] = ()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) px that models of this study see, unless it varies them."""
        given = self.choices.get("image_size")
        if given:
            return (int(given), int(given))
        if self.is_full:
            return (224, 224)
        if not self.facts.is_photos and max(self.facts.size) <= MOST_PX:
            return self.facts.size
        side = max(STEP_PX, min(MOST_PX, *self.facts.size) // STEP_PX * STEP_PX)
        return (side, side)

    @property
    def tuned_size(self) -> tuple[int, int]:
        """(height, width) px of fine-tuning: the same, and 384 after the paper's 224."""
        is_papers = self.is_full and not self.choices.get("image_size")
        return (384, 384) if is_papers else self.image_size

    @property
    def num_train(self) -> int:
        """Training images there are."""
        return self.facts.num_train

    def base(self, *, on_transfer: bool = False) -> dict[str, Any]:
        """Settings of every cell: one evaluation, at the end; rows that do not depend on how many
        processes compute them; one held-out split for all seeds.
        """
        drawn = self.is_transfer_drawn if on_transfer else self.is_drawn
        return {
            "data.path": self.transfer if on_transfer else self.data,
            "data.image_size": self.image_size,
            **({"data.split_seed": 0} if drawn else {}),
            **({} if self.is_full else {"data.workers": 0, "save_every_secs": SAVE_SECS}),
            "device": self.device,
            "threads": self.threads,
            "precision": "float32" if self.device == "cpu" else "auto",
            "eval_every_epochs": PATIENT,
            "batch_size": self.batch_size,
            **({"optim.accumulate": self.accumulate} if self.accumulate > 1 else {}),
            **({} if self.on_bad_file == "stop" else {"data.on_bad_file": self.on_bad_file}),
        }

    @property
    def batch_size(self) -> int:
        """Images of a step: 64, of very few training images fewer; the paper's at its scale."""
        if self.is_full:
            return BATCH
        return next((size for size in (64, 32, 16, 8) if self.fewest >= size), max(1, self.fewest))

    @property
    def fewest(self) -> int:
        """Training images of the cell that has the fewest."""
        return min(self.sizes, default=self.num_train)

    def check_enough(self) -> None:
        """Raises UsageError VIT-290 where the paper's batch is more than a cell's images."""
        if self.fewest < self.batch_size:
            raise UsageError(
                "VIT-290",
                f"--full has batches of {self.batch_size:,}, and cells of {self.name} as few as "
                f"{count(self.fewest, 'training image')}.",
                hint="Leave --full out; where more images are there, begin with more: --sizes",
            )


def open_setup(
    data: str, transfer: str = "", *, on_bad_file: str = "stop", **options: Any
) -> Setup:
    """Look at the data once, at every image where those that cannot be decoded are left out. Raises
    DataError, VIT-323 where nothing is held out for a test or images carry several labels.
    """
    path = absolute(data)
    splits, digits, notes = _opened(path, on_bad_file)
    other = None
    if transfer:
        other, more, others = _opened(absolute(transfer), on_bad_file)
        digits, notes = f"{digits}+{more}", (*notes, *others)
    held = (splits.val, splits.test)
    return Setup(
        data=path,
        name=splits.name,
        fingerprint=digits,
        facts=measure(splits.train),
        num_classes=len(splits.classes),
        num_held_out=sum(len(source) for source in held if source is not None),
        is_drawn=splits.is_drawn,
        is_transfer_drawn=other is not None and other.is_drawn,
        transfer=absolute(transfer) if transfer else "",
        on_bad_file=on_bad_file,
        notes=notes,
        **options,
    )


def _opened(path: str, on_bad_file: str) -> tuple[Splits, str, tuple[str, ...]]:
    """The splits of data, what tells it from other data, and what of it is left out."""
    listed = open_data(path, seed=0)
    _check(listed)
    digits = fingerprint_of(listed)
    if on_bad_file == "stop":
        return listed, digits, listed.notes
    checked = without_bad_files(listed, DataConfig(path=path, workers=0))
    _check(checked.splits)
    more = f"; {FEWER}" if checked.bad else ""
    notes = (*listed.notes, *(f"{one}{more}" for one in checked.left_out()))
    return replace(checked.splits, train=listed.train), digits, notes


def absolute(data: str) -> str:
    """A path that means the same to every worker; names like builtin:digits stay."""
    if is_name(data):
        return data
    return escaped(os.path.abspath(unescaped(data)))


def fingerprint_of(splits: Splits) -> str:
    """Of every split, in a few digits."""
    return "-".join(fingerprint(source)[:16] for source in splits.parts().values())


def nested_sizes(num_train: int, num_classes: int, num_sizes: int = 4) -> tuple[int, ...]:
    """`num_sizes` numbers of training images, equally far apart in ratio, up to all of them.

    From 5 of each class or 64 on: what few images do shows first. Raises UsageError VIT-290 for
    data too small for that.
    """
    least = max(64, 5 * num_classes)
    if least * 2 > num_train:
        raise UsageError(
            "VIT-290",
            f"{count(num_train, 'training image', 'of')} {count(num_classes, 'class')}: too "
            "few to compare "
            f"numbers of images; at least {2 * least} are needed.",
            hint="Train on all of them: vitrail train DATA",
        )
    ratio = (num_train / least) ** (1 / (num_sizes - 1))
    sizes = [rounded(least * ratio**power) for power in range(num_sizes - 1)]
    return tuple(dict.fromkeys([*sizes, num_train]))


def share_sizes(num_train: int, num_classes: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers of training images at `shares` of all, those left out that are too few: below 2 of
    each class or 16.
    """
    least = max(16, 2 * num_classes)
    found = [num_train if share == 1 else rounded(share * num_train) for share in shares]
    return tuple(dict.fromkeys(size for size in found if size >= least or size == num_train))


def rounded(value: float) -> int:
    """To two digits."""
    digits = len(str(int(value))) - 2
    unit: int = 10 ** max(0, digits)
    return max(1, round(value / unit) * unit)


def _check(splits: Splits) -> None:
    if splits.multi_label:
        raise DataError(
            "VIT-323",
            f"{splits.name} has several labels an image; studies need one.",
            hint="Train on it: vitrail train DATA",
        )
    if splits.val is None or splits.test is None:
        raise DataError(
            "VIT-323",
            f"{splits.name} has no {'validation' if splits.val is None else 'test'} images: "
            "make them with: vitrail data split DATA --test-fraction 0.15",
            hint="Leave the split to vitrail: put all images into class folders, or a train/ "
            "and a test/ folder",
        )
