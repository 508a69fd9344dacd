"""From a MODEL as the user writes it to a path: `hf:OWNER/NAME`, `google:FILE`, a catalogue name.

    hf:google/vit-base-patch16-224        a repository of the Hugging Face hub (hf_download.py)
    google:augreg/B_16-i21k-...npz        a file of Google's buckets, whole path or the file name
    vit_b16.augreg_i21k_i1k_384           a name of the catalogue (vitrail models --weights)
    anything else                         a path, as it is: nothing is downloaded for it

A path that begins with "escaped:" is written as `spelling.escaped` does, as a run records one that
is no text. A path that exists is a path, whatever the catalogue says; write ./hf:... for a file of
such a name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitrail.checkpoints.catalogue.augreg_names import is_augreg, parse_augreg
from vitrail.checkpoints.catalogue.weights import CATALOGUE, GOOGLE, ROWS, Weights, weights_named
from vitrail.checkpoints.hub.download import DownloadRequest, Progress, cached_path, download
from vitrail.checkpoints.hub.hf_download import fetch, parse_repository
from vitrail.errors import ModelError
from vitrail.spelling import PREFIX, unescaped

HUB, BUCKETS = "hf:", "google:"
BUCKET_NAMES = ("vit_models", "bit_models", "big_vision")
VIT_FOLDERS = ("imagenet21k", "imagenet21k+imagenet2012", "augreg", "sam", "gsam")
PATH = re.compile(r"[A-Za-z0-9][\w.+-]*(/[A-Za-z0-9][\w.+-]*)*")
CATALOGUE_NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
# File names of one folder each (spec 2.1); those of the 2020 paper stand in several folders
FOLDERS = (
    (r"ViT-[BL]_(16|32)-224|R50\+ViT-B_16-224", ("vit_models/imagenet21k+imagenet2012",)),
    (
        r"ViT-[BL]_(16|32)",
        (
            "vit_models/imagenet21k",
            "vit_models/imagenet21k+imagenet2012",
            "vit_models/sam",
        ),
    ),
    (r"ViT-H_14|R50\+ViT-B_16", ("vit_models/imagenet21k",)),
    (r"BiT-M-R\d+x\d-run[012]-[a-z0-9_-]+", ("bit_models/vtab",)),
    (r"BiT-[SM]-R\d+x\d(-ILSVRC2012)?", ("bit_models",)),
    (r"R50x1_(224|160)|R152x2_T_(224|384)", ("bit_models/distill",)),
    (r"vit_s16_i1k_(90|150|300)ep", ("big_vision",)),
    (r"bv_deit_3_(small|base|large)_(224|384)_(1k|21k)", ("big_vision/zoo/deit3",)),
    (r"flexivit_[slb]_.+|vit_b(16|30)_i21k_300ep", ("big_vision/flexivit",)),
)


def resolve_weights(model: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
    """The file or folder that `model` means, downloaded first where it is a name.

    Raises ModelError VIT-460 to VIT-466, EnvironmentFault VIT-520, VIT-530 to VIT-535.
    """
    text = os.fspath(model)
    if text.startswith(PREFIX):
        return _read_back(text)
    address = address_of(text)
    if not address:
        return Path(model)
    if address.startswith(HUB):
        return fetch(parse_repository(address.removeprefix(HUB)), progress=progress)
    row = catalogue_entry(address)
    wanted = DownloadRequest(address, row.sha256_start if row else "")
    return download(wanted, cached_path(address), progress=progress)


def _read_back(text: str) -> Path:
    """The path that `spelling.escaped` wrote, as settings of a run hold one that is no text."""
    try:
        return Path(unescaped(text))
    except ValueError as error:
        raise ModelError("VIT-430", f"model {text}: {error}.", hint="Give its path.") from error


def address_of(model: str) -> str:
    """`hf:OWNER/NAME`, an https address, or "" where `model` is a path; nothing is downloaded.

    Raises ModelError VIT-462 to VIT-464.
    """
    if model.startswith(HUB):
        return f"{HUB}{model.removeprefix(HUB)}"
    if model.startswith(BUCKETS):
        return google_address(model.removeprefix(BUCKETS))
    if model in CATALOGUE and not Path(model).exists():
        return CATALOGUE[model].address
    known = {name.partition(".")[0] for name in CATALOGUE}
    means_one = CATALOGUE_NAME.fullmatch(model) and model.partition(".")[0] in known
    if means_one and Path(model).suffix not in (".npz", ".zip") and not Path(model).exists():
        return weights_named(model).address  # raises, naming the nearest
    return ""


def google_address(file: str) -> str:
    """The https address of a path below Google's buckets, or of a file name alone.

    Raises ModelError VIT-462 for a wrong AugReg name, VIT-467 for another name that is not known or
    stands in several folders.
    """
    path = re.sub(r"^(gs:/{1,2}|https:/{1,2}storage\.googleapis\.com/)", "", file)
    path = path.removesuffix(".npz")
    folder, _, name = path.rpartition("/")
    if not PATH.fullmatch(path) or ".." in path:
        raise _unknown(file, "expected a path such as imagenet21k/ViT-B_16, or a file name")
    if is_augreg(name):
        name = str(parse_augreg(name))
    if folder.split("/")[0] in BUCKET_NAMES:
        places: tuple[str, ...] = (folder,)
    elif folder.split("/")[0] in VIT_FOLDERS:
        places = (f"vit_models/{folder}",)
    elif folder:
        buckets = ", ".join((*BUCKET_NAMES, *VIT_FOLDERS))
        raise _unknown(file, f"expected a path that begins with one of {buckets}")
    else:
        places = folders_of(name)
    if not places:
        raise _unknown(file, "the folder of such a name is not known")
    if len(places) > 1:
        choices = ", ".join(
            f"google:{place.removeprefix('vit_models/')}/{name}" for place in places
        )
        raise _unknown(file, f"stands in several folders: {choices}")
    return f"{GOOGLE}/{places[0]}/{name}.npz"


def folders_of(name: str) -> tuple[str, ...]:
    """The folders in which a file of that name stands."""
    if is_augreg(name):
        return ("vit_models/augreg",)
    return next((found for form, found in FOLDERS if re.fullmatch(form, name)), ())


def catalogue_entry(address: str) -> Weights | None:
    """What the catalogue says of an address."""
    return next((row for row in ROWS if row.address == address), None)


def catalogue_entry_at(place: Path) -> Weights | None:
    """What the catalogue says of a file that was downloaded by name: its publisher's preprocessing
    and image size, which the file itself may not tell.
    """
    place = place.absolute()
    return next(
        (
            row
            for row in ROWS
            if row.address.endswith(f"/{place.name}")
            and not row.address.startswith(HUB)
            and cached_path(row.address) == place
        ),
        None,
    )


def _unknown(file: str, text: str) -> ModelError:
    return ModelError(
        "VIT-467",
        f"google:{file}: {text}.",
        hint="For instance google:vit_models/imagenet21k/ViT-B_16.npz; all that are known: "
        "vitrail models --weights",
    )
