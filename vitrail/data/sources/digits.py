"""The built-in data set: 1,797 handwritten digits of 8 x 8 px.

Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0; the test part of 1,797
images that scikit-learn distributes as load_digits. Changed here: the 17 gray levels 0..16 are
spread over 0..255 when the file is read, rounded half to even.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from vitrail.data.sources.arrays import array_splits
from vitrail.data.sources.source import Splits

HELD_OUT = (180, 180)  # validation and test images; 1,437 remain for training


def open_digits() -> Splits:
    """All digits as training images uint8 (1797, 8, 8, 1), classes "0" to "9"."""
    path = files("vitrail.data.sources").joinpath("digits.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        levels, labels = stored["levels"], stored["labels"]  # (1797, 8, 8) 0..16, (1797,)
    images = np.rint(levels * (255 / 16)).astype(np.uint8)
    return array_splits("digits", "builtin:digits", {"train": (images, labels, "digits")})
