"""A DINOv2 backbone and the linear head that is published beside it, as one file."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vitrail.checkpoints.formats.open_tensors import OpenTensors
from vitrail.checkpoints.mapping.scratch import Memory


class Joined:
    """The tensors of both, under the names of torch.hub's classifiers."""

    def __init__(self, body: OpenTensors, head: OpenTensors) -> None:
        self.body, self.head = body, head
        self.places = {f"backbone.{name}": (body, name) for name in body.header.shapes}
        self.places |= {f"linear_head.{name}": (head, name) for name in head.header.shapes}
        shapes = {key: part.header.shapes[name] for key, (part, name) in self.places.items()}
        dtypes = {key: part.header.dtypes[name] for key, (part, name) in self.places.items()}
        self.header = replace(body.header, shapes=shapes, dtypes=dtypes)

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file."""
        part, own = self.places[name]
        return part.read(own, memory)

    def close(self) -> None:
        """Closes both."""
        self.body.close()
        self.head.close()
