"""From a loaded image of any mode to upright RGB pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.image_header import exif_orientation

# Colours of large images are converted in bands, so that memory stays near the result's.
_BAND_PIXELS = 2**20

Pixels = NDArray[np.uint8]


def rgb_pixels(image: Image.Image) -> Pixels:
    """Pixels (H, W, 3) of a loaded image of any mode. Raises DecodeFault for 32-bit pixels."""
    if image.mode in ("I", "F") and image.format != "PPM":
        raise DecodeFault(
            f"pixels of 32 bits (mode {image.mode}); images of 8 or 16 bits are accepted"
        )
    step = max(1, _BAND_PIXELS // image.width)
    if step >= image.height:
        return _rgb_band(image)
    result = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        result[top:bottom] = _rgb_band(image.crop((0, top, image.width, bottom)))
    return result


def _rgb_band(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        return _rgb_from_gray16(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _rgb_from_gray16(image: Image.Image) -> Pixels:
    deep = np.asarray(image).astype(np.uint32)  # (H, W), 0..65535
    gray = ((deep + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[deep == transparent] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)  # (H, W, 3)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels (H, W, 3) turned as EXIF orientation 1..8 asks."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)  # (W, H, 3)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def exif_turn(pixels: Pixels, image: Image.Image) -> Pixels:
    """`pixels` (H, W, 3) of `image`, upright."""
    return upright(pixels, orientation_of(image))


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, that is still to be applied to the pixels."""
    exif = image.info.get("exif", b"")
    # Pillow itself turns TIFFs while loading them.
    if image.format == "TIFF" or not isinstance(exif, bytes):
        return 1
    return exif_orientation(exif)
