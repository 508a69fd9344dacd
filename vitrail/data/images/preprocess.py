"""What happens to an image before a model is evaluated on it: resize, crop, scale to floats.

The record travels inside every model (`model.json`), because a model is only as good as the pixels
it gets (spec 2.6). Resizing is Pillow's, bit for bit, on 8-bit pixels, or TensorFlow's
(`tf_resize.py`), which Google's own code uses. The rounding rules are those of the libraries that
the published weights were measured with:

- `resize` a pair: the whole image squashed to (height, width) (big_transfer, transformers'
  ViTImageProcessor).
- `resize` a number: the short side in px, the long one int(resize * long / short) (torchvision,
  transformers). A target that is not square is covered, sides rounded to the nearest (timm's
  ResizeKeepRatio). timm's own number is `short_side(size, crop_pct)`.
- the same with TensorFlow: both sides rounded to the nearest (big_vision's `resize_small`).
- `crop` "center": the offset is rounded, halves to even (torchvision, timm); "center_floor":
  rounded down (transformers, big_vision); "none": the resized image is the result.
- `resizer` "tensorflow": results are cut to 8 bits (big_vision), or with `keep_floats` stay as they
  are (vision_transformer). `antialias` false is `tf.image.resize` as it comes: of an image made
  much smaller most pixels are never looked at. Pillow's resize is always antialiased.
- `max_patches`: variable resolution; the image keeps its aspect ratio and becomes at most so many
  patches of `patch_size`, packed (`packing.py`). height and width are then those of the model's
  position table, to which no image is resized.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitrail.data.images.decode import MAX_PIXELS, read_image
from vitrail.data.images.packing import packed, packed_shape, size_within, unpacked
from vitrail.data.images.rgb import Pixels, exif_turn, rgb_pixels
from vitrail.data.images.tf_resize import Floats, Method, tf_resize
from vitrail.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

Side = Annotated[int, Field(ge=1, le=16384)]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_TF_METHODS: dict[tuple[str, bool], Method] = {
    ("bilinear", False): "bilinear",
    ("bilinear", True): "bilinear_antialias",
    ("area", True): "area",
}
CropInterpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


class Preprocess(BaseModel):
    """An image of any size to float32 (C, height, width); C = len(mean), 1 is gray."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: Side
    width: Side
    resize: Side | tuple[Side, Side]
    crop: Literal["center", "center_floor", "none"] = "none"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "area"] = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resizer: Literal["pillow", "tensorflow"] = "pillow"
    antialias: bool = True
    keep_floats: bool = False
    max_patches: Annotated[int, Field(ge=1, le=65_536)] | None = None
    patch_size: tuple[Side, Side] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_resizer()
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
        if self.max_patches is not None:
            self._check_variable()
        elif self.patch_size is not None:
            raise ValueError("patch_size has no effect without max_patches")
        return self

    def _check_variable(self) -> None:
        if self.patch_size is None:
            raise ValueError("max_patches needs patch_size")
        if self.resizer != "pillow" or self.crop != "none":
            raise ValueError("max_patches needs resizer=pillow and crop=none")

    def _check_resizer(self) -> None:
        if self.resizer == "tensorflow":
            if (self.interpolation, self.antialias) not in _TF_METHODS:
                raise ValueError(
                    "TensorFlow's resize is here bilinear with or without antialias, or area with "
                    f"it; got {self.interpolation} with antialias={self.antialias}"
                )
        elif self.interpolation == "area" or not self.antialias or self.keep_floats:
            raise ValueError(
                "interpolation area, antialias=false and keep_floats=true need resizer=tensorflow"
            )

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (RGB)."""
        return len(self.mean)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width in px of what a model is shown."""
        return (self.channels, self.height, self.width)

    @property
    def is_variable(self) -> bool:
        """Whether images keep their aspect ratio and come as packed patches."""
        return self.max_patches is not None

    def require_one_size(self, what: str) -> None:
        """Raise UsageError VIT-287 where images keep their own shape, which `what` cannot have."""
        if self.is_variable:
            raise UsageError(
                "VIT-287",
                f"{what} needs images of one size; this model takes images of variable resolution, "
                f"{self.max_patches} patches at most.",
                hint="predict, eval, explain and convert work with it. For a model of one size, "
                "fine-tune it: vitrail train DATA --from MODEL",
            )

    def input_shape(self) -> tuple[int, ...]:
        """Shape of what a model is shown of one image: (C, height, width), or of packed patches."""
        if self.max_patches is None or self.patch_size is None:
            return self.input_size
        return packed_shape(self.channels, self.patch_size, self.max_patches)

    def shown_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) px of what the model is shown of an image of that size."""
        return self.resized(height, width) if self.is_variable else (self.height, self.width)

    @property
    def crop_interpolation(self) -> CropInterpolation:
        """For random crops of training, which Pillow or torch resizes to 8 bits."""
        return "bilinear" if self.interpolation == "area" else self.interpolation

    def to_json(self) -> dict[str, Any]:
        """Plain values for model.json; those of the resizer only where it is not Pillow, those of
        variable resolution only where images have one.
        """
        values = dict(self.model_dump(mode="json"))
        if self.resizer == "pillow":
            for name in ("resizer", "antialias", "keep_floats"):
                del values[name]
        if not self.is_variable:
            for name in ("max_patches", "patch_size"):
                del values[name]
        return values

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
        """Resized and cropped pixels uint8 (height, width, channels) of some (H, W, 1 or 3).

        With `keep_floats` these are `values`, rounded: for showing and for training, whose
        augmentation works on 8 bits.
        """
        values = self.values(array)
        return values if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)

    def values(self, array: Pixels) -> NDArray[Any]:
        """What the model is shown, before mean and std: (height, width, channels) in 0..255, uint8,
        or float32 with `keep_floats`.
        """
        image = _picture(array, self.channels)
        height, width = self.resized(image.height, image.width)
        shown = self.shown_size(image.height, image.width)
        top, left = self._offset(height - shown[0]), self._offset(width - shown[1])
        if self.resizer == "tensorflow":
            values = self._tensorflow(np.array(image), height, width)
            values = values[top : top + self.height, left : left + self.width]
        else:
            if (height, width) != (image.height, image.width):
                image = image.resize((width, height), _FILTERS[self.interpolation])
            if (height, width) != shown:
                image = image.crop((left, top, left + shown[1], top + shown[0]))
            values = np.array(image).reshape(*shown, -1)  # (h, w, 1 or 3)
        return (
            values if values.shape[2] == self.channels else np.repeat(values, self.channels, axis=2)
        )

    def _tensorflow(self, pixels: Pixels, height: int, width: int) -> Pixels | Floats:
        """Resized (height, width, 1 or 3), cut to 8 bits unless floats are kept."""
        method = _TF_METHODS[self.interpolation, self.antialias]
        values = tf_resize(pixels.reshape(*pixels.shape[:2], -1), height, width, method)
        return values if self.keep_floats else values.astype(np.uint8)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) to which an image of that size is resized before the crop."""
        if self.max_patches is not None and self.patch_size is not None:
            return size_within((height, width), self.patch_size, self.max_patches)
        if not isinstance(self.resize, int):
            return self.resize
        short = min(height, width)
        if self.height == self.width and self.resizer == "tensorflow":
            factor = np.float32(self.resize) / np.float32(short)
            return (round(np.float32(height) * factor), round(np.float32(width) * factor))
        if self.height == self.width:
            return (int(self.resize * height / short), int(self.resize * width / short))
        scale = self.resize / min(self.height, self.width)
        ratio = min(height / (scale * self.height), width / (scale * self.width))
        return (max(self.height, round(height / ratio)), max(self.width, round(width / ratio)))

    def __call__(
        self, picture: bytes | str | Path | Image.Image | Pixels, *, max_pixels: int = MAX_PIXELS
    ) -> torch.Tensor:
        """Float32 (C, height, width), or packed patches, of a file, its bytes, a Pillow image or
        pixels (H, W[, C]).

        Raises DecodeFault (VIT-330) for a file that cannot be decoded, DataError VIT-328 for other
        arrays.
        """
        import torch

        return torch.from_numpy(self.floats(picture, max_pixels=max_pixels))

    def floats(
        self, picture: bytes | str | Path | Image.Image | Pixels, *, max_pixels: int = MAX_PIXELS
    ) -> Floats:
        """As the call, as an array and without torch."""
        return self.of_pixels(_to_array(picture, max_pixels))

    def of_pixels(self, array: Pixels) -> Floats:
        """As `floats` of uint8 pixels (H, W, 1 or 3)."""
        values = self.values(array).transpose(2, 0, 1)
        return self.packed(values) if self.is_variable else self.normalised(values)

    def packed(self, values: NDArray[Any]) -> Floats:
        """Packed patches of values in 0..255 (C, h, w), of a size that is shown; see
        `packing.packed`.
        """
        assert self.patch_size is not None
        assert self.max_patches is not None
        return packed(self.normalised(values), self.patch_size, self.max_patches)

    def unpacked(self, rows: Floats) -> Pixels:
        """The pixels uint8 (h, w, C) of `packed` patches."""
        assert self.patch_size is not None
        values = unpacked(rows, self.patch_size).transpose(1, 2, 0) * self.std + self.mean
        pixels: Pixels = np.rint(values * 255).clip(0, 255).astype(np.uint8)
        return pixels

    def planes(self, array: Pixels) -> Floats:
        """What the model is shown of pixels (H, W, 1 or 3), as an image: float32 (C, h, w)."""
        return self.normalised(self.values(array).transpose(2, 0, 1))

    def normalised(self, values: NDArray[Any]) -> Floats:
        """Float32 (..., C, h, w), contiguous, of values in 0..255: (x / 255 - mean) / std."""
        floats = np.array(values, dtype=np.float32, order="C")
        mean, std = (np.array(one, np.float32)[:, None, None] for one in (self.mean, self.std))
        floats /= np.float32(255)
        floats -= mean
        floats /= std
        return floats

    def _offset(self, room: int) -> int:
        return room // 2 if self.crop == "center_floor" else round(room / 2)


def short_side(size_px: int, crop_fraction: float) -> int:
    """timm's resize: floor(size / crop_pct); 224 at .9 is 248."""
    return math.floor(size_px / crop_fraction)


def gray_pixels(array: Pixels) -> Pixels:
    """One channel (H, W, 1) of RGB (H, W, 3): luma of ITU-R 601-2 as Pillow's "L" has it."""
    return np.array(Image.fromarray(array).convert("L"))[:, :, None]


def _picture(array: Pixels, channels: int) -> Image.Image:
    """A Pillow image of (H, W, 1 or 3) pixels: gray where one channel is wanted or given."""
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
    return read_image(picture, max_pixels=max_pixels)
