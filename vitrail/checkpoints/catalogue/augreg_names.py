"""The file names of "How to train your ViT?" (arXiv 2106.10270): 52,268 files told by their names.

    {model}-{dataset}-{epochs}ep-lr_{lr}-aug_{level}-wd_{wd}-do_{p}-sd_{p}
        [--{task}-steps_{n}k-lr_{lr}-res_{px}][.npz]

Source: vision_transformer, vit_jax/checkpoint.py and vit_jax_augreg.ipynb (spec 2.4). Dropout and
stochastic depth were moved together. `steps_0k` is 500 steps and `steps_2k` is 2,500: the writers
cut the number to thousands. Pre-training was at 224 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vitrail.errors import ModelError, nearest
from vitrail.spelling import count

SUFFIX = ".npz"
SLUGS = {
    "Ti_16": "vit_ti16",
    "S_16": "vit_s16",
    "S_32": "vit_s32",
    "B_8": "vit_b8",
    "B_16": "vit_b16",
    "B_32": "vit_b32",
    "L_16": "vit_l16",
    "R_Ti_16": "r_vit_ti16",
    "R26_S_32": "r26_vit_s32",
    "R50_L_32": "r50_vit_l32",
}
EPOCHS = {"i1k": 300, "i21k": 300, "i21k_30": 30}
CLASSES = {"i1k": 1000, "i21k": 21843, "i21k_30": 21843}
LEVELS = ("none", "light0", "light1", "medium1", "medium2", "strong1", "strong2")
WEIGHT_DECAYS = ("0.03", "0.1")
DROPS = ("0.0", "0.1")
# Classes of each task; those of kitti (distance bins) are not in the sources: read them in the file
TASKS = {
    "imagenet2012": 1000,
    "cifar100": 100,
    "kitti": None,
    "oxford_iiit_pet": 37,
    "resisc45": 45,
}
PRETRAINED_PX = 224
RESOLUTIONS = (224, 384)  # px
ODD_STEPS = {0: 500, 2: 2500}  # steps that the name cuts to thousands


class Adapted(NamedTuple):
    """The fine-tuned half of a name. thousands: as written; resolution: px of both sides."""

    task: str
    thousands: int
    lr: float
    resolution: int

    @property
    def steps(self) -> int:
        """Updates at batch 512."""
        return ODD_STEPS.get(self.thousands, 1000 * self.thousands)


@dataclass(frozen=True)
class AugRegName:
    """One file. model: a key of SLUGS; drop: of dropout and of stochastic depth."""

    model: str
    dataset: str
    lr: float
    level: str
    weight_decay: float
    drop: float
    adapted: Adapted | None = None

    @property
    def epochs(self) -> int:
        """Of pre-training."""
        return EPOCHS[self.dataset]

    @property
    def slug(self) -> str:
        """The architecture, as `vitrail models` lists it."""
        return SLUGS[self.model]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) px of the images the file was last trained on."""
        side = self.adapted.resolution if self.adapted else PRETRAINED_PX
        return (side, side)

    @property
    def num_classes(self) -> int | None:
        """Outputs of the head; None where the sources do not say (kitti)."""
        return TASKS[self.adapted.task] if self.adapted else CLASSES[self.dataset]

    def __str__(self) -> str:
        """The name without .npz."""
        text = (
            f"{self.model}-{self.dataset}-{self.epochs}ep-lr_{self.lr}-aug_{self.level}"
            f"-wd_{self.weight_decay}-do_{self.drop}-sd_{self.drop}"
        )
        if self.adapted is None:
            return text
        task, thousands, lr, resolution = self.adapted
        return f"{text}--{task}-steps_{thousands}k-lr_{lr}-res_{resolution}"


def parse_augreg(name: str) -> AugRegName:
    """The name of a file, with or without .npz. Raises ModelError VIT-462 naming the part."""
    first, _, second = name.removesuffix(SUFFIX).partition("--")
    parts = _fields(name, first, ("dataset", "epochs", "lr_", "aug_", "wd_", "do_", "sd_"))
    model, dataset, epochs, lr, level, decay, dropout, depth = parts
    _one_of(name, "model", model, SLUGS)
    _one_of(name, "dataset", dataset, EPOCHS)
    _one_of(name, "epochs", epochs, [f"{EPOCHS[dataset]}ep"])
    _one_of(name, "aug_", level, LEVELS)
    _one_of(name, "wd_", decay, WEIGHT_DECAYS)
    _one_of(name, "do_", dropout, DROPS)
    _one_of(name, "sd_", depth, [dropout])
    adapted = _adapted(name, second) if "--" in name else None
    rate = _rate(name, "lr_", lr)
    return AugRegName(model, dataset, rate, level, float(decay), float(dropout), adapted)


def is_augreg(name: str) -> bool:
    """Whether a file name means to follow this grammar, right or wrong."""
    return re.match(r"(R\d*_)?(Ti|S|B|L)_\d+-i", name) is not None


def _adapted(name: str, text: str) -> Adapted:
    task, steps, lr, resolution = _fields(name, text, ("steps_", "lr_", "res_"), first="task")
    _one_of(name, "task", task, TASKS)
    _one_of(name, "res_", resolution, [str(side) for side in RESOLUTIONS])
    if not re.fullmatch(r"(0|[1-9]\d{0,3})k", steps):
        raise _wrong(name, f"steps_{steps}", "steps_ and thousands, as steps_20k or steps_0k")
    return Adapted(task, int(steps[:-1]), _rate(name, "lr_", lr), int(resolution))


def _fields(name: str, text: str, labels: tuple[str, ...], *, first: str = "model") -> list[str]:
    """The parts between dashes without their labels ("lr_"), the first one included."""
    parts = text.split("-")
    if len(parts) != len(labels) + 1:
        shown = "-".join(f"{label}..." if label.endswith("_") else label for label in labels)
        raise _wrong(name, text or "nothing", f"{count(len(labels) + 1, 'part')}: {first}-{shown}")
    for part, label in zip(parts[1:], labels, strict=True):
        if label.endswith("_") and not part.startswith(label):
            raise _wrong(name, part or "nothing", f"{label}...")
    return [parts[0], *(p.removeprefix(n) for p, n in zip(parts[1:], labels, strict=True))]


def _one_of(name: str, label: str, part: str, choices: Iterable[str]) -> None:
    known = list(choices)
    if part not in known:
        prefix = label if label.endswith("_") else ""
        expected = f"{label.removesuffix('_')} {' or '.join(known) if len(known) < 3 else 'known'}"
        raise _wrong(name, prefix + part, expected, nearest(part, known) if len(known) > 2 else "")


def _rate(name: str, label: str, part: str) -> float:
    try:
        rate = float(part)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 100 or str(rate) != part:  # one way to write a number, so names are unique
        raise _wrong(name, label + part, "a learning rate, as lr_0.001")
    return rate


def _wrong(name: str, part: str, expected: str, more: str = "") -> ModelError:
    text = f"{name} is no AugReg file: at {part}: expected {expected}."
    return ModelError(
        "VIT-462",
        f"{text} {more}".rstrip(),
        hint="A whole name: B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--"
        "imagenet2012-steps_20k-lr_0.03-res_384",
    )
