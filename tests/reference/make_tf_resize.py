"""Makes tf_resize.npz: what TensorFlow's own resize gives, for tests/data/images/test_tf_resize.py.

Run by hand where TensorFlow is installed (pip install tensorflow-cpu); the file that stands here
was made with TensorFlow 2.21.0:  python tests/reference/make_tf_resize.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped, import-not-found, unused-ignore]

OUT = Path(__file__).with_name("tf_resize.npz")
# (old height, old width, new height, new width): smaller, larger, both, to and from one pixel.
SIZES = [
    (53, 31, 11, 19),
    (7, 11, 23, 5),
    (3, 2, 13, 7),
    (97, 89, 5, 3),
    (29, 31, 1, 1),
    (1, 1, 3, 2),
]
METHODS: dict[str, dict[str, Any]] = {
    "bilinear": {"method": "bilinear", "antialias": False},
    "bilinear_antialias": {"method": "bilinear", "antialias": True},
    "area": {"method": "area"},
}


def main() -> None:
    """Writes images and results; the upper half of each image is white, where the last bit of
    a sum decides between 254 and 255."""
    generator = np.random.default_rng(20101192)
    arrays: dict[str, Any] = {}
    for height, width, *new in SIZES:
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels[: height // 2] = 255
        key = f"{height}x{width}_to_{new[0]}x{new[1]}"
        arrays[key] = pixels
        for name, options in METHODS.items():
            arrays[f"{key}_{name}"] = tf.image.resize(pixels, new, **options).numpy()
    np.savez_compressed(OUT, **arrays)


if __name__ == "__main__":
    main()
