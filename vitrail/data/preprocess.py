"""What happens to a picture before a model is evaluated on it: resize, crop, scale to floats.

The record travels inside every model (`model.json`), because a model is only as good as the pixels
it gets (spec 2.6). Resizing is Pillow's, bit for bit, on 8-bit pixels. The rounding rules are those
of the libraries that the published weights were measured with:

- `resize` a pair: the whole picture squashed to (height, width) (big_transfer, transformers'
  ViTImageProcessor).
- `resize` a number: the short side in px, the long one int(resize * long / short) (torchvision,
  transformers). A target that is not square is covered, sides rounded to the nearest (timm's
  ResizeKeepRatio). timm's own number is `short_side(size, crop_pct)`.
- `crop` "center": the offset is rounded, halves to even (torchvision, timm); "center_floor":
  rounded down (transformers); "none": the resized picture is the result.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitrail.data.decode import MAX_PIXELS, Pixels, exif_turn, read_picture, rgb_pixels
from vitrail.errors import DataError

if TYPE_CHECKING:
    import torch

Side = Annotated[int, Field(ge=1, le=16384)]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocess(BaseModel):
    """A picture of any size to float32 (C, height, width); C = len(mean), 1 is gray."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: Side
    width: Side
    resize: Side | tuple[Side, Side]
    crop: Literal["center", "center_floor", "none"] = "none"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError(
                f"mean and std need 1 or 3 values each, got {self.mean} and {self.std}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")
        target = (self.height, self.width)
        if self.crop == "none" and self.resize != target:
            raise ValueError(
                f"resize {self.resize} without a crop must equal (height, width) = {target}"
            )
        sides = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        short = min(target) if isinstance(self.resize, int) else None
        if any(have < (short or need) for have, need in zip(sides, target, strict=True)):
            raise ValueError(f"resize {self.resize} is smaller than the crop {target}")
        return self

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (RGB)."""
        return len(self.mean)

    def to_json(self) -> dict[str, Any]:
        """Plain values for model.json."""
        return dict(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocess:
        """The record of a model.json. Raises DataError VIT-329 naming each bad value."""
        try:
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            lines = [
                f"  {'.'.join(str(part) for part in item['loc']) or 'preprocess'}: {item['msg']}"
                for item in error.errors(include_url=False)
            ]
            raise DataError(
                "VIT-329", "preprocess record cannot be used:\n" + "\n".join(lines)
            ) from error

    def pixels(self, array: Pixels) -> Pixels:
        """Resized and cropped pixels uint8 (height, width, channels) of some (H, W, 1 or 3)."""
        image = _picture(array, self.channels)
        height, width = self.resized(image.height, image.width)
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), _FILTERS[self.interpolation])
        top, left = self._offset(height - self.height), self._offset(width - self.width)
        if (height, width) != (self.height, self.width):
            image = image.crop((left, top, left + self.width, top + self.height))
        pixels = np.array(image).reshape(self.height, self.width, -1)  # (h, w, 1 or 3)
        return (
            pixels if pixels.shape[2] == self.channels else np.repeat(pixels, self.channels, axis=2)
        )

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) to which a picture of that size is resized before the crop."""
        if not isinstance(self.resize, int):
            return self.resize
        short = min(height, width)
        if self.height == self.width:
            return (int(self.resize * height / short), int(self.resize * width / short))
        scale = self.resize / min(self.height, self.width)
        ratio = min(height / (scale * self.height), width / (scale * self.width))
        return (max(self.height, round(height / ratio)), max(self.width, round(width / ratio)))

    def __call__(
        self, picture: bytes | str | Path | Image.Image | Pixels, *, max_pixels: int = MAX_PIXELS
    ) -> torch.Tensor:
        """Float32 (C, height, width) of a file, its bytes, a Pillow picture or pixels (H, W[, C]).

        Raises DecodeFault (VIT-330) for a file that cannot be decoded, DataError VIT-328 for other
        arrays.
        """
        import torch

        pixels = torch.from_numpy(self.pixels(_to_array(picture, max_pixels)))  # (h, w, C) uint8
        images = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div_(255)  # (C, h, w)
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return images.sub_(mean).div_(std)

    def _offset(self, room: int) -> int:
        return room // 2 if self.crop == "center_floor" else round(room / 2)


def short_side(size_px: int, crop_fraction: float) -> int:
    """timm's resize: floor(size / crop_pct); 224 at .9 is 248."""
    return math.floor(size_px / crop_fraction)


def gray_pixels(array: Pixels) -> Pixels:
    """One channel (H, W, 1) of RGB (H, W, 3): luma of ITU-R 601-2 as Pillow's "L" has it."""
    return np.array(Image.fromarray(array).convert("L"))[:, :, None]


def _picture(array: Pixels, channels: int) -> Image.Image:
    """A Pillow picture of (H, W, 1 or 3) pixels: gray where one channel is wanted or given."""
    if (
        array.ndim != 3
        or array.dtype != np.uint8
        or array.shape[2] not in (1, 3)
        or 0 in array.shape
    ):
        raise DataError(
            "VIT-328",
            f"pixels must be uint8 of shape (H, W, 3) or (H, W, 1), got {array.dtype} of shape "
            f"{array.shape}.",
            hint="Scale floats to 0..255 and convert: (x * 255).round().astype('uint8').",
        )
    if array.shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(array[:, :, 0]))
    image = Image.fromarray(np.ascontiguousarray(array))
    return image.convert("L") if channels == 1 else image


def _to_array(picture: bytes | str | Path | Image.Image | Pixels, max_pixels: int) -> Pixels:
    if isinstance(picture, np.ndarray):
        return picture[:, :, None] if picture.ndim == 2 else picture
    if isinstance(picture, Image.Image):
        return exif_turn(rgb_pixels(picture), picture)
    return read_picture(picture, max_pixels=max_pixels)
