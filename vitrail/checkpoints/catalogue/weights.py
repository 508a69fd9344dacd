"""Published weights: where each file is, what it is, under which licence, and what was reported.

The rows are those of `weights.csv`; nothing here opens a connection (`download.py` does, on
request). Sources of addresses and figures, by the tag in `reported_by`, each read in the file
named:

    VT   google-research/vision_transformer README: AugReg table; "-224" of the first release
    BT   google-research/big_transfer README @140de6e
    BV   google-research/big_vision models/vit.py VANITY_NAMES @0b73d7b
    TM   timm results-imagenet.csv and the cfgs of models/vision_transformer*.py, resnetv2.py:
         measured with timm's own preprocessing, on the same tensors
    DT   facebookresearch/deit README_deit.md @4da6691, README_revenge.md @4bd679b
    D2   facebookresearch/dinov2 README @04b9100 (backbones without a head)
    TV   torchvision models/vision_transformer.py @07a929e

Figures are top-1 on the 50,000 validation images of ImageNet-1k, as a fraction, at `image_size`.
No publisher states a sha256. PyTorch's hub writes its first 8 digits into the file name
(`check_hash` of torch.hub), which are checked; of every other file the first download notes the
sha256 beside it in the cache, and a later download must equal it.

Licences: what the publisher's page says of the weights or of the repository that publishes them.
"see source" where it says nothing of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from vitrail.checkpoints.catalogue.table import table
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError, nearest

GOOGLE = "https://storage.googleapis.com"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One published file. model: the architecture as `vitrail models` lists it; address: https, or
    "hf:OWNER/NAME"; num_classes: outputs of the head, 0 without one; preprocess: of the publisher's
    evaluation (spec 2.6), None where the file or folder itself says; top1: reported, a fraction.
    """

    name: str
    model: str
    address: str
    origin: str
    image_size: tuple[int, int]
    num_classes: int
    trained_on: str
    licence: str
    preprocess: Preprocess | None = None
    top1: float | None = None
    reported_by: str = ""
    sha256: str | None = None

    @property
    def sha256_start(self) -> str:
        """What is known of the sha256: all of it, or the digits in the file name, or nothing."""
        found = re.search(r"-([0-9a-f]{8})\.pth$", self.address)
        return self.sha256 or (found[1] if found else "")


def squashed(size: int) -> Preprocess:
    """vision_transformer: the whole image to size x size by TensorFlow's resize (spec 2.6)."""
    return Preprocess(
        height=size,
        width=size,
        resize=(size, size),
        interpolation="bilinear",
        resizer="tensorflow",
        antialias=False,
        keep_floats=True,
    )


def squashed_by_pillow(size: int) -> Preprocess:
    """big_transfer."""
    return Preprocess(height=size, width=size, resize=(size, size), interpolation="bilinear")


def small_crop(size: int) -> Preprocess:
    """big_vision: `resize_small(256)|central_crop(224)`, and in proportion."""
    return Preprocess(
        height=size,
        width=size,
        resize=size * 8 // 7,
        crop="center_floor",
        interpolation="area",
        resizer="tensorflow",
    )


def cropped(size: int, short: int, interpolation: str, *, imagenet: bool = False) -> Preprocess:
    """timm, torchvision, DeiT: the short side to `short` px, then the centre."""
    stats = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if imagenet else {}
    return Preprocess.model_validate(
        {"height": size, "width": size, "resize": short, "crop": "center"}
        | {"interpolation": interpolation}
        | stats
    )


PLAIN = {"squashed": squashed, "squashed_by_pillow": squashed_by_pillow, "small_crop": small_crop}


@cache
def _preprocess(text: str, size: int) -> Preprocess | None:
    """The column "preprocess": a function of this file and what it takes beside the size."""
    word, *options = text.split() or [""]
    if word == "cropped":
        return cropped(size, int(options[0]), options[1], imagenet="imagenet" in options)
    return PLAIN[word](size) if word else None


def _row(line: Mapping[str, str]) -> Weights:
    size = int(line["px"])
    return Weights(
        name=line["name"],
        model=line["model"],
        address=line["address"],
        origin=line["origin"],
        image_size=(size, size),
        num_classes=int(line["classes"]),
        trained_on=line["trained_on"],
        licence=line["licence"],
        preprocess=_preprocess(line["preprocess"], size),
        top1=float(line["top1"]) if line["top1"] else None,
        reported_by=line["reported_by"],
    )


ROWS = tuple(_row(line) for line in table("weights.csv"))
CATALOGUE = {row.name: row for row in ROWS}


def weights_named(name: str) -> Weights:
    """Raises ModelError VIT-463 naming the nearest."""
    if name not in CATALOGUE:
        raise ModelError(
            "VIT-463",
            f"the catalogue has no weights {name}. {nearest(name, CATALOGUE)}",
            hint="All weights: vitrail models --weights",
        )
    return CATALOGUE[name]
