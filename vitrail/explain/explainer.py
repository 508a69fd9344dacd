"""A classifier as it is asked why: its explanations name its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.data.images.packing import unpacked
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.rgb import Pixels
from vitrail.device import sent
from vitrail.explain.explanation import Explanation
from vitrail.explain.image_input import Picture, class_index, explain_image, explain_input
from vitrail.explain.methods.maps import Array, Request
from vitrail.models.create import Model
from vitrail.prediction import Scores, best_of, probabilities_of

TOP = 5  # classes that an explanation names


@dataclass(frozen=True)
class Explainer:
    """The arguments as for a `Classifier`; what is asked has no `target` and no `scores` yet."""

    model: Model
    preprocess: Preprocess
    classes: Sequence[str]
    temperature: float
    scores: Scores

    def picture(
        self, picture: Picture, asked: Request, target: str | int | None = None
    ) -> Explanation:
        """Of an image as `pixels_of` takes them; target: a class by name or index."""
        request = self._request(asked, target)
        return self._named(*explain_image(self.model, self.preprocess, picture, request))

    def prepared(
        self,
        image: NDArray[np.float32],
        pixels: Pixels,
        asked: Request,
        target: str | int | None = None,
    ) -> Explanation:
        """Of an image that is prepared, (C, H, W) or packed; pixels: the same image as uint8
        (H, W, 1 or 3) of any size, which the map is placed on.
        """
        request, like = self._request(asked, target), next(self.model.parameters())
        if image.ndim == 2 and self.preprocess.patch_size is not None:
            image = unpacked(image, self.preprocess.patch_size)
        shown = sent(torch.from_numpy(image)[None].to(like.dtype), like.device)
        return self._named(*explain_input(self.model, self.preprocess, shown, pixels, request))

    def _request(self, asked: Request, target: str | int | None) -> Request:
        return replace(asked, target=class_index(self.classes, target), scores=self.scores)

    def _named(self, found: Explanation, logits: Array) -> Explanation:
        """An explanation with the names of its classes. logits: (K,)."""
        if not len(logits):
            return found
        p = probabilities_of(torch.from_numpy(logits)[None], self.temperature, self.scores)[0]
        top = tuple((one.label, one.score) for one in best_of(p, self.classes, TOP))
        name = str(found.target) if not self.classes else self.classes[found.target or 0]
        return replace(found, top=top, label="" if found.target is None else name)
