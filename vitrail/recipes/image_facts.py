"""What a recipe may depend on: how many training images there are, and how large they are."""

from __future__ import annotations

from typing import NamedTuple

Size = tuple[int, int]
SMALL_SIDE = 96  # px; BiT-HyperRule counts smaller images as small


class ImageFacts(NamedTuple):
    """The training images, and the model that training starts from. Sizes are (height, width) px.

    size: the median image. start_size: what the model was trained on; None without one.
    multiple: what an image size of that model is a multiple of. width, depth: of its blocks.
    """

    num_train: int
    size: Size
    start_size: Size | None = None
    multiple: Size = (1, 1)
    width: int = 768
    depth: int = 12

    @property
    def is_small(self) -> bool:
        """Whether the images have fewer pixels than 96 x 96."""
        return self.size[0] * self.size[1] < SMALL_SIDE**2

    def fitting(self, height: float, width: float) -> Size:
        """The largest image size of the model that is not above (height, width), one step at
        least.
        """
        rows, cols = self.multiple
        return max(1, int(height) // rows) * rows, max(1, int(width) // cols) * cols

    def batch(self, most: int = 512) -> int:
        """The largest power of two up to `most` and the number of images."""
        size = most
        while size > self.num_train:
            size //= 2
        return max(1, size)
